// Runs one instruction test: a .S file whose header says what goes in and what must come out,
//     # in:  rax=5 flags=cf,zf mem:10=0011223344
//     # out: rax=6 flags=pf ignore=af,of fault=14 cr2=20002000
// natively, to check the expectation itself, and in the engine. Numbers are hexadecimal; mem:OFFSET gives
// bytes of the data pages, lowest first; vectors (ymm0, st0) are written most significant digit first.
// Registers not named under `out` must be unchanged; flags are the six status flags and DF. Without `fault`
// the code must run to its end. A header line "# native: intel" says that CPUs of other makers do something
// else: there only the engine is checked, which does on every host what Intel's do. "# native: no" checks the
// engine alone. "# cpu: x86-64-v3,+adx" names the engine's CPU model, x86-64-v3 otherwise; on a host that
// cannot be it the test is skipped.
#include <fmt/format.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>

#include "execute/host/host_cpu.h"
#include "fuzz/compare.h"
#include "fuzz/engine_adapter.h"
#include "fuzz/native.h"

namespace deja::fuzz {
namespace {

constexpr const char* kGprName[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                      "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
constexpr std::pair<const char*, u64> kFlagName[] = {{"cf", flag::CF}, {"pf", flag::PF}, {"af", flag::AF},
                                                     {"zf", flag::ZF}, {"sf", flag::SF}, {"of", flag::OF},
                                                     {"df", flag::DF}};
constexpr int kSkipped = 77;  // as CMakeLists.txt has it
constexpr u64 kFlags = flag::kStatus | flag::DF;

struct Expectation {
  RunResult result;
  u64 ignored_flags = 0;
};

bool parse_flags(const std::string& list, u64* out) {
  std::stringstream stream(list);
  *out = 0;
  for (std::string name; std::getline(stream, name, ',');) {
    bool known = name == "none";
    for (auto [n, bit] : kFlagName)
      if (name == n) *out |= bit, known = true;
    if (!known) return false;
  }
  return true;
}

// Most significant digit first, into little-endian bytes.
bool parse_number(const std::string& text, u8* out, std::size_t size) {
  std::memset(out, 0, size);
  std::size_t digit = 0;
  for (auto c = text.rbegin(); c != text.rend(); ++c, ++digit) {
    const char* digits = "0123456789abcdef";
    const char* at = std::strchr(digits, *c);
    if (!at || digit / 2 >= size) return false;
    out[digit / 2] |= static_cast<u8>((at - digits) << (digit % 2 * 4));
  }
  return digit > 0;
}

bool parse_item(const std::string& key, const std::string& value, UserState* s,
                std::array<u8, kDataSize>* data, Expectation* expected) {
  u64 number = 0;
  for (int i = 0; i < 16; i++) {
    if (key == kGprName[i]) return parse_number(value, reinterpret_cast<u8*>(&s->gpr[i]), 8);
    if (key == fmt::format("ymm{}", i)) return parse_number(value, s->fpu.ymm[i], 32);
    if (i < 8 && key == fmt::format("st{}", i)) return parse_number(value, s->fpu.st[i], 10);
  }
  if (key == "flags") {
    const bool ok = parse_flags(value, &number);
    s->rflags = (s->rflags & ~kFlags) | number;
    return ok;
  }
  if (key.starts_with("mem:")) {
    if (!parse_number(key.substr(4), reinterpret_cast<u8*>(&number), 8) ||
        number + value.size() / 2 > kDataSize || value.size() % 2)
      return false;
    for (std::size_t i = 0; i < value.size(); i += 2)
      if (!parse_number(value.substr(i, 2), &(*data)[number + i / 2], 1)) return false;
    return true;
  }
  if (expected && key == "ignore") return parse_flags(value, &expected->ignored_flags);
  if (!parse_number(value, reinterpret_cast<u8*>(&number), 8)) return false;
  if (key == "fcw")
    s->fpu.fcw = static_cast<u16>(number);
  else if (key == "fsw")
    s->fpu.fsw = static_cast<u16>(number);
  else if (key == "ftw")
    s->fpu.ftw = static_cast<u8>(number);
  else if (key == "mxcsr")
    s->fpu.mxcsr = static_cast<u32>(number);
  else if (expected && key == "fault")
    expected->result.end = End::fault, expected->result.vector = static_cast<u8>(number);
  else if (expected && key == "error")
    expected->result.error = number;
  else if (expected && key == "cr2")
    expected->result.cr2 = number;
  else if (expected && key == "rip")
    s->rip = number;
  else
    return false;
  return true;
}

int run(const char* source, const char* binary) {
  TestCase test;
  std::ifstream bytes(binary, std::ios::binary);
  Bytes code((std::istreambuf_iterator<char>(bytes)), std::istreambuf_iterator<char>());
  if (code.empty() || code.size() > 250) {
    fmt::print(stderr, "{}: no code, or more than 250 bytes\n", binary);
    return 2;
  }
  test.insns.push_back(code);
  test.initial.rip = test.start;
  test.initial.gpr[RSP] = kDataAddress + 0x1800;
  test.initial.fpu.fcw = 0x37f;

  Expectation expected;
  bool started = false, check_native = true;
  std::string cpu = "x86-64-v3";
  std::ifstream text(source);
  for (std::string line; std::getline(text, line);) {
    if (line == "# native: intel") check_native = __builtin_cpu_is("intel");
    if (line == "# native: no") check_native = false;
    if (line.starts_with("# cpu: ")) cpu = line.substr(7);
    const bool in = line.starts_with("# in:"), out = line.starts_with("# out:");
    if (!in && !out) continue;
    if (out && !started) {
      started = true;
      expected.result.end = End::sentinel;
      expected.result.state = test.initial;
      expected.result.state.rip = test.end();
      expected.result.data = test.data;
    }
    std::stringstream items(line.substr(line.find(':') + 1));
    for (std::string item; items >> item;) {
      const auto equals = item.rfind('=');
      const std::string key = item.substr(0, equals);
      if (equals == std::string::npos || (in && started) ||
          !parse_item(key, item.substr(equals + 1), out ? &expected.result.state : &test.initial,
                      out ? &expected.result.data : &test.data, out ? &expected : nullptr)) {
        fmt::print(stderr, "{}: cannot understand {:?}\n", source, item);
        return 2;
      }
    }
  }
  if (!started) {
    fmt::print(stderr, "{}: no '# out:' line\n", source);
    return 2;
  }
  const Result<CpuModel> model = parse_cpu_model(cpu);
  if (!model) {
    fmt::print(stderr, "{}: {}\n", source, model.error().message);
    return 2;
  }
  if (const Status status = check_host_features(model.value()); !status) {
    fmt::print("{}: skipped: {}\n", source, status.error().message);
    return kSkipped;
  }
  const u64 kept = kFlags & ~expected.ignored_flags;
  const auto visible = [&](RunResult r) {
    r.state.rflags &= kept;
    return r;
  };
  int failed = 0;
  const auto check = [&](RunResult actual, const char* name) {
    const std::string difference =
        differences(test, visible(expected.result), visible(actual), "expected", name);
    if (actual.end == End::sentinel || actual.end == End::fault) {
      if (difference.empty()) return;
      fmt::print("{}\n{}{}", source, disassembly(test), difference);
    } else {
      fmt::print("{}: {} did not run it\n", source, name);
    }
    failed = 1;
  };
  if (check_native) check(NativeRunner().run({&test, 1})[0], "native");
  for (unsigned mode = 0; mode < kEngineModes; ++mode)
    check(EngineRunner(EngineMode(mode), 1, cpu).run(test), name_of(EngineMode(mode)));
  return failed;
}

}  // namespace
}  // namespace deja::fuzz

int main(int argc, char** argv) {
  if (argc != 3) {
    fmt::print(stderr, "usage: isa_test TEST.S TEST.bin\n");
    return 2;
  }
  return deja::fuzz::run(argv[1], argv[2]);
}
