// Every instruction that uses the stack, with all combinations of code segment, operand size and stack size:
// what it leaves in ESP, EBP and memory is that of the operations in SDM vol. 2. A 16-bit stack (SS.B = 0)
// moves SP and leaves the upper half of ESP alone, whatever the operand size.
#include "runtime.h"

enum { STACK_BYTES = 0x20000, TOP = 0x8000, UPPER = 0x10000 };
enum { EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI };
enum {
  USER_STACK16 = FREE_SELECTOR | 3,
  USER_STACK32 = (FREE_SELECTOR + 8) | 3,
  USER_CODE32 = (FREE_SELECTOR + 16) | 3,
  USER_CODE16 = (FREE_SELECTOR + 24) | 3,
  GATE_CODE = FREE_SELECTOR + 32,
  GATE = (FREE_SELECTOR + 40) | 3,
  KERNEL_STACK16 = FREE_SELECTOR + 48,
};

static u8 stack[STACK_BYTES] __attribute__((aligned(4096))), expected[STACK_BYTES];
static u8 code[64];
static u32 cell, expected_cell;
static struct Context c;
static int code_bytes, operand_bytes, stack_bytes;  // 2 or 4 each
// Where `code` and `stack` begin in their segments, as 32-bit offsets see them: flat ones are done inline.
static int flat;
static u32 code_origin, stack_origin;
static int op_end;  // offset in `code` behind the instruction

// --- the model

static u32 r[8];

static void set_register(int i, u32 value, int bytes) {
  r[i] = bytes == 2 ? (r[i] & 0xffff0000) | (value & 0xffff) : value;
}
static u8* at(u32 offset) { return expected + (stack_bytes == 2 ? offset & 0xffff : offset - stack_origin); }
static void model_push(u32 value) {
  set_register(ESP, r[ESP] - operand_bytes, stack_bytes);
  memcpy(at(r[ESP]), &value, operand_bytes);
}
static u32 model_pop(void) {
  u32 value = 0;
  memcpy(&value, at(r[ESP]), operand_bytes);
  set_register(ESP, r[ESP] + operand_bytes, stack_bytes);
  return value;
}
// [ESP + disp] with 32-bit addressing; both segments reach beyond 64 KiB.
static u8* at_esp(u32 disp) { return expected + r[ESP] + disp - (stack_bytes == 4 ? stack_origin : 0); }

static void model_enter(u32 locals, int level) {
  model_push(r[EBP]);
  const u32 frame = r[ESP];
  u32 display = r[EBP];
  for (int i = 1; i < level; i++) {
    display -= operand_bytes;
    u32 value = 0;
    memcpy(&value, at(display), operand_bytes);
    model_push(value);
  }
  if (level) model_push(frame);
  set_register(EBP, frame, operand_bytes);
  set_register(ESP, r[ESP] - locals, stack_bytes);
}

// --- the instructions

enum Kind {
  PUSH_EAX,
  PUSH_ESP,
  PUSH_IMM8,
  PUSH_IMM,
  PUSH_CELL,
  PUSH_OFF_ESP,
  PUSH_DS,
  PUSH_FS,
  PUSHA,
  PUSHF,
  POP_ECX,
  POP_ESP,
  POP_CELL,
  POP_OFF_ESP,
  POP_ES,
  POP_FS,
  POPA,
  POPF,
  ENTER_0,
  ENTER_1,
  ENTER_4,
  ENTER_WRAPS,
  LEAVE,
  CALL,
  CALL_EAX,
  CALL_FAR,
  RET,
  RET_IMM,
  RET_FAR,
  RET_FAR_IMM,
  IRET,
  KINDS
};
static const char* const names[KINDS] = {
    "push eax", "push esp", "push imm8", "push imm",  "push [cell]", "push [esp+4]",  "push ds", "push fs",
    "pusha",    "pushf",    "pop ecx",   "pop esp",   "pop [cell]",  "pop [esp+8]",   "pop es",  "pop fs",
    "popa",     "popf",     "enter 8,0", "enter 8,1", "enter 8,4",   "enter 9000h,0", "leave",   "call",
    "call eax", "call far", "ret",       "ret 6",     "retf",        "retf 6",        "iret"};

