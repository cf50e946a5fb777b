#include "gdb/registers.h"

#include <fmt/format.h>

#include <cstring>
#include <functional>
#include <vector>

#include "semantics/fpu/fpu_state.h"
#include "timeline/guest_view.h"

namespace deja {
namespace {

struct Register {
  std::string name;
  unsigned bits;
  std::string type;
  std::string group;                             // empty: gdb's choice
  std::function<void(const GdbCpu&, u8*)> read;  // into bits / 8 zeroed bytes
};

struct Feature {
  std::string name;
  std::string types;  // XML
  std::vector<Register> registers;
};

using Number = std::function<u64(const GdbCpu&)>;

Register number(std::string name, unsigned bits, std::string type, Number value, std::string group = {}) {
  const unsigned bytes = bits / 8;
  return {std::move(name), bits, std::move(type), std::move(group),
          [value = std::move(value), bytes](const GdbCpu& c, u8* out) {
            const u64 v = value(c);
            std::memcpy(out, &v, bytes);
          }};
}

constexpr const char* kVec128 = R"(  <vector id="v4f" type="ieee_single" count="4"/>
  <vector id="v2d" type="ieee_double" count="2"/>
  <vector id="v16i8" type="int8" count="16"/>
  <vector id="v8i16" type="int16" count="8"/>
  <vector id="v4i32" type="int32" count="4"/>
  <vector id="v2i64" type="int64" count="2"/>
  <union id="vec128">
    <field name="v4_float" type="v4f"/>
    <field name="v2_double" type="v2d"/>
    <field name="v16_int8" type="v16i8"/>
    <field name="v8_int16" type="v8i16"/>
    <field name="v4_int32" type="v4i32"/>
    <field name="v2_int64" type="v2i64"/>
    <field name="uint128" type="uint128"/>
  </union>
)";

std::string flags_type(const char* id, unsigned size,
                       std::initializer_list<std::pair<const char*, unsigned>> bits) {
  std::string xml = fmt::format("  <flags id=\"{}\" size=\"{}\">\n", id, size);
  for (const auto& [name, bit] : bits)
    xml += fmt::format("    <field name=\"{0}\" start=\"{1}\" end=\"{1}\"/>\n", name, bit);
  return xml + "  </flags>\n";
}

Feature core() {
  Feature f{"org.gnu.gdb.i386.core",
            flags_type("i386_eflags", 4,
                       {{"CF", 0},
                        {"", 1},
                        {"PF", 2},
                        {"AF", 4},
                        {"ZF", 6},
                        {"SF", 7},
                        {"TF", 8},
                        {"IF", 9},
                        {"DF", 10},
                        {"OF", 11},
                        {"NT", 14},
                        {"RF", 16},
                        {"VM", 17},
                        {"AC", 18},
                        {"VIF", 19},
                        {"VIP", 20},
                        {"ID", 21}}),
            {}};
  auto& r = f.registers;
  // gdb's order, which is not the encoding's.
  constexpr Gpr kOrder[16] = {RAX, RBX, RCX, RDX, RSI, RDI, RBP, RSP, R8, R9, R10, R11, R12, R13, R14, R15};
  constexpr const char* kNames[16] = {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp",
                                      "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
  for (unsigned i = 0; i < 16; ++i) {
    const Gpr g = kOrder[i];
    r.push_back(number(kNames[i], 64, g == RBP || g == RSP ? "data_ptr" : "int64",
                       [g](const GdbCpu& c) { return c.state.gpr[g]; }));
  }
  r.push_back(number("rip", 64, "code_ptr", [](const GdbCpu& c) { return linear_pc(c.state); }));
  r.push_back(number("eflags", 32, "i386_eflags", [](const GdbCpu& c) { return c.state.rflags; }));
  constexpr std::pair<const char*, Seg> kSegments[6] = {{"cs", CS}, {"ss", SS}, {"ds", DS},
                                                        {"es", ES}, {"fs", FS}, {"gs", GS}};
  for (const auto& [name, seg] : kSegments)
    r.push_back(
        number(name, 32, "int32", [seg = seg](const GdbCpu& c) { return c.state.seg[seg].selector; }));
  for (unsigned i = 0; i < 8; ++i)
    r.push_back({fmt::format("st{}", i), 80, "i387_ext", {}, [i](const GdbCpu& c, u8* out) {
                   std::memcpy(out, c.state.fpu.st[i], 10);
                 }});
  const auto fpu = [&](const char* name, Number value) {
    r.push_back(number(name, 32, "int", std::move(value), "float"));
  };
  fpu("fctrl", [](const GdbCpu& c) { return c.state.fpu.fcw; });
  fpu("fstat", [](const GdbCpu& c) { return c.state.fpu.fsw; });
  fpu("ftag", [](const GdbCpu& c) { return x87_full_tag_word(c.state.fpu); });
  for (const char* name : {"fiseg", "fioff", "foseg", "fooff", "fop"})
    fpu(name, [](const GdbCpu&) { return u64{0}; });  // docs/determinism.md
  return f;
}

Feature sse() {
  Feature f{"org.gnu.gdb.i386.sse",
            kVec128 + flags_type("i386_mxcsr", 4,
                                 {{"IE", 0},
                                  {"DE", 1},
                                  {"ZE", 2},
                                  {"OE", 3},
                                  {"UE", 4},
                                  {"PE", 5},
                                  {"DAZ", 6},
                                  {"IM", 7},
                                  {"DM", 8},
                                  {"ZM", 9},
                                  {"OM", 10},
                                  {"UM", 11},
                                  {"PM", 12},
                                  {"FZ", 15}}),
            {}};
  for (unsigned i = 0; i < 16; ++i)
    f.registers.push_back({fmt::format("xmm{}", i), 128, "vec128", {}, [i](const GdbCpu& c, u8* out) {
                             std::memcpy(out, c.state.fpu.ymm[i], 16);
                           }});
  f.registers.push_back(number(
      "mxcsr", 32, "i386_mxcsr", [](const GdbCpu& c) { return c.state.fpu.mxcsr; }, "vector"));
  return f;
}

// gdb knows Linux programs by it. There is no restarted system call to speak of.
Feature linux_feature() {
  Feature f{"org.gnu.gdb.i386.linux", {}, {}};
  f.registers.push_back(number(
      "orig_rax", 64, "int", [](const GdbCpu&) { return ~u64{0}; }, "system"));
  return f;
}

Feature segment_bases() {
  Feature f{"org.gnu.gdb.i386.segments", {}, {}};
  f.registers.push_back(number("fs_base", 64, "int64", [](const GdbCpu& c) { return c.state.seg[FS].base; }));
  f.registers.push_back(number("gs_base", 64, "int64", [](const GdbCpu& c) { return c.state.seg[GS].base; }));
  return f;
}

Feature avx() {
  Feature f{"org.gnu.gdb.i386.avx", {}, {}};
  for (unsigned i = 0; i < 16; ++i)
    f.registers.push_back({fmt::format("ymm{}h", i), 128, "uint128", {}, [i](const GdbCpu& c, u8* out) {
                             std::memcpy(out, c.state.fpu.ymm[i] + 16, 16);
                           }});
  return f;
}

Feature system() {
  Feature f{"org.dejavm.system",
            flags_type("deja_cr0", 8,
                       {{"PE", 0},
                        {"MP", 1},
                        {"EM", 2},
                        {"TS", 3},
                        {"ET", 4},
                        {"NE", 5},
                        {"WP", 16},
                        {"AM", 18},
                        {"NW", 29},
                        {"CD", 30},
                        {"PG", 31}}) +
                flags_type("deja_cr4", 8,
                           {{"VME", 0},
                            {"PVI", 1},
                            {"TSD", 2},
                            {"DE", 3},
                            {"PSE", 4},
                            {"PAE", 5},
                            {"MCE", 6},
                            {"PGE", 7},
                            {"PCE", 8},
                            {"OSFXSR", 9},
                            {"OSXMMEXCPT", 10},
                            {"UMIP", 11},
                            {"FSGSBASE", 16},
                            {"PCIDE", 17},
                            {"OSXSAVE", 18},
                            {"SMEP", 20},
                            {"SMAP", 21}}) +
                flags_type("deja_efer", 8, {{"SCE", 0}, {"LME", 8}, {"LMA", 10}, {"NXE", 11}}),
            {}};
  const auto add = [&](const char* name, const char* type, Number value) {
    f.registers.push_back(number(name, 64, type, std::move(value), "system"));
  };
  add("cr0", "deja_cr0", [](const GdbCpu& c) { return c.state.cr0; });
  add("cr2", "int64", [](const GdbCpu& c) { return c.state.cr2; });
  add("cr3", "int64", [](const GdbCpu& c) { return c.state.cr3; });
  add("cr4", "deja_cr4", [](const GdbCpu& c) { return c.state.cr4; });
  add("cr8", "int64", [](const GdbCpu& c) { return c.cr8; });
  add("efer", "deja_efer", [](const GdbCpu& c) { return c.state.efer; });
  add("k_gs_base", "int64", [](const GdbCpu& c) { return c.state.msr.kernel_gs_base; });
  add("gdtr_base", "int64", [](const GdbCpu& c) { return c.state.gdtr.base; });
  add("idtr_base", "int64", [](const GdbCpu& c) { return c.state.idtr.base; });
  add("tr_base", "int64", [](const GdbCpu& c) { return c.state.tr.base; });
  add("dr6", "int64", [](const GdbCpu& c) { return c.state.dr6; });
  add("dr7", "int64", [](const GdbCpu& c) { return c.state.dr7; });
  add("step", "int64", [](const GdbCpu& c) { return c.step; });
  return f;
}

const std::vector<Feature>& features() {
  static const std::vector<Feature> all{core(), sse(), linux_feature(), segment_bases(), avx(), system()};
  return all;
}

const Register* find(unsigned n) {
  for (const Feature& f : features()) {
    if (n < f.registers.size()) return &f.registers[n];
    n -= static_cast<unsigned>(f.registers.size());
  }
  return nullptr;
}

std::string read(const GdbCpu& cpu, const Register& r) {
  std::string bytes(r.bits / 8, '\0');
  r.read(cpu, reinterpret_cast<u8*>(bytes.data()));
  return bytes;
}

}  // namespace

unsigned gdb_register_count() {
  unsigned n = 0;
  for (const Feature& f : features()) n += static_cast<unsigned>(f.registers.size());
  return n;
}

std::string gdb_register(const GdbCpu& cpu, unsigned n) { return read(cpu, *find(n)); }

std::string gdb_registers(const GdbCpu& cpu) {
  std::string bytes;
  for (const Feature& f : features())
    for (const Register& r : f.registers) bytes += read(cpu, r);
  return bytes;
}

bool gdb_register_value(const GdbCpu& cpu, u64 n, u64* value) {
  if (n >= gdb_register_count()) return false;
  const std::string bytes = gdb_register(cpu, static_cast<unsigned>(n));
  if (bytes.size() > sizeof *value) return false;
  *value = 0;
  std::memcpy(value, bytes.data(), bytes.size());
  return true;
}

const std::string& gdb_target_xml() {
  static const std::string xml = [] {
    std::string s =
        "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n<target version=\"1.0\">\n"
        "<architecture>i386:x86-64</architecture>\n<osabi>GNU/Linux</osabi>\n";
    unsigned n = 0;
    for (const Feature& f : features()) {
      s += fmt::format("<feature name=\"{}\">\n{}", f.name, f.types);
      for (const Register& r : f.registers) {
        s += fmt::format("  <reg name=\"{}\" bitsize=\"{}\" type=\"{}\" regnum=\"{}\"", r.name, r.bits,
                         r.type, n++);
        if (!r.group.empty()) s += fmt::format(" group=\"{}\"", r.group);
        s += "/>\n";
      }
      s += "</feature>\n";
    }
    return s + "</target>\n";
  }();
  return xml;
}

}  // namespace deja
