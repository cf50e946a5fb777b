// Which function does an instruction that is done in C++.
#include "base/log.h"
#include "semantics/flag_ops.h"
#include "semantics/vcpu.h"

namespace deja {

Helper find_helper(const Insn& insn) {
  for (const auto find : {find_near_helper, find_string_helper, find_system_helper, find_fpu_helper,
                          find_legacy_helper, find_flag_helper})
    if (const Helper helper = find(insn)) return helper;
  log_info("guest", "undefined here: {}", disassemble(insn.bytes, insn.length, insn.code_size, 0));
  return +[](Vcpu&, const Insn&) { throw fault_ud(); };
}

}  // namespace deja
