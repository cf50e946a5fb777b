#include "execute/thunks.h"

#include <cstddef>

#include "execute/quick_ops.h"

namespace deja {
namespace {

constexpr unsigned kCalleeSaved[] = {HRBX, HRBP, HR12, HR13, HR14, HR15};

struct Gen {
  Emitter& e;
  u64 ctx;

  u64 at(std::size_t offset) const { return ctx + offset; }
  u64 gpr(unsigned g) const { return ctx + offsetof(CpuState, gpr) + 8 * g; }
  u64 ymm(unsigned r) const { return ctx + offsetof(CpuState, fpu) + offsetof(FpuState, ymm) + 32 * r; }

  void push(unsigned r) {
    if (r >= 8) e.b(0x41);
    e.b(static_cast<u8>(0x50 | (r & 7)));
  }
  void pop(unsigned r) {
    if (r >= 8) e.b(0x41);
    e.b(static_cast<u8>(0x58 | (r & 7)));
  }
  // vmovdqu between ymm r and memory; opcode 6f loads, 7f stores. Of xmm r, the upper half becomes 0.
  void vmov(u8 opcode, unsigned r, bool lower_half = false) {
    e.b(0xc5, static_cast<u8>((r < 8 ? 0x80 : 0) | (lower_half ? 0x7a : 0x7e)), opcode);
    e.rip(r, ymm(r));
  }

  void save_general() {
    e.mov_store(gpr(RAX), HRAX);
    e.b(0x9f);                                                          // lahf
    e.b(0x0f, 0x90, 0xc0);                                              // seto al
    e.b(0x66, 0x89), e.rip(HRAX, at(offsetof(ExecContext, flags_ax)));  // mov [flags_ax], ax
    e.mov_store(gpr(RCX), HR8);
    for (const unsigned r : {HRDX, HRBX, HRSP, HRBP, HRSI, HRDI, HR12, HR13, HR14, HR15})
      e.mov_store(gpr(r), r);
    e.mov_store(at(offsetof(ExecContext, counter)), HR11);
    e.mov_load(HRSP, at(offsetof(ExecContext, host_rsp)));
  }

  void compare_byte(std::size_t field, u8 value) {  // cmp byte [field], value
    e.b(0x80), e.rip(7, at(field), 1), e.b(value);
  }
  void store_byte(std::size_t field, u8 value) {  // mov byte [field], value
    e.b(0xc6), e.rip(0, at(field), 1), e.b(value);
  }
  // A short jump spans 127 bytes; sixteen moves are longer.
  u8* jcc_far(unsigned condition) { return e.b(0x0f, static_cast<u8>(0x80 | condition)), e.d(0), e.p; }
  u8* jmp_far() { return e.b(0xe9), e.d(0), e.p; }
  void land_far(u8* after) {
    const u32 displacement = static_cast<u32>(e.p - after);
    std::memcpy(after - 4, &displacement, 4);
  }

  // Changes EFLAGS.
  void save_vectors() {
    compare_byte(offsetof(ExecContext, vectors_away), 0);
    u8* const away = jcc_far(5);
    for (unsigned r = 0; r < 16; ++r) vmov(0x7f, r);
    e.b(0xc5, 0xf8, 0x77);  // vzeroupper
    store_byte(offsetof(ExecContext, vectors_away), 1);
    land_far(away);
  }
  // Changes rcx, and no flags. A host CPU knows of upper halves that are 0 only if they have not been loaded:
  // SSE instructions, which keep them, then do not wait for what the register held before.
  void load_vectors() {
    e.b(0xc5, 0xfa, 0x6f), e.rip(0, ymm(0) + 16);  // vmovdqu xmm0, [upper half of ymm0]
    for (unsigned r = 1; r < 16; ++r) e.b(0xc5, 0xf9, 0xeb), e.rip(0, ymm(r) + 16);  // vpor xmm0, xmm0, […]
    e.b(0xc5, 0xf9, 0x63, 0xc0);             // vpacksswb xmm0, xmm0, xmm0: no nonzero word becomes 0
    e.b(0xc4, 0xe1, 0xf9), e.b(0x7e, 0xc1);  // vmovq rcx, xmm0
    u8* const zero = e.jrcxz();
    const auto load = [&](bool lower_half) {
      for (unsigned r = 0; r < 16; ++r) vmov(0x6f, r, lower_half);
    };
    u8* const wide = jmp_far();
    e.land(zero);
    load(true);
    u8* const loaded = jmp_far();
    land_far(wide);
    load(false);
    land_far(loaded);
    store_byte(offsetof(ExecContext, vectors_away), 0);
  }

  void restore_guest_and_go() {
    compare_byte(offsetof(ExecContext, vectors_wanted), 0);
    u8* const unwanted = jcc_far(4);
    compare_byte(offsetof(ExecContext, vectors_away), 0);
    u8* const there = jcc_far(4);
    load_vectors();
    land_far(unwanted);
    land_far(there);
    e.mov_load(HR11, at(offsetof(ExecContext, counter)));
    e.mov_load(HRCX, at(offsetof(ExecContext, poison)));
    e.mov_load(HR9, at(offsetof(ExecContext, r9)));
    e.mov_load(HR10, at(offsetof(ExecContext, r10)));
    e.b(0x0f, 0xb7), e.rip(HRAX, at(offsetof(ExecContext, flags_ax)));  // movzx eax, word [flags_ax]
    e.b(0x04, 0x7f);                                                    // add al, 7fh: OF = al
    e.b(0x9e);                                                          // sahf
    e.mov_load(HR8, gpr(RCX));
    for (const unsigned r : {HRAX, HRDX, HRBX, HRSP, HRBP, HRSI, HRDI, HR12, HR13, HR14, HR15})
      e.mov_load(r, gpr(r));
    e.jmp_mem(at(offsetof(ExecContext, resume)));
  }

