#include "query/vmcore.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>
#include <vector>

#include "base/elf.h"
#include "base/host_limits.h"
#include "sandbox/outside_file.h"
#include "timeline/living_spaces.h"

namespace deja {
namespace {

constexpr std::string_view kFirstLine = "OSRELEASE=";
constexpr u64 kKernelMap = 0xffffffff80000000;  // __START_KERNEL_map of Linux on x86-64
constexpr std::size_t kPieceBytes = 1_MiB;
// Pages that begin like a kernel's description of itself: one for each kernel since the last power-on, and
// copies. More is a guest that wants to be searched for ever.
constexpr std::size_t kMostInfos = 1024;

// struct elf_prstatus of Linux on x86-64.
struct PrStatus {
  i32 signo = 0, code = 0, error = 0;
  u16 cursig = 0, pad0 = 0;
  u64 pending = 0, held = 0;
  i32 pid = 0, ppid = 0, pgrp = 0, sid = 0;
  u64 times[8] = {};
  u64 regs[27] = {};  // struct user_regs_struct
  i32 fpvalid = 0, pad1 = 0;
};
static_assert(sizeof(PrStatus) == 336);

PrStatus prstatus_of(const CpuState& s) {
  const u64* g = s.gpr;
  PrStatus p;
  const u64 regs[27] = {g[R15],
                        g[R14],
                        g[R13],
                        g[R12],
                        g[RBP],
                        g[RBX],
                        g[R11],
                        g[R10],
                        g[R9],
                        g[R8],
                        g[RAX],
                        g[RCX],
                        g[RDX],
                        g[RSI],
                        g[RDI],
                        ~u64{0},  // no system call is being restarted
                        s.rip,
                        s.seg[CS].selector,
                        s.rflags,
                        g[RSP],
                        s.seg[SS].selector,
                        s.seg[FS].base,
                        s.seg[GS].base,
                        s.seg[DS].selector,
                        s.seg[ES].selector,
                        s.seg[FS].selector,
                        s.seg[GS].selector};
  std::copy(std::begin(regs), std::end(regs), p.regs);
  return p;
}

void put_note(std::string& out, std::string_view name, u32 type, std::string_view content) {
  const auto pad = [&] { out.resize((out.size() + 3) / 4 * 4, '\0'); };
  const Elf64_Nhdr header{static_cast<u32>(name.size() + 1), static_cast<u32>(content.size()), type};
  out.append(reinterpret_cast<const char*>(&header), sizeof header);
  out.append(name).push_back('\0');
  pad();
  out.append(content);
  pad();
}

// The text behind `key` up to the end of its line.
std::string_view value_of(std::string_view info, std::string_view key) {
  std::size_t at = info.starts_with(key) ? 0 : info.find("\n" + std::string(key));
  if (at == info.npos) return {};
  if (at) ++at;
  at += key.size();
  return info.substr(at, info.find('\n', at) - at);
}

u64 symbol_in(std::string_view info, std::string_view key) {
  const std::string_view digits = value_of(info, key);
  u64 address = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), address, 16);
  return address;
}

// How far the kernel's image lies from where it was linked to lie; it may be negative.
u64 phys_base_in(std::string_view info) {
  const std::string_view digits = value_of(info, "NUMBER(phys_base)=");
  i64 base = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), base);
  return static_cast<u64>(base);
}

// Whether these page tables map the image of the kernel that has written this: of a kernel that ran before a
// reset or a kexec, and of one that a kdump kernel has taken the place of, everything else may be there
// still.
bool is_mapped(const GuestView& memory, std::string_view info) {
  const u64 text = symbol_in(info, "SYMBOL(_stext)=");
  return text >= kKernelMap &&
         memory.translate(text) == std::optional(Gpa(text - kKernelMap + phys_base_in(info)));
}