static u8* out;
static void b(int byte) { *out++ = byte; }
static void immediate(u32 value, int bytes) {
  memcpy(out, &value, bytes);
  out += bytes;
}
static void opcode(int byte) {
  if (operand_bytes != code_bytes) b(0x66);
  b(byte);
}
static void opcode_address32(int byte) {
  if (code_bytes == 2) b(0x67);
  opcode(byte);
}
static void put_on_stack(u32 value, int index) {
  memcpy(stack + TOP + index * operand_bytes, &value, operand_bytes);
}
static u16 code_selector(void) { return flat ? UCODE : code_bytes == 2 ? USER_CODE16 : USER_CODE32; }

static void emit(enum Kind kind) {
  out = code;
  if (code_bytes == 2) b(0x66);
  b(0x89), b(0xfc);  // mov esp, edi: IRET to a 16-bit stack has loaded SP alone
  u8* const start = out;
  switch (kind) {
    case PUSH_EAX:
      opcode(0x50);
      break;
    case PUSH_ESP:
      opcode(0x54);
      break;
    case PUSH_IMM8:
      opcode(0x6a), b(0xfe);
      break;
    case PUSH_IMM:
      opcode(0x68), immediate(0x81828384, operand_bytes);
      break;
    case PUSH_CELL:
      opcode_address32(0xff), b(0x35), immediate((u32)&cell, 4);
      break;
    case PUSH_OFF_ESP:
      opcode_address32(0xff), b(0x74), b(0x24), b(4);
      break;
    case PUSH_DS:
      opcode(0x1e);
      break;
    case PUSH_FS:
      opcode(0x0f), b(0xa0);
      break;
    case PUSHA:
      opcode(0x60);
      break;
    case PUSHF:
      opcode(0x9c);
      break;
    case POP_ECX:
      opcode(0x59);
      break;
    case POP_ESP:
      opcode(0x5c);
      break;
    case POP_CELL:
      opcode_address32(0x8f), b(0x05), immediate((u32)&cell, 4);
      break;
    case POP_OFF_ESP:
      opcode_address32(0x8f), b(0x44), b(0x24), b(8);
      break;
    case POP_ES:
      put_on_stack(UDATA, 0), opcode(0x07);
      break;
    case POP_FS:
      put_on_stack(UDATA, 0), opcode(0x0f), b(0xa1);
      break;
    case POPA:
      opcode(0x61);
      break;
    case POPF:
      put_on_stack(0x8d7 & ~FL_TF, 0), opcode(0x9d);
      break;
    case ENTER_0:
      opcode(0xc8), b(8), b(0), b(0);
      break;
    case ENTER_1:
      opcode(0xc8), b(8), b(0), b(1);
      break;
    case ENTER_4:
      opcode(0xc8), b(8), b(0), b(4);
      break;
    case ENTER_WRAPS:
      opcode(0xc8), b(0), b(0x90), b(0);
      break;
    case LEAVE:
      opcode(0xc9);
      break;
    // Targets are one byte behind the instruction's end.
    case CALL:
      opcode(0xe8), immediate(1, operand_bytes);
      break;
    case CALL_EAX:
      opcode(0xff), b(0xd0);
      break;
    case CALL_FAR: {
      const int length = (operand_bytes != code_bytes) + 1 + operand_bytes + 2;
      opcode(0x9a), immediate(code_origin + (start + length + 1 - code), operand_bytes),
          immediate(code_selector(), 2);
      break;
    }
    case RET:
      opcode(0xc3);
      break;
    case RET_IMM:
      opcode(0xc2), b(6), b(0);
      break;
    case RET_FAR:
      opcode(0xcb);
      break;
    case RET_FAR_IMM:
      opcode(0xca), b(6), b(0);
      break;
    case IRET:
      opcode(0xcf);
      break;
    default:
      break;
  }
  op_end = code_origin + (out - code);
  if (kind == RET || kind == RET_IMM || kind == RET_FAR || kind == RET_FAR_IMM || kind == IRET) {
    put_on_stack(op_end + 1, 0);
    put_on_stack(code_selector(), 1);
    if (kind == IRET) put_on_stack(2, 2);
  }
  b(0xcc), b(0xcc);
}