  // edi, esi: the context and a number.
  void call(Handler handler, unsigned number) {
    e.mov_imm(HRDI, static_cast<i64>(ctx));
    e.mov32(HRSI, number);
    e.mov_imm(HRAX, reinterpret_cast<i64>(handler));
    e.b(0xff, 0xd0);  // call rax
  }
};

// Entry and exit, and the calls out of line between them.
struct Thunk {
  Gen g;
  Emitter& e;
  u64 go = 0;           // goes on at rax
  u64 leave_frame = 0;  // takes down what enter() has built

  Thunk(Emitter& emitter, u64 context) : g{emitter, context}, e(emitter) {}

  void (*emit_enter())(u64) {
    // Leave: undo enter().
    const u64 leave = e.here();
    e.b(0xfc);  // cld
    for (unsigned i = 6; i-- > 0;) g.pop(kCalleeSaved[i]);
    e.b(0xc3);

    go = e.here();
    e.mov_store(g.at(offsetof(ExecContext, resume)), HRAX);
    g.restore_guest_and_go();

    const u64 enter = e.here();
    for (const unsigned r : kCalleeSaved) g.push(r);
    // Return address and six registers take 56 bytes; 8 more keep calls out of translated code aligned to 16.
    e.mov(HRAX, HRDI);
    e.b(0x48, 0x83, 0xec), e.b(8);  // sub rsp, 8
    e.mov_store(g.at(offsetof(ExecContext, host_rsp)), HRSP);
    e.jmp(go);

    leave_frame = e.here();
    e.b(0x48, 0x83, 0xc4), e.b(8);  // add rsp, 8
    e.jmp(leave);
    return reinterpret_cast<void (*)(u64)>(enter);
  }

  void go_on() {            // rax: where, or 0
    e.b(0x48, 0x85, 0xc0);  // test rax, rax
    e.jcc(4, leave_frame);
    e.jmp(go);
  }
  // On entry ecx = site, r9 = argument.
  u64 call_out(Handler handler) {
    const u64 start = e.here();
    g.save_general();
    g.save_vectors();
    e.mov(HRDX, HR9);
    g.call(handler, HRCX);
    go_on();
    return start;
  }
  u64 call_quick_first(Handler quick, Handler handler) {
    const u64 start = e.here();
    g.save_general();
    e.mov32(HRBX, HRCX);
    e.mov(HRBP, HR9);
    e.mov(HRDX, HR9);
    g.call(quick, HRBX);
    static_assert(kQuickDeclined == 0);
    e.b(0x48, 0x85, 0xc0);  // test rax, rax
    e.jcc(5, go);
    g.save_vectors();
    e.mov(HRDX, HRBP);
    g.call(handler, HRBX);
    go_on();
    return start;
  }
  // The quick way of a helper: three ways on, by what it returns.
  u64 call_helper_quick_first(const Handlers& h) {
    const u64 start = e.here();
    g.save_general();
    e.mov32(HRBX, HRCX);
    g.call(h.quick, HRBX);
    e.b(0x48, 0x83, 0xf8), e.b(kQuickDispatch);  // cmp rax, kQuickDispatch
    e.jcc(7, go);                                // above
    u8* const declined = g.jcc_far(2);           // below
    const auto ordinary = [&](Handler handler) {
      g.save_vectors();
      g.call(handler, HRBX);
      go_on();
    };
    static_assert(kQuickDeclined < kQuickDispatch);
    ordinary(h.quick_done);
    g.land_far(declined);
    ordinary(h.helper);
    return start;
  }
  // A far link that leads through the jump cache.
  u64 far_jump(View view, u64 far_link) {
    const u64 start = e.here();
    e.mov_store(g.at(offsetof(ExecContext, scratch)), HRCX);
    u8* const hit = emit_jump_lookup(e, view);
    e.mov_load(HRCX, g.at(offsetof(ExecContext, scratch)));
    e.jmp(far_link);
    e.land(hit);
    emit_jump_hit(e, view);
    return start;
  }
  // rcx = where to go on. EFLAGS stay.
  u64 load_vectors() {
    const u64 start = e.here();
    e.mov_store(g.at(offsetof(ExecContext, resume)), HRCX);
    g.load_vectors();
    e.jmp_mem(g.at(offsetof(ExecContext, resume)));
    return start;
  }
};

}  // namespace

Thunks emit_thunks(Emitter& e, const CodeTargets& targets, const Handlers& h) {
  Thunks t;
  t.targets = targets;
  Thunk thunk(e, targets.context);
  t.enter = thunk.emit_enter();
  t.targets.mem_slow = thunk.call_quick_first(h.quick_access, h.mem_slow);
  t.targets.mem_commit = thunk.call_quick_first(h.quick_commit, h.mem_commit);
  t.targets.helper = thunk.call_out(h.helper);
  t.targets.link = thunk.call_out(h.link);
  t.targets.far_link = thunk.call_out(h.far_link);
  for (unsigned v = 0; v < kViews; ++v)
    t.targets.far_jump[v] = thunk.far_jump(static_cast<View>(v), t.targets.far_link);
  t.targets.dispatch = thunk.call_out(h.dispatch);
  t.targets.jump_miss = thunk.call_quick_first(h.quick_jump, h.dispatch);
  t.targets.removed = thunk.call_out(h.removed);
  t.targets.expired = thunk.call_out(h.expired);
  t.host_fault = thunk.call_out(h.host_fault);
  t.targets.quick = thunk.call_helper_quick_first(h);
  t.targets.load_vectors = thunk.load_vectors();
  return t;
}

}  // namespace deja
