// The network of SlirpNet in a process of its own, which has no files and is confined to making connections.
// Each frame is a message.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "inputs/user_net.h"
#include "sandbox/helper_process.h"

namespace deja {

class SlirpProcess final : public UserNet {
 public:
  static Result<std::unique_ptr<SlirpProcess>> create(const NicConfig& config);

  void send(std::string_view frame) override;
  bool waiting() const override { return !in_.empty(); }
  std::string take() override;
  u64 add_to(PollSet& set) override;
  void service(const PollSet& set) override;

 private:
  explicit SlirpProcess(std::unique_ptr<HelperProcess> process) : process_(std::move(process)) {}
  void push();

  std::unique_ptr<HelperProcess> process_;
  std::deque<std::string> out_, in_;
  bool gone_ = false;
};

}  // namespace deja
