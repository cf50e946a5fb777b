// The real door to the host: serial backends, monitor and signals behind one poll(2).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "inputs/input_source.h"
#include "inputs/monitor.h"
#include "inputs/nic_config.h"
#include "inputs/serial_config.h"

namespace deja {

class SerialBackend;
class Signals;
class UserNet;

struct HostInputsConfig {
  std::vector<SerialConfig> serial;           // by port, COM1 first
  std::optional<std::string> monitor_socket;  // path of a unix socket to listen on
  NicConfig nic;                              // what the network card is connected to
  bool catch_signals = true;                  // SIGINT, SIGTERM, SIGHUP, SIGQUIT become Quit; see signals.h
  int stdin_fd = 0;                           // the two ends of `stdio`
  int stdout_fd = 1;
};

class HostInputs : public InputSource, public SerialOutput {
 public:
  // Opens everything; puts the terminal in raw mode. Call before threads are started (signals are blocked in
  // the calling thread and in those it creates later). `clock` outlives the object.
  static Result<std::unique_ptr<HostInputs>> create(HostInputsConfig config, HostClock& clock);
  // Drains output for at most 200 ms, restores terminal and signals, removes sockets.
  ~HostInputs() override;
  HostInputs(const HostInputs&) = delete;

  std::vector<HostInput> poll(InputRoom room) override;
  bool wait_until(u64 deadline_ns, InputRoom room) override;

  void write(u8 port, std::string_view bytes) override;
  bool backlogged() const override;
  Status drain(u64 timeout_ns) override;
  void send_frame(std::string_view frame) override;

  // Gives the terminal back for a while, and takes it again.
  void suspend();
  void resume();

  void set_monitor_actions(MonitorActions actions);
  // Tells the person at the terminal something without disturbing the guest's screen more than one line; to
  // standard error when there is no terminal.
  void notify(std::string_view line);

 private:
  explicit HostInputs(HostClock& clock);
  void service(u64 timeout_ns);
  void take_signal(int signal);
  bool input_waiting(InputRoom room) const;

  HostClock& clock_;
  MonitorActions actions_;
  std::unique_ptr<Signals> signals_;
  std::unique_ptr<MonitorSocket> monitor_;
  std::vector<std::unique_ptr<SerialBackend>> serial_;  // by port
  std::unique_ptr<UserNet> net_;
  std::vector<input::Quit> quit_;  // from signals
};

}  // namespace deja
