// The firmware configuration device behind firmware that asks for anything: requests that lie in each other,
// in what they read, beyond memory, or nowhere.
#include "devices/fw_cfg.h"

#include <cstring>

#include "base/check.h"
#include "fuzz/target.h"

namespace deja::fuzz {
namespace {

constexpr u16 kPort = 0x510;
constexpr u64 kRam = 1_MiB, kRom = 64_KiB;

class FakeTime final : public TimeSource {
 public:
  VtimeNs now() const override { return now_; }
  VtimeNs now_ = 0;
};

u64 big_endian(u64 value, unsigned size) { return __builtin_bswap64(value) >> (64 - 8 * size); }

// A device and its surroundings. `seed`: of what there is to read.
struct Bench {
  explicit Bench(u64 seed) : device(items(seed), *ram, time) { device.attach(io, kPort); }

  static FwCfgItems items(u64 seed) {
    Random random(seed);
    FwCfgItems out;
    out.add_number(FwCfgItems::kCpuCount, random.below(17), 2);
    for (char name = 'a'; name < 'a' + static_cast<char>(random.below(6)); ++name)
      out.add_file(std::string("etc/") + name, std::vector<u8>(random.below(10'000), static_cast<u8>(name)));
    out.add_file("honest", {1, 2, 3, 4, 5});
    return out;
  }
  void put_request(u64 at, u32 control, u32 length, u64 address) {
    u8 bytes[16];
    const u64 first = big_endian(control, 4) | big_endian(length, 4) << 32, second = big_endian(address, 8);
    std::memcpy(bytes, &first, 8), std::memcpy(bytes + 8, &second, 8);
    (void)ram->write(Gpa(at), bytes, sizeof bytes);
  }
  void start(u64 at) {
    io.port_write(kPort + 4, static_cast<u32>(big_endian(at >> 32, 4)), 4);
    io.port_write(kPort + 8, static_cast<u32>(big_endian(at & 0xffffffff, 4)), 4);
  }
  void wait(VtimeNs time_passed) {
    time.now_ += time_passed;
    if (device.next_event() <= time.now_) device.advance(time.now_);
  }
  std::vector<u8> saved() const {
    StateWriter w;
    device.save(w);
    return w.take();
  }

  std::unique_ptr<GuestRam> ram = GuestRam::create(kRam, kRom).value();
  FakeTime time;
  IoBus io;
  FwCfg device;
};

u64 address(Random& random) {
  switch (random.below(6)) {
    case 0:
      return random.edgy();
    case 1:
      return kRam - random.below(64);
    case 2:
      return 4_GiB - kRom + random.below(kRom);  // the ROM
    case 3:
      return random.below(64);
    default:
      return random.below(kRam);
  }
}

u16 item(Random& random) {
  return static_cast<u16>(random.one_in(8) ? random.edgy() : random.below(FwCfgItems::kFirstFile + 8));
}

}  // namespace

void run_case(Random& random) {
  const u64 seed = random();
  Bench bench(seed);
  for (unsigned i = 0; i < 200; ++i) {
    const u16 port = static_cast<u16>(kPort + random.below(12));
    const unsigned size = 1u << random.below(3);
    const u64 at = address(random);
    switch (random.below(6)) {
      case 0:
        (void)bench.io.port_read(port, size);
        break;
      case 1:
        bench.io.port_write(port, static_cast<u32>(random.edgy()), size);
        break;
      case 2:
        bench.io.port_write(kPort, item(random), 2);
        for (u64 n = random.below(300); n > 0; --n) (void)bench.io.port_read(kPort + 1, 1);
        break;
      case 3:
      case 4: {
        const u32 control =
            static_cast<u32>(random.one_in(8) ? random.edgy() : item(random) << 16 | random.below(32));
        const u32 length = static_cast<u32>(random.one_in(4) ? random.edgy() : random.below(20'000));
        // Into itself now and then.
        bench.put_request(at, control, length, random.one_in(6) ? at + random.below(16) : address(random));
        bench.start(at);
        break;
      }
      default:
        bench.wait(random.below(3'000));
    }
  }
  const std::vector<u8> state = bench.saved();
  Bench other(seed);
  StateReader r(state);
  DEJA_CHECK(other.device.restore(r) && r.at_end() && other.saved() == state, "not restored as it was");

  // Once reset it serves an honest request: the whole directory, whose first four bytes are a count.
  other.device.reset();
  other.put_request(0x100, u32{FwCfgItems::kDirectory} << 16 | 8 | 2, 4 + 64, 0x200);
  other.start(0x100);
  other.wait(1'000'000);
  u8 done[4], count[4];
  DEJA_CHECK(other.ram->read(Gpa(0x100), done, 4) && other.ram->read(Gpa(0x200), count, 4));
  DEJA_CHECK(!done[0] && !done[1] && !done[2] && !done[3] && count[3] >= 1,
             "an honest request is not served");
}

}  // namespace deja::fuzz
