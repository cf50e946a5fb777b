// The saved form of a vCPU: what checkpoints hold and digests cover.
#pragma once

#include "base/archive.h"
#include "guest/cpu_state.h"

namespace deja {

template <class A>
void serialize(A& a, SegmentRegister& s) {
  a.field(s.base);
  a.field(s.limit);
  a.field(s.selector);
  a.field(s.attr);
}

template <class A>
void serialize(A& a, CpuState& s) {
  a.field(s.gpr);
  a.field(s.rip);
  a.field(s.rflags);
  for (SegmentRegister& r : s.seg) serialize(a, r);
  serialize(a, s.ldtr);
  serialize(a, s.tr);
  for (DescriptorTable* t : {&s.gdtr, &s.idtr}) {
    a.field(t->base);
    a.field(t->limit);
  }
  for (u64* x : {&s.cr0, &s.cr2, &s.cr3, &s.cr4, &s.efer, &s.xcr0}) a.field(*x);
  a.field(s.pdpte);
  a.field(s.dr);
  a.field(s.dr6);
  a.field(s.dr7);
  Msrs& m = s.msr;
  for (u64* x : {&m.apic_base,       &m.pat,          &m.star,           &m.lstar,
                 &m.cstar,           &m.fmask,        &m.kernel_gs_base, &m.sysenter_cs,
                 &m.sysenter_esp,    &m.sysenter_eip, &m.tsc_aux,        &m.tsc_adjust,
                 &m.misc_enable,     &m.spec_ctrl,    &m.mtrr_def_type,  &m.debugctl,
                 &m.feature_control, &m.mcg_status,   &m.mcg_ctl,        &m.microcode_rev})
    a.field(*x);
  a.field(m.mtrr_fixed);
  a.field(m.mtrr_phys);
  for (auto& bank : m.mc_bank) a.field(bank);
  for (auto& st : s.fpu.st) a.field(st);
  a.field(s.fpu.fcw);
  a.field(s.fpu.fsw);
  a.field(s.fpu.ftw);
  a.field(s.fpu.mxcsr);
  for (auto& y : s.fpu.ymm) a.field(y);
  a.field(s.activity);
  for (bool* x : {&s.sti_shadow, &s.mov_ss_shadow, &s.nmi_blocked, &s.nmi_pending}) a.field(*x);
  u8 reserved[3] = {};  // always 0 in what any version has written
  a.field(reserved);
  a.field(s.pending_dbg);
  a.field(s.index);
  a.field(s.pause_run);
}

}  // namespace deja