// Applies the instruction to the model; the offset where execution goes on.
static u32 model(enum Kind kind) {
  u32 value = 0;
  switch (kind) {
    case PUSH_EAX:
      model_push(r[EAX]);
      break;
    case PUSH_ESP:
      model_push(r[ESP]);
      break;
    case PUSH_IMM8:
      model_push(-2);
      break;
    case PUSH_IMM:
      model_push(0x81828384);
      break;
    case PUSH_CELL:
      model_push(cell);
      break;
    case PUSH_OFF_ESP:
      memcpy(&value, at_esp(4), operand_bytes), model_push(value);
      break;
    case PUSH_DS:
    case PUSH_FS:
      model_push(UDATA);
      break;
    case PUSHA: {
      const u32 before = r[ESP];
      for (int i = 0; i < 8; i++) model_push(i == ESP ? before : r[i]);
      break;
    }
    case PUSHF:
      model_push(2);
      break;
    case POP_ECX:
      value = model_pop(), set_register(ECX, value, operand_bytes);
      break;
    case POP_ESP:
      value = model_pop(), set_register(ESP, value, operand_bytes);
      break;
    case POP_CELL:
      value = model_pop(), memcpy(&expected_cell, &value, operand_bytes);
      break;
    case POP_OFF_ESP:
      value = model_pop(), memcpy(at_esp(8), &value, operand_bytes);
      break;
    case POP_ES:
    case POP_FS:
    case POPF:
      model_pop();
      break;
    case POPA:
      for (int i = 8; i-- > 0;) {
        value = model_pop();
        if (i != ESP) set_register(i, value, operand_bytes);
      }
      break;
    case ENTER_0:
      model_enter(8, 0);
      break;
    case ENTER_1:
      model_enter(8, 1);
      break;
    case ENTER_4:
      model_enter(8, 4);
      break;
    case ENTER_WRAPS:
      model_enter(0x9000, 0);
      break;
    case LEAVE:
      set_register(ESP, r[EBP], stack_bytes);
      value = model_pop(), set_register(EBP, value, operand_bytes);
      break;
    case CALL_FAR:
      model_push(code_selector());
      model_push(op_end);
      return op_end + 1;
    case CALL:
    case CALL_EAX:
      model_push(op_end);
      return op_end + 1;
    case RET:
      return model_pop();
    case RET_IMM:
      value = model_pop(), set_register(ESP, r[ESP] + 6, stack_bytes);
      return value;
    case RET_FAR:
      value = model_pop(), model_pop();
      return value;
    case RET_FAR_IMM:
      value = model_pop(), model_pop();
      set_register(ESP, r[ESP] + 6, stack_bytes);
      return value;
    case IRET:
      value = model_pop(), model_pop(), model_pop();
      return value;
    default:
      break;
  }
  return op_end;
}

static void check(enum Kind kind, const char* what, u32 is, u32 should) {
  if (is == should) return;
  put_string(names[kind]);
  put_string(" code ");
  put_decimal(code_bytes * 8);
  put_string(" operand ");
  put_decimal(operand_bytes * 8);
  put_string(" stack ");
  put_decimal(stack_bytes * 8);
  put_string("\n");
  expect_equal(is, should, what, __FILE__, __LINE__);
}

// 16-bit branches lead below 64 KiB.
static int branches(enum Kind kind) { return kind >= CALL; }