// A file of holes and pages, removed unless finished.
class SparseFile {
 public:
  static Result<SparseFile> create(const std::filesystem::path& path) {
    SparseFile file;
    file.path_ = path.string();
    file.fd_ = create_outside_file(file.path_, true);
    if (file.fd_ < 0) {
      const int error = errno;
      std::string name = std::exchange(file.path_, {});
      return make_error("{}: cannot create: {}{}", name, host_error(error),
                        error == EEXIST ? "; remove it, or choose another name" : "");
    }
    return file;
  }
  SparseFile(SparseFile&& o) noexcept : path_(std::exchange(o.path_, {})), fd_(std::exchange(o.fd_, -1)) {}
  ~SparseFile() {
    if (fd_ >= 0) ::close(fd_);
    if (!path_.empty()) remove_outside_file(path_);
  }

  Status write(u64 offset, const void* data, u64 size) {
    const char* p = static_cast<const char*>(data);
    while (size) {
      const ssize_t n = ::pwrite(fd_, p, size, static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return make_error("{}: cannot write: {}", path_, host_error(n ? errno : ENOSPC));
      p += n, offset += static_cast<u64>(n), size -= static_cast<u64>(n);
    }
    return {};
  }
  // `size` bytes of RAM; pages of zeros stay holes.
  Status write_ram(const GuestRam& ram, Gpa from, u64 size, u64 offset) {
    const auto zero = [&](u64 at) { return is_zero_page(ram.host(from + at)); };
    for (u64 at = 0; at < size;) {
      if (zero(at)) {
        at += kPageSize;
        continue;
      }
      u64 end = at + kPageSize;
      while (end < size && end - at < kPieceBytes && !zero(end)) end += kPageSize;
      DEJA_TRY(write(offset + at, ram.host(from + at, end - at), end - at));
      at = end;
    }
    return {};
  }
  Status finish(u64 size) {
    if (::ftruncate(fd_, static_cast<off_t>(size)) != 0)
      return make_error("{}: cannot write: {}", path_, host_error(errno));
    path_.clear();
    return {};
  }

 private:
  SparseFile() = default;
  std::string path_;  // empty: stays
  int fd_ = -1;
};

struct Range {
  Gpa from;
  u64 size;
};
std::vector<Range> ranges_of(const GuestRam& ram) {
  std::vector<Range> out{{Gpa(0), ram.low_size()}};
  if (ram.high_size()) out.push_back({Gpa(kHighRamStart), ram.high_size()});
  return out;
}

// Where the kernel sees memory, as its page tables say: its own image, and all of RAM in a row.
struct KernelView {
  u64 image = 0, image_size = 0;  // linear; no size: not found
  Gpa image_at;
  std::optional<u64> ram;  // linear address of physical address 0
};

KernelView kernel_view(const Machine& machine, std::string_view info) {
  const GuestView physical = GuestView::physical(machine);
  KernelView view;
  const u64 table = symbol_in(info, "SYMBOL(swapper_pg_dir)=");
  const u64 text = symbol_in(info, "SYMBOL(_stext)=");
  const u64 phys_base = phys_base_in(info);
  if (table < kKernelMap || text < kKernelMap) return view;
  const GuestView kernel = GuestView::of_vcpu(machine, 0).with_table(table - kKernelMap + phys_base);
  const auto at = [&](u64 linear) { return kernel.translate(linear); };

  view.image = text & ~(kPageSize - 1);
  view.image_at = Gpa(view.image - kKernelMap + phys_base);
  while (at(view.image + view.image_size) == view.image_at + view.image_size &&
         machine.ram().contains(view.image_at + view.image_size, kPageSize))
    view.image_size += kPageSize;

  // The kernel puts the row at a multiple of 1 GiB; the first mapping there is of the upper half that begins
  // with physical memory from its start on.
  for (u64 slot = 256; slot < 511 && !view.ram; ++slot) {
    u64 upper = 0;
    if (!physical.value(kernel.table() + slot * 8, &upper) || !(upper & 1)) continue;
    for (u64 gib = 0; gib < 512 && !view.ram; ++gib) {
      const u64 start = ~u64{0} << 48 | slot << 39 | gib << 30;
      if (at(start + 1_MiB) == Gpa(1_MiB) && at(start + kernel.table()) == Gpa(kernel.table()))
        view.ram = start;
    }
  }
  return view;
}

}  // namespace

