#include "query/address_space.h"

#include "base/parse_number.h"
#include "linux/recorded_linux.h"

namespace deja {
namespace {

constexpr std::string_view kCr3 = "cr3:";

}  // namespace

Result<GuestView> view_as(Navigator& nav, std::string_view as, u64 address) {
  const Machine& machine = nav.machine();
  if (as == "phys") return GuestView::physical(machine);
  const GuestView running = GuestView::of_vcpu(machine, machine.next_vcpu().value_or(0));
  if (as.empty()) return running;
  if (as == "kernel") {
    if (address < kUserEnd)
      return make_error("--as kernel: {:#x} is in the half of the address space that processes have",
                        address);
    return running;
  }
  if (as.starts_with(kCr3)) {
    if (const auto cr3 = parse_hex<u64>(as.substr(kCr3.size()))) return running.with_table(*cr3);
  }
  const auto pid = parse_number<u32>(as);
  if (!pid)
    return make_error(
        "--as {}: there are PID, kernel, phys, and cr3:HEX for the address space with that page table", as);
  DEJA_ASSIGN(const u64 table, RecordedLinux(nav).address_space_of(*pid));
  return running.with_table(table);
}

}  // namespace deja
