#include "query/write_symbols.h"

namespace deja {

Status name_writes(Navigator& nav, GuestSymbols& symbols, std::vector<Write>* writes) {
  const bool kernel_moved = symbols.kernel_moved(nav.machine());
  for (Write& w : *writes) {
    if (!w.vcpu) continue;
    // The address space that wrote shows which program it is, and the moment where the kernel ran.
    if (w.cpl == 3 ? !symbols.files().empty() : kernel_moved) DEJA_TRY(nav.seek(w.before));
    w.symbol = symbols.name_of(GuestView::of_vcpu(nav.machine(), *w.vcpu), w.rip);
  }
  return {};
}

}  // namespace deja
