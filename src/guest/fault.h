// A guest exception on its way to delivery (SDM vol. 3A chapter 6).
#pragma once

#include "base/types.h"

namespace deja {

enum Vector : u8 {
  kDE = 0,
  kDB = 1,
  kNMI = 2,
  kBP = 3,
  kOF = 4,
  kBR = 5,
  kUD = 6,
  kNM = 7,
  kDF = 8,
  kTS = 10,
  kNP = 11,
  kSS = 12,
  kGP = 13,
  kPF = 14,
  kMF = 16,
  kAC = 17,
  kMC = 18,
  kXM = 19,
  kNoVector = 0xff,  // no exception
};

// Thrown by C++ code that executes on behalf of a guest instruction, before that instruction changed any
// guest-visible state. Caught by execute/, which delivers the exception at that instruction.
struct GuestFault {
  u8 vector = 0;
  bool has_error = false;
  u32 error = 0;
  u64 cr2 = 0;  // kPF only: the faulting linear address
  u64 dr6 = 0;  // kDB only: bits to set in DR6
};

inline GuestFault fault_gp(u32 error = 0) { return {kGP, true, error}; }
inline GuestFault fault_ss(u32 error = 0) { return {kSS, true, error}; }
inline GuestFault fault_ts(u32 error) { return {kTS, true, error}; }
inline GuestFault fault_ud() { return {kUD}; }
inline GuestFault fault_nm() { return {kNM}; }
inline GuestFault fault_ac() { return {kAC, true, 0}; }
inline GuestFault fault_pf(u64 address, u32 error) { return {kPF, true, error, address}; }

}  // namespace deja
