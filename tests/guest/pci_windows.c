// The display's window to video memory, moved, sized and switched off under accesses of every kind: memory
// operands, REP moves and OUTS whose source it is, code that runs in it, page tables that stand in it.
#include "paging.h"

enum { COMMAND = 4, BAR0 = 0x10, BAR2 = 0x18, MEMORY_SPACE = 2, VIDEO_SIZE = 4 << 20, RAM_SIZE = 128 << 20 };
#define VIDEO 0xe1000000ul  // where video memory stands, with or without a window
#define ECAM 0xe0000000ul
static u32 slot;

static u32 config(u32 reg) {
  outl(0xcf8, 1u << 31 | slot << 11 | reg);
  return inl(0xcfc);
}
static void set_config(u32 reg, u32 value) {
  outl(0xcf8, 1u << 31 | slot << 11 | reg);
  outl(0xcfc, value);
}
static void decode(int on) { set_config(COMMAND, on ? MEMORY_SPACE : 0); }
static volatile u32* word_at(u64 address) { return (volatile u32*)address; }
static u32 pattern(u64 address) { return (u32)(address * 0x9e3779b9u >> 7) | 1; }

static u64 seed = 88172645463325252ull;
static u32 draw(u32 below) {
  seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
  return (u32)(seed >> 20) % below;
}

// RAM that the kernel itself does not use, and the pages that a wrong window has hidden.
static const u32 in_ram[] = {0x2000000, 0x20ffffc, 0x23ffffc, 0x4000000, 0x7000000};
static u32 low_ram;  // a word of the first megabytes

static void fill(void) {
  for (u32 i = 0; i < VIDEO_SIZE; i += 0x1ffc) *word_at(VIDEO + i) = pattern(VIDEO + i);
  *word_at(VIDEO + VIDEO_SIZE - 4) = pattern(VIDEO + VIDEO_SIZE - 4);
  for (u32 i = 0; i < sizeof in_ram / sizeof *in_ram; i++) *word_at(in_ram[i]) = pattern(in_ram[i]);
  low_ram = 0x12345678;
}

static int is_decoded(u64 first) {
  return (first >= 0x80000000 && first + VIDEO_SIZE <= 0xe0000000) ||
         (first >= 0xe2000000 && first + VIDEO_SIZE <= 0xfec00000);
}

// 2 to 3 GiB of linear memory shows RAM here, and is no place to look at a window.
static int is_visible(u64 first) { return first >= 0xc0000000; }

static void check_all(u32 first, int on) {
  EXPECT_EQ(*(volatile u32*)&low_ram, 0x12345678);
  for (u32 i = 0; i < sizeof in_ram / sizeof *in_ram; i++) EXPECT_EQ(*word_at(in_ram[i]), pattern(in_ram[i]));
  const u32 offset = draw(VIDEO_SIZE / 0x1ffc) * 0x1ffc;
  EXPECT_EQ(*word_at(VIDEO + offset), pattern(VIDEO + offset));
  if (!on || !is_decoded(first) || !is_visible(first)) return;
  EXPECT_EQ(*word_at(first + offset), pattern(VIDEO + offset));
  EXPECT_EQ(*word_at(first + VIDEO_SIZE - 4), pattern(VIDEO + VIDEO_SIZE - 4));
  *word_at(first + offset) ^= 1;
  EXPECT_EQ(*word_at(VIDEO + offset), pattern(VIDEO + offset) ^ 1);
  *word_at(VIDEO + offset) ^= 1;
}

CODE(in_window, "mov $0x1111, %eax");

static void run_code_in_window(void) {
  SUBJECT("code in the window");
  memcpy((void*)(VIDEO + 0x10000), in_window, 16);
  static const u32 places[] = {0xc0000000, 0xd0000000, 0xc0000000, 0xe2400000};
  for (u32 i = 0; i < 4; i++) {
    set_config(BAR0, places[i]);
    struct Context c = kernel_context((void*)(places[i] + 0x10000ul));
    EXPECT_EQ(run(&c), BP);
    EXPECT_EQ(c.ax, 0x1111 + i);
    *(volatile u8*)(places[i] + 0x10001ul) += 1;  // the next one has another constant
  }
  decode(0);
  struct Context c = kernel_context((void*)(0xe2400000ul + 0x10000));
  EXPECT_EQ(run(&c), GP);  // nothing to fetch there
  decode(1);
}