std::string find_vmcoreinfo(const Machine& machine) {
  const GuestView physical = GuestView::physical(machine);
  std::vector<std::string> found;
  std::string page(kPageSize, '\0');
  for (const Range& r : ranges_of(machine.ram())) {
    for (u64 at = r.from.value; at < r.from.value + r.size && found.size() < kMostInfos; at += kPageSize) {
      if (!physical.read(at, page.data(), kFirstLine.size()) || !page.starts_with(kFirstLine)) continue;
      physical.read(at, page.data(), kPageSize);
      found.push_back(page.substr(0, page.find('\0')));
    }
  }
  for (const GuestView& memory : living_spaces(machine))
    for (const std::string& info : found)
      if (is_mapped(memory, info)) return info;
  return {};
}

Result<VmcoreReport> write_vmcore(const Machine& machine, const std::vector<u32>& running,
                                  const std::filesystem::path& path) {
  const GuestRam& ram = machine.ram();
  const std::string info = find_vmcoreinfo(machine);
  std::string notes;
  for (unsigned i = 0; i < machine.vcpu_count(); ++i) {
    PrStatus status = prstatus_of(machine.cpu(i));
    if (i < running.size()) status.pid = static_cast<i32>(running[i]);
    put_note(notes, "CORE", NT_PRSTATUS, {reinterpret_cast<const char*>(&status), sizeof status});
  }
  if (!info.empty()) put_note(notes, "VMCOREINFO", 0, info);

  const std::vector<Range> ranges = ranges_of(ram);
  KernelView view;
  if (!info.empty()) view = kernel_view(machine, info);
  Elf64_Ehdr header = elf64_header(ET_CORE);
  header.e_phoff = sizeof header;
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = static_cast<u16>(1 + ranges.size() + (view.image_size ? 1 : 0));
  std::vector<Elf64_Phdr> segments(1);
  u64 end = sizeof header + header.e_phnum * sizeof(Elf64_Phdr);
  segments[0].p_type = PT_NOTE;
  segments[0].p_offset = end;
  segments[0].p_filesz = notes.size();
  end = (end + notes.size() + kPageSize - 1) / kPageSize * kPageSize;
  for (const Range& r : ranges) {
    Elf64_Phdr segment{};
    segment.p_type = PT_LOAD;
    segment.p_flags = PF_R | PF_W | PF_X;
    segment.p_offset = end;
    segment.p_paddr = r.from.value;
    if (view.ram) segment.p_vaddr = *view.ram + r.from.value;
    segment.p_filesz = segment.p_memsz = r.size;
    end += r.size;
    segments.push_back(segment);
  }
  // The kernel's image, as kdump has it: the same bytes under the addresses that its symbols have.
  if (view.image_size) {
    Elf64_Phdr segment = segments[view.image_at.value >= kHighRamStart ? 2 : 1];
    segment.p_offset += view.image_at.value - segment.p_paddr;
    segment.p_paddr = view.image_at.value;
    segment.p_vaddr = view.image;
    segment.p_filesz = segment.p_memsz = view.image_size;
    segments.push_back(segment);
  }

  DEJA_ASSIGN(SparseFile file, SparseFile::create(path));
  DEJA_TRY(file.write(0, &header, sizeof header));
  DEJA_TRY(file.write(header.e_phoff, segments.data(), segments.size() * sizeof(Elf64_Phdr)));
  DEJA_TRY(file.write(segments[0].p_offset, notes.data(), notes.size()));
  for (std::size_t i = 0; i < ranges.size(); ++i)
    DEJA_TRY(file.write_ram(ram, ranges[i].from, ranges[i].size, segments[i + 1].p_offset));
  DEJA_TRY(file.finish(end));
  return VmcoreReport{end, std::string(value_of(info, kFirstLine))};
}

Result<VmcoreReport> write_raw_memory(const Machine& machine, const std::filesystem::path& path) {
  const GuestRam& ram = machine.ram();
  DEJA_ASSIGN(SparseFile file, SparseFile::create(path));
  for (const Range& r : ranges_of(ram)) DEJA_TRY(file.write_ram(ram, r.from, r.size, r.from.value));
  DEJA_TRY(file.finish(ram.end()));
  return VmcoreReport{ram.end(), {}};
}

}  // namespace deja
