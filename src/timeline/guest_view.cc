#include "timeline/guest_view.h"

#include <algorithm>
#include <array>

#include "base/printable.h"

namespace deja {
namespace {

constexpr u64 kPresent = 1, kLarge = 0x80, kAddress = 0x000ffffffffff000;
// Entries of page tables that are looked at: 64 GiB in pages of 4 KiB have as many.
constexpr u64 kMostEntries = u64{1} << 24;

// The pages that four levels of tables map, from the lowest address on.
class PageLister {
 public:
  PageLister(const GuestView& memory, const std::function<bool(Gva, Gpa)>& page)
      : memory_(memory), physical_(GuestView::physical(memory.machine())), page_(page) {}

  // What the entries of a table map, which stands for addresses from `base` on. False: no more.
  bool list(u64 table, unsigned level, u64 base) {
    const u64 size = u64{1} << (kPageShift + 9 * level);
    for (u64 i = 0; i < 512 && base + i * size < kUserEnd; ++i) {
      u64 entry = 0;
      if (++entries_ > kMostEntries) return false;
      if (!physical_.value(table + i * sizeof entry, &entry)) return true;
      if (!(entry & kPresent)) continue;
      const bool is_page = level == 0 || (entry & kLarge);
      if (!(is_page ? give(base + i * size) : list(entry & kAddress, level - 1, base + i * size)))
        return false;
    }
    return true;
  }

 private:
  bool give(u64 linear) {
    const std::optional<Gpa> at = memory_.translate(linear);
    return !at || page_(Gva(linear), *at);
  }

  const GuestView& memory_;
  const GuestView physical_;
  const std::function<bool(Gva, Gpa)>& page_;
  u64 entries_ = 0;
};

}  // namespace

GuestView GuestView::of_vcpu(const Machine& machine, unsigned vcpu) {
  DEJA_CHECK(vcpu < machine.vcpu_count(), "vCPU {} of {}", vcpu, machine.vcpu_count());
  const CpuState& s = machine.cpu(vcpu);
  GuestView view(machine, paging_key(s));
  view.code_ = static_cast<CodeSize>(s.code_size());
  view.stack_big_ = s.seg[SS].big();
  return view;
}

GuestView GuestView::of_space(const Machine& machine, const PagingKey& space) {
  return GuestView(machine, space);
}

GuestView GuestView::physical(const Machine& machine) { return GuestView(machine, std::nullopt); }

GuestView GuestView::with_table(u64 cr3) const {
  DEJA_CHECK(!is_physical(), "physical addresses have no page table, so not {:#x}", cr3);
  GuestView view = *this;
  PagingKey& key = *view.space_;
  key.cr3 = cr3 & kAddress;
  // PAE paging has its four top entries in registers, which MOV CR3 loads (SDM vol. 3A 4.4.1).
  if ((key.bits & PagingKey::kPae) && !(key.bits & PagingKey::kLong)) {
    key.cr3 = 0;
    if (!physical(*machine_).value(cr3 & 0xffffffe0, &key.pdpte))
      std::fill(std::begin(key.pdpte), std::end(key.pdpte), 0);
  }
  return view;
}

std::optional<Gpa> GuestView::translate(u64 address) const {
  const GuestRam& ram = machine_->ram();
  if (is_physical()) return ram.resolve(Gpa(address));
  return peek_translation(ram, *space_, Gva(address));
}

u64 GuestView::read_some(u64 address, void* out, u64 size) const {
  u8* const to = static_cast<u8*>(out);
  u64 done = 0;
  while (done < size) {
    const u64 n = std::min(size - done, kPageSize - Gva(address + done).offset());
    const std::optional<Gpa> at = translate(address + done);
    if (!at || !machine_->ram().read(*at, to + done, n)) break;
    done += n;
  }
  return done;
}

std::optional<std::string> GuestView::text(u64 address, std::size_t most) const {
  std::string bytes(most, '\0');
  const u64 there = read_some(address, bytes.data(), most);
  const std::size_t end = bytes.find('\0');
  if (there < most && end >= there) return std::nullopt;
  return printable(std::string_view(bytes).substr(0, end));
}

GuestInsn GuestView::instruction(u64 address) const {
  u8 bytes[kMaxInsnBytes];
  // Code that has 32 bits for addresses goes on at 0.
  const u64 to_end = code_ == CodeSize::bits64 ? sizeof bytes : (u64{1} << 32) - (address & 0xffffffff);
  const u64 first = std::min<u64>(sizeof bytes, to_end);
  u64 got = read_some(address, bytes, first);
  if (got == first && first < sizeof bytes) got += read_some(0, bytes + first, sizeof bytes - first);
  GuestInsn out;
  if (decode(bytes, got, code_, stack_big_, &out.insn) != DecodeStatus::ok) return out;
  out.ok = true;
  out.text = disassemble(bytes, out.insn.length, code_, address);
  return out;
}

void GuestView::each_user_page(const std::function<bool(Gva, Gpa)>& page) const {
  if (!space_ || !(space_->bits & PagingKey::kLong)) return;
  PageLister(*this, page).list(space_->cr3, 3, 0);
}

}  // namespace deja