static void try_instruction(enum Kind kind) {
  for (u32 i = 0; i < STACK_BYTES; i += 4) *(u32*)(stack + i) = 0x5a010203 + i * 0x10001;
  cell = expected_cell = 0xcecdcccb;
  emit(kind);
  memcpy(expected, stack, STACK_BYTES);
  const u32 registers[8] = {0xa1a2a3a4,         0xc1c2c3c4,
                            0xd1d2d3d4,         0xb1b2b3b4,
                            stack_origin + TOP, (stack_bytes == 2 ? 0x56780000 : stack_origin) + TOP + 0x40,
                            0xe1e2e3e4,         stack_origin + TOP};
  memcpy(r, registers, sizeof r);
  if (kind == CALL_EAX) r[EAX] = (operand_bytes == 2 ? 0xa1a20000 : 0) | (op_end + 1);
  c = (struct Context){.di = r[EDI],
                       .si = r[ESI],
                       .bp = r[EBP],
                       .bx = r[EBX],
                       .dx = r[EDX],
                       .cx = r[ECX],
                       .ax = r[EAX],
                       .ip = code_origin,
                       .cs = code_selector(),
                       .flags = 2,
                       .sp = stack_origin + TOP,
                       .ss = flat               ? UDATA
                             : stack_bytes == 2 ? USER_STACK16
                                                : USER_STACK32,
                       .ds = UDATA};
  const int vector = run(&c);
  const u32 next = model(kind);
  check(kind, "vector", vector, BP);
  check(kind, "EIP", c.ip, next + 1);
  check(kind, "ESP", c.sp, r[ESP]);
  check(kind, "EBP", c.bp, r[EBP]);
  check(kind, "EAX", c.ax, r[EAX]);
  check(kind, "ECX", c.cx, r[ECX]);
  check(kind, "EDX", c.dx, r[EDX]);
  check(kind, "EBX", c.bx, r[EBX]);
  check(kind, "ESI", c.si, r[ESI]);
  check(kind, "EDI", c.di, r[EDI]);
  check(kind, "cell", cell, expected_cell);
  for (u32 i = 0; i < STACK_BYTES; i += 4) {
    if (*(u32*)(stack + i) == *(u32*)(expected + i)) continue;
    check(kind, "the first word that differs on the stack, at", i, 0);
    check(kind, "it", *(u32*)(stack + i), *(u32*)(expected + i));
    break;
  }
}

// --- frames on a 16-bit kernel stack: through a call gate, and as an interrupt

// They leave their ESP in EAX, and give the task its ordinary kernel stack again, with ESP0 from ECX.
#define KERNEL_PIECE(name, leave) CODE(name, "mov %esp, %eax; mov %ecx, tss + 4; movl $0x10, tss + 8; " leave)
KERNEL_PIECE(gate_body32, "lret $8");
KERNEL_PIECE(gate_body16, ".byte 0x66; lret $4");
KERNEL_PIECE(interrupt_body32, "iret");
KERNEL_PIECE(interrupt_body16, ".byte 0x66; iret");

static u64 descriptor(u32 base, u32 limit, u32 access, u32 flags) {
  return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)access << 40 | (u64)(limit >> 16 & 15) << 48 |
         (u64)flags << 52 | (u64)(base >> 24) << 56;
}

static u32 on_stack(u32 offset, int bytes) {
  u32 value = 0;
  memcpy(&value, stack + offset, bytes);
  return value;
}

enum { CALLER_SP = 0x4000, CALLER_UPPER = 0x10000, KERNEL_UPPER = 0x70000 };

// Enters `body` at level 0 and comes back; through the call gate, or as interrupt 81h.
static void run_frame(void* body, int bytes, int interrupt) {
  static struct {
    u32 offset;
    u16 selector;
  } __attribute__((packed)) gate = {0, GATE};
  for (u32 i = 0; i < STACK_BYTES; i += 2) *(u16*)(stack + i) = 0x5a00 + i;
  gdt[GATE_CODE / 8] = descriptor((u32)body, 0xffff, 0x9b, 4);
  gdt[GATE / 8] =
      (u64)GATE_CODE << 16 | 2ull << 32 | (bytes == 4 ? 0xecull : 0xe4ull) << 40;  // two parameters
  set_gate(0x81, 0, GATE_CODE, bytes == 4 ? 14 : 6, 3, 0);
  out = code;
  b(0x89), b(0xfc);  // mov esp, edi
  if (interrupt)
    b(0xcd), b(0x81);
  else
    b(0xff), b(0x1e);  // call far [esi]
  b(0xcc);
  c = (struct Context){.di = CALLER_UPPER + CALLER_SP,
                       .si = (word)&gate,
                       .cx = tss.esp0,
                       .cs = USER_CODE32,
                       .flags = 2,
                       .sp = CALLER_SP,
                       .ss = USER_STACK16,
                       .ds = UDATA};
  tss.ss0 = KERNEL_STACK16;
  tss.esp0 = KERNEL_UPPER + TOP;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.ip, 5);
}

