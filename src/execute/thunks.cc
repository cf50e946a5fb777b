#include "execute/thunks.h"

#include <cstddef>

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
  // vmovdqu between ymm r and memory; opcode 6f loads, 7f stores.
  void vmov(u8 opcode, unsigned r) {
    e.b(0xc5, static_cast<u8>((r < 8 ? 0x80 : 0) | 0x7e), opcode);
    e.rip(r, ymm(r));
  }

  void save_guest() {
    e.mov_store(gpr(RAX), HRAX);
    e.b(0x9f);              // lahf
    e.b(0x0f, 0x90, 0xc0);  // seto al
    static_assert(offsetof(ExecContext, flag_lahf) == offsetof(ExecContext, flag_of) + 1);
    e.b(0x66, 0x89), e.rip(HRAX, at(offsetof(ExecContext, flag_of)));  // mov [flag_of], ax
    e.mov_store(gpr(RCX), HR8);
    for (const unsigned r : {HRDX, HRBX, HRSP, HRBP, HRSI, HRDI, HR12, HR13, HR14, HR15})
      e.mov_store(gpr(r), r);
    e.mov_store(at(offsetof(ExecContext, counter)), HR11);
    for (unsigned r = 0; r < 16; ++r) vmov(0x7f, r);
    e.b(0xc5, 0xf8, 0x77);  // vzeroupper
    e.mov_load(HRSP, at(offsetof(ExecContext, host_rsp)));
  }

  void restore_guest_and_go() {
    for (unsigned r = 0; r < 16; ++r) vmov(0x6f, r);
    e.mov_load(HR11, at(offsetof(ExecContext, counter)));
    e.mov_load(HRCX, at(offsetof(ExecContext, poison)));
    e.mov_load(HR9, at(offsetof(ExecContext, r9)));
    e.mov_load(HR10, at(offsetof(ExecContext, r10)));
    e.b(0x0f, 0xb7), e.rip(HRAX, at(offsetof(ExecContext, flag_of)));  // movzx eax, word [flag_of]
    e.b(0x04, 0x7f);                                                   // add al, 7fh: OF = flag_of
    e.b(0x9e);                                                         // sahf
    e.mov_load(HR8, gpr(RCX));
    for (const unsigned r : {HRAX, HRDX, HRBX, HRSP, HRBP, HRSI, HRDI, HR12, HR13, HR14, HR15})
      e.mov_load(r, gpr(r));
    e.jmp_mem(at(offsetof(ExecContext, resume)));
  }
};

}  // namespace

Thunks emit_thunks(Emitter& e, ExecContext* context, u64 probe_base, u64 cache_exec, const Handlers& h) {
  Thunks t;
  Gen g{e, reinterpret_cast<u64>(context)};
  t.targets.context = g.ctx;
  t.targets.probe_base = probe_base;
  t.targets.cache_exec = cache_exec;

  // Leave: undo enter().
  const u64 leave = e.here();
  e.b(0xfc);  // cld
  for (unsigned i = 6; i-- > 0;) g.pop(kCalleeSaved[i]);
  e.b(0xc3);

  const u64 go = e.here();  // rax = code
  e.mov_store(g.at(offsetof(ExecContext, resume)), HRAX);
  g.restore_guest_and_go();

  t.enter = reinterpret_cast<void (*)(u64)>(e.here());
  for (const unsigned r : kCalleeSaved) g.push(r);
  // Return address and six registers take 56 bytes; 8 more keep calls out of translated code aligned to 16.
  e.mov(HRAX, HRDI);
  e.b(0x48, 0x83, 0xec), e.b(8);  // sub rsp, 8
  e.mov_store(g.at(offsetof(ExecContext, host_rsp)), HRSP);
  e.jmp(go);

  const u64 leave_frame = e.here();
  e.b(0x48, 0x83, 0xc4), e.b(8);  // add rsp, 8
  e.jmp(leave);

  // On entry ecx = site, r9 = argument.
  const auto call_out = [&](Handler handler) {
    const u64 start = e.here();
    g.save_guest();
    e.mov_imm(HRDI, static_cast<i64>(g.ctx));
    e.mov32(HRSI, HRCX);
    e.mov(HRDX, HR9);
    e.mov_imm(HRAX, reinterpret_cast<i64>(handler));
    e.b(0xff, 0xd0);        // call rax
    e.b(0x48, 0x85, 0xc0);  // test rax, rax
    e.jcc(4, leave_frame);
    e.jmp(go);
    return start;
  };
  t.targets.mem_slow = call_out(h.mem_slow);
  t.targets.mem_commit = call_out(h.mem_commit);
  t.targets.helper = call_out(h.helper);
  t.targets.link = call_out(h.link);
  t.targets.dispatch = call_out(h.dispatch);
  t.expired = call_out(h.expired);
  t.host_fault = call_out(h.host_fault);
  return t;
}

}  // namespace deja
