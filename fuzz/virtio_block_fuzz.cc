// The virtio block device behind a hostile driver, over an image that fails now and then.
#include "devices/virtio/virtio_blk.h"
#include "fuzz/hostile_driver.h"

namespace deja::fuzz {
namespace {

class FickleImage final : public BlockImage {
 public:
  explicit FickleImage(u64 size) : size_(size) {}
  u64 size() const override { return size_; }
  Status read(u64 offset, std::span<u8> out) override {
    if (random_ && random_->one_in(16)) return make_error("the host's disk is broken");
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<u8>(offset + i);
    return {};
  }
  Random* random_ = nullptr;

 private:
  u64 size_;
};

}  // namespace

void run_case(Random& random) {
  FickleImage image(random.pick<u64>({512, 1000, 64_KiB, 1_MiB}));
  image.random_ = &random;
  DiskOverlay overlay(image);
  const bool read_only = random.one_in(4);
  const BlockSizes blocks =
      image.size() % 4096 == 0 && random.one_in(2) ? BlockSizes{4096, 16384} : BlockSizes{};
  abuse(
      random, 1,
      [&](VirtioBench& bench) {
        return std::make_unique<VirtioBlk>("disk", VirtioBlk::Config{"serial", read_only, blocks}, overlay,
                                           bench.wiring(), [](const Error&) {});
      },
      [](VirtioPci&) {},
      [&](HostileDriver& driver) {
        image.random_ = nullptr;
        constexpr u64 at = HostileDriver::kBuffers;
        return driver.serves(0,
                             {{at, 16, false}, {at + 0x1000, blocks.logical, true}, {at + 0x2000, 1, true}});
      });
}

}  // namespace deja::fuzz