// The first element moves the window away from under the source: what follows is read from nothing.
static void move_it_under_a_string(void) {
  SUBJECT("strings");
  const u64 first = 0xc0000000;
  for (u32 way = 0; way < 2; way++) {
    set_config(BAR0, first);
    volatile u32* source = word_at(VIDEO + 0x8000);
    source[0] = 0xd0000000, source[1] = 0xd4000000, source[2] = 0xd8000000;
    const void* from = (void*)(first + 0x8000);
    word count = way ? 2 : 3;
    if (way) {
      outl(0xcf8, 1u << 31 | slot << 11 | BAR0);
      asm volatile("rep outsl" : "+S"(from), "+c"(count) : "d"(0xcfc) : "memory");
      EXPECT_EQ(config(BAR0), 0xffc00000);
    } else {
      void* to = (void*)(ECAM + (slot << 15) + BAR0);
      asm volatile("rep movsl" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
      EXPECT_EQ(config(BAR0), 0xd0000000);
      EXPECT_EQ(config(BAR2), 0xfffff000);
      set_config(BAR2, 0xf0000000);
    }
    EXPECT_EQ(count, 0);
    source[0] = pattern((u64)source), source[1] = pattern((u64)source + 4),
    source[2] = pattern((u64)source + 8);
  }
}

static void walk_tables_in_window(void) {
  SUBJECT("page tables in the window");
  const u64 first = 0xc0000000;
  set_config(BAR0, first);
  volatile u64* const table = (volatile u64*)(VIDEO + 0x20000);
  for (int i = 0; i < 512; i++) table[i] = 0;
  table[1] = in_ram[0] | PTE_P | PTE_W;
  *entry(boot_pml4, TEST_VA, 2) = (first + 0x20000) | PTE_P | PTE_W;
  EXPECT_EQ(*word_at(TEST_VA + 4096), pattern(in_ram[0]));
  EXPECT_EQ(table[1] & (PTE_A | PTE_D), PTE_A);
  table[1] = (in_ram[3]) | PTE_P;  // through video memory's own address
  invlpg((void*)(TEST_VA + 4096));
  EXPECT_EQ(*word_at(TEST_VA + 4096), pattern(in_ram[3]));
  ((volatile u64*)(first + 0x20000))[1] = in_ram[4] | PTE_P;  // through the window
  invlpg((void*)(TEST_VA + 4096));
  EXPECT_EQ(*word_at(TEST_VA + 4096), pattern(in_ram[4]));
  decode(0);
  EXPECT_EQ(fault(READ, 0, TEST_VA + 4096), 0);  // a table that is not in memory reads as not present
  decode(1);
  EXPECT_EQ(*word_at(TEST_VA + 4096), pattern(in_ram[4]));
}

int main(void) {
  while (slot < 32 && config(0) != 0x11111234) slot++;
  EXPECT(slot < 32);
  fill();

  SUBJECT("decoding off and on");
  check_all(config(BAR0), 1);
  decode(0);
  check_all(0, 0);
  EXPECT_EQ(*word_at(0x3ffffc), *word_at(0x3ffffc));
  decode(1);
  check_all(config(BAR0), 1);

  SUBJECT("anywhere");
  static const u32 places[] = {0,          0x400000,   0x2000000,  0x7c00000,  0x8000000,  0x80000000,
                               0xc0000000, 0xdfc00000, 0xe0000000, 0xe1000000, 0xe2000000, 0xe2400000,
                               0xfe800000, 0xfec00000, 0xfee00000, 0xffc00000, 0xffffffff};
  int on = 1;
  for (u32 i = 0; i < 2000; i++) {
    if (draw(4) == 0) decode(on = !on);
    set_config(BAR0, draw(4) ? places[draw(sizeof places / sizeof *places)] : draw(0xffffffff));
    check_all(config(BAR0) & ~15u, on);
  }
  decode(1);

  run_code_in_window();
  move_it_under_a_string();
  walk_tables_in_window();
  return 0;
}
