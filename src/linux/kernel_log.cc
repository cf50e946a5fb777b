#include "linux/kernel_log.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/printable.h"

namespace deja {
namespace {

constexpr u32 kMostBits = 26;  // of the sizes of its rings: more than any kernel has
// The state of a descriptor is in the upper two bits of its state_var, its number in the others.
constexpr u64 kIdMask = ~u64{0} >> 2;
constexpr u64 kCommitted = 1, kFinalized = 2;

// Where the parts of the ring buffer are.
struct Layout {
  u32 desc_ring, text_ring;                        // of printk_ringbuffer
  u32 count_bits, descs, infos, head_id, tail_id;  // of prb_desc_ring
  u32 state, position, desc_size;                  // of prb_desc
  u32 begin, next;                                 // of prb_data_blk_lpos
  u32 size_bits, data;                             // of prb_data_ring
  u32 ns, length, level, info_size;                // of printk_info

  static Result<Layout> of(const Btf& types) {
    Layout l{};
    const auto offset = [&](std::string_view structure, std::string_view member, u32* to) -> Status {
      DEJA_ASSIGN(*to, types.offset_of(structure, member));
      return {};
    };
    DEJA_TRY(offset("printk_ringbuffer", "desc_ring", &l.desc_ring));
    DEJA_TRY(offset("printk_ringbuffer", "text_data_ring", &l.text_ring));
    DEJA_TRY(offset("prb_desc_ring", "count_bits", &l.count_bits));
    DEJA_TRY(offset("prb_desc_ring", "descs", &l.descs));
    DEJA_TRY(offset("prb_desc_ring", "infos", &l.infos));
    DEJA_TRY(offset("prb_desc_ring", "head_id", &l.head_id));
    DEJA_TRY(offset("prb_desc_ring", "tail_id", &l.tail_id));
    DEJA_TRY(offset("prb_desc", "state_var", &l.state));
    DEJA_TRY(offset("prb_desc", "text_blk_lpos", &l.position));
    DEJA_TRY(offset("prb_data_blk_lpos", "begin", &l.begin));
    DEJA_TRY(offset("prb_data_blk_lpos", "next", &l.next));
    DEJA_TRY(offset("prb_data_ring", "size_bits", &l.size_bits));
    DEJA_TRY(offset("prb_data_ring", "data", &l.data));
    DEJA_TRY(offset("printk_info", "ts_nsec", &l.ns));
    DEJA_TRY(offset("printk_info", "text_len", &l.length));
    DEJA_TRY(offset("printk_info", "facility", &l.level));
    l.level += 1;  // flags in the low five bits of the byte behind it, the level in the others
    DEJA_ASSIGN(l.desc_size, types.size_of("prb_desc"));
    DEJA_ASSIGN(l.info_size, types.size_of("printk_info"));
    return l;
  }
};

}  // namespace

Result<std::vector<KernelMessage>> read_kernel_log(const GuestKernel& kernel, const Machine& machine) {
  DEJA_ASSIGN(const Layout at, Layout::of(kernel.types()));
  DEJA_ASSIGN(const RunningKernel running, kernel.at_this_moment(machine));
  DEJA_ASSIGN(const u64 variable, running.address_of("prb"));
  const GuestView& guest = running.memory();
  u64 ring = 0, descs = 0, infos = 0, head = 0, tail = 0, data = 0;
  u32 count_bits = 0, size_bits = 0;
  if (!guest.value(variable, &ring) || !guest.value(ring + at.desc_ring + at.count_bits, &count_bits) ||
      !guest.value(ring + at.desc_ring + at.descs, &descs) ||
      !guest.value(ring + at.desc_ring + at.infos, &infos) ||
      !guest.value(ring + at.desc_ring + at.head_id, &head) ||
      !guest.value(ring + at.desc_ring + at.tail_id, &tail) ||
      !guest.value(ring + at.text_ring + at.size_bits, &size_bits) ||
      !guest.value(ring + at.text_ring + at.data, &data) || count_bits > kMostBits || size_bits > kMostBits)
    return make_error("the kernel's ring buffer of messages is not there (yet) at this moment, or damaged");

  std::vector<KernelMessage> messages;
  u64 total = 0;
  const u64 count = u64{1} << count_bits, size = u64{1} << size_bits;
  for (u64 id = tail, seen = 0; seen < count; ++seen, id = (id + 1) & kIdMask) {
    const u64 desc = descs + (id & (count - 1)) * at.desc_size;
    const u64 info = infos + (id & (count - 1)) * at.info_size;
    u64 state = 0, begin = 0, next = 0;
    if (!guest.value(desc + at.state, &state) || !guest.value(desc + at.position + at.begin, &begin) ||
        !guest.value(desc + at.position + at.next, &next))
      break;
    const bool written = (state & kIdMask) == id && (state >> 62 == kCommitted || state >> 62 == kFinalized);
    // Odd positions: a message without text, or one that has lost it.
    if (written && !(begin & 1)) {
      // A block that does not fit behind the others begins again at the start of the ring.
      const u64 from = (begin >> size_bits == (next - 1) >> size_bits ? begin & (size - 1) : 0) + sizeof(u64);
      KernelMessage m;
      u16 length = 0;
      u8 flags_and_level = 0;
      if (guest.value(info + at.ns, &m.ns) && guest.value(info + at.length, &length) &&
          guest.value(info + at.level, &flags_and_level)) {
        m.level = flags_and_level >> 5;
        m.text.resize(std::min<u64>(length, from < size ? size - from : 0));
        // What there is room for in the ring; more is of a guest that lets messages share their text.
        if ((total += sizeof(u64) + m.text.size()) > size) break;
        if (guest.read(data + from, m.text.data(), m.text.size())) messages.push_back(std::move(m));
      }
    }
    if (id == head) break;
  }
  return messages;
}

std::string as_dmesg(const std::vector<KernelMessage>& messages) {
  std::string out;
  for (const KernelMessage& m : messages) {
    const std::string stamp = fmt::format("[{:5}.{:06}] ", m.ns / 1'000'000'000, m.ns / 1000 % 1'000'000);
    for (std::size_t at = 0; at <= m.text.size();) {
      const std::size_t end = std::min(m.text.find('\n', at), m.text.size());
      out += stamp + printable_lines(std::string_view(m.text).substr(at, end - at)) + '\n';
      at = end + 1;
    }
  }
  return out;
}

}  // namespace deja