static void test_frames(int bytes) {
  const u32 caller_sp = bytes == 4 ? CALLER_UPPER + CALLER_SP : CALLER_SP;
  run_frame(bytes == 4 ? gate_body32 : gate_body16, bytes, 0);
  EXPECT_HW_EQ(c.ax, KERNEL_UPPER + TOP - 6 * bytes);  // QEMU leaves the upper half as it was
  EXPECT_EQ(on_stack(TOP - bytes, bytes), USER_STACK16);
  EXPECT_EQ(on_stack(TOP - 2 * bytes, bytes), caller_sp);
  EXPECT_EQ(on_stack(TOP - 3 * bytes, bytes), on_stack(CALLER_SP + bytes, bytes));
  EXPECT_EQ(on_stack(TOP - 4 * bytes, bytes), on_stack(CALLER_SP, bytes));
  EXPECT_EQ(on_stack(TOP - 5 * bytes, bytes), USER_CODE32);
  EXPECT_EQ(on_stack(TOP - 6 * bytes, bytes), 4);
  EXPECT_HW_EQ(c.sp, KERNEL_UPPER + CALLER_SP + 2 * bytes);  // a 16-bit stack takes SP alone back

  run_frame(bytes == 4 ? interrupt_body32 : interrupt_body16, bytes, 1);
  EXPECT_HW_EQ(c.ax, KERNEL_UPPER + TOP - 5 * bytes);
  EXPECT_EQ(on_stack(TOP - bytes, bytes), USER_STACK16);
  EXPECT_EQ(on_stack(TOP - 2 * bytes, bytes), caller_sp);
  EXPECT_EQ(on_stack(TOP - 3 * bytes, bytes), 2);
  EXPECT_EQ(on_stack(TOP - 4 * bytes, bytes), USER_CODE32);
  EXPECT_EQ(on_stack(TOP - 5 * bytes, bytes), 4);
  EXPECT_HW_EQ(c.sp, KERNEL_UPPER + CALLER_SP);
}

int main(void) {
  gdt[USER_STACK16 / 8] = descriptor((u32)stack, 0xfffff, 0xf3, 8);
  gdt[USER_STACK32 / 8] = descriptor((u32)stack - UPPER, 0xfffff, 0xf3, 0xc);
  gdt[USER_CODE32 / 8] = descriptor((u32)code, 0xffff, 0xfb, 4);
  gdt[USER_CODE16 / 8] = descriptor((u32)code, 0xffff, 0xfb, 0);
  gdt[KERNEL_STACK16 / 8] = descriptor((u32)stack, 0xffff, 0x93, 0);
  asm volatile("mov %0, %%fs" ::"r"(UDATA));
  SUBJECT("instructions");
  stack_origin = UPPER;
  for (code_bytes = 2; code_bytes <= 4; code_bytes += 2)
    for (operand_bytes = 2; operand_bytes <= 4; operand_bytes += 2)
      for (stack_bytes = 2; stack_bytes <= 4; stack_bytes += 2)
        for (enum Kind kind = 0; kind < KINDS; kind++) try_instruction(kind);
  SUBJECT("instructions in flat segments");
  flat = 1;
  code_bytes = stack_bytes = 4;
  code_origin = (word)code;
  stack_origin = (word)stack;
  for (operand_bytes = 2; operand_bytes <= 4; operand_bytes += 2)
    for (enum Kind kind = 0; kind < KINDS; kind++)
      if (operand_bytes == 4 || !branches(kind)) try_instruction(kind);
  SUBJECT("frames on a 16-bit kernel stack");
  test_frames(4);
  test_frames(2);
  return 0;
}
