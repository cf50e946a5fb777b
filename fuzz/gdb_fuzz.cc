// gdb's protocol: a peer that sends anything, in any pieces.
#include <algorithm>
#include <cstring>
#include <deque>

#include "base/check.h"
#include "fuzz/target.h"
#include "gdb/agent_expression.h"
#include "gdb/server.h"

namespace deja::fuzz {
namespace {

class Target final : public DebugTarget {
 public:
  explicit Target(Random& random) : random_(random) { cpu_.rip = 0x4000; }
  unsigned vcpu_count() override { return 2; }
  unsigned current_vcpu() override { return 1; }
  GdbCpu cpu(unsigned vcpu) override {
    DEJA_CHECK(vcpu < 2, "vCPU {}", vcpu);
    return {cpu_, 3, 77};
  }
  std::string describe_vcpu(unsigned vcpu) override {
    DEJA_CHECK(vcpu < 2, "vCPU {}", vcpu);
    return "halted";
  }
  std::size_t read_memory(unsigned vcpu, bool, u64 address, void* out, std::size_t size) override {
    DEJA_CHECK(vcpu < 2, "vCPU {}", vcpu);
    if (address >= kMemory) return 0;
    const std::size_t n = std::min<std::size_t>(size, kMemory - address);
    std::memset(out, 7, n);
    return n;
  }
  Result<GdbStop> resume(const GdbResume& request) override {
    DEJA_CHECK(request.vcpu < 2 && request.watch_vcpu < 2, "vCPU {}", request.vcpu);
    for (const GdbBreakpoint& b : request.breakpoints)
      for (const std::string& c : b.conditions)
        (void)evaluate_agent_expression(
            c, {[](u64 number, u64* value) { return *value = number, number < 24; },
                [&](u64 at, void* out, unsigned n) { return read_memory(0, false, at, out, n) == n; }});
    if (random_.one_in(8)) return make_error("diverged");
    GdbStop stop;
    stop.vcpu = static_cast<unsigned>(random_.below(2));
    stop.why = static_cast<GdbStop::Why>(random_.below(6));
    return stop;
  }
  Result<GdbOsTable> os_table(std::string_view kind) override {
    if (random_.one_in(8)) return make_error("no {}", kind);
    return GdbOsTable{{"pid", "command"}, {{"1", std::string(kind)}}};
  }
  Status restart() override {
    if (random_.one_in(8)) return make_error("diverged");
    return {};
  }
  Result<std::string> command(const std::string& text, unsigned, const std::function<bool()>&) override {
    return text;
  }

 private:
  static constexpr u64 kMemory = 64_KiB;
  Random& random_;
  CpuState cpu_{};
};

class Connection final : public GdbConnection {
 public:
  bool receive(std::string* bytes, bool wait) override {
    if (pieces.empty()) return !wait;
    *bytes += pieces.front();
    pieces.pop_front();
    return true;
  }
  bool send(std::string_view bytes) override {
    DEJA_CHECK(bytes.size() <= 4 * GdbPacketReader::kMaxPayload, "an answer of {} bytes", bytes.size());
    return true;
  }
  std::deque<std::string> pieces;
};

std::string some_packet(Random& random) {
  const auto number = [&] {
    return fmt::format("{:x}", random.one_in(3) ? random.edgy() : random.below(0x11000));
  };
  const std::string a = number(), b = number();
  std::string packet =
      random.pick<std::string>({"?",
                                "g",
                                "p" + a,
                                "m" + a + "," + b,
                                "Hg" + a,
                                "Hc-1",
                                "Hcp1." + b,
                                "T" + a,
                                "Z0," + a + ",1",
                                "Z0," + a + ",1;X" + b + "," + to_hex(random.bytes(random.below(20))),
                                "z0," + a + ",1",
                                "Z" + a + "," + b + "," + a,
                                "Z2," + a + "," + b,
                                "z2," + a + "," + b,
                                "vCont?",
                                "vCont;c",
                                "vCont;s:" + a,
                                "vCont;r" + a + "," + b + ":1;c",
                                "s",
                                "c",
                                "bs",
                                "bc",
                                "C05;" + a,
                                "qSupported:swbreak+",
                                "qXfer:features:read:target.xml:" + a + "," + b,
                                "!",
                                "vRun;" + a,
                                "R" + a,
                                "k",
                                "qXfer:threads:read::" + a + "," + b,
                                "qXfer:osdata:read:" + a + ":" + b + "," + a,
                                "qfThreadInfo",
                                "qThreadExtraInfo," + a,
                                "qSearch:memory:" + a + ";" + b + ";" + random.bytes(random.below(9)),
                                "qCRC:" + a + "," + b,
                                "qRcmd," + to_hex(random.bytes(random.below(30))),
                                "Qqemu.PhyMemMode:1",
                                "QStartNoAckMode",
                                "M" + a + ",1:00",
                                "qAttached",
                                "k",
                                "D",
                                random.bytes(random.below(50)),
                                std::string(random.below(2) * 70'000, 'a')});
  if (random.one_in(4)) damage(random, packet);
  std::string framed = gdb_packet(packet);
  if (random.one_in(8)) damage(random, framed);
  return framed;
}

}  // namespace

void run_case(Random& random) {
  std::string stream = "+";
  for (u64 n = random.below(40); n > 0; --n) {
    stream += some_packet(random);
    if (random.one_in(5)) stream += random.pick<std::string>({"+", "-", "\x03", "$", "#", "}", "*"});
  }
  Connection connection;
  while (!stream.empty()) {
    const std::size_t n = std::min<std::size_t>(stream.size(), 1 + random.below(5000));
    connection.pieces.push_back(stream.substr(0, n));
    stream.erase(0, n);
  }
  Target target(random);
  GdbServer(target, connection, [](std::string_view) {}).serve();
}

}  // namespace deja::fuzz
