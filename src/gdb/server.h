// gdb's remote serial protocol, spoken to one gdb (GDB manual, appendix E, as of gdb 13). Threads are vCPUs:
// thread 1 is vCPU 0.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "gdb/packet.h"
#include "gdb/target.h"

namespace deja {

// The way to gdb.
class GdbConnection {
 public:
  virtual ~GdbConnection() = default;
  // Appends what has arrived to *bytes. `wait`: until there is something. False: the other side is gone.
  virtual bool receive(std::string* bytes, bool wait) = 0;
  virtual bool send(std::string_view bytes) = 0;
};

class GdbServer {
 public:
  // `explain` is told what gdb has no way to show.
  GdbServer(DebugTarget& target, GdbConnection& connection, std::function<void(std::string_view)> explain);

  // Serves until gdb is gone; if it does not speak the extended protocol, until it detaches or kills its
  // inferior.
  void serve();

 private:
  void handle(const std::string& packet);
  void reply(std::string_view payload);
  void console(std::string_view text);  // shown by gdb while it waits
  bool receive(bool wait);
  // While the target runs: whether Ctrl-C came, or gdb went.
  bool interrupted();

  void query(GdbFields f);
  void set(GdbFields f);
  void transfer(GdbFields f);
  void select_thread(GdbFields f);
  void read_register(GdbFields f);
  void read_memory(GdbFields f);
  void search_memory(GdbFields f);
  void checksum(GdbFields f);
  void point(bool insert, GdbFields f);
  void verbose_resume(GdbFields f);
  std::string present();  // where it stands
  void let_go();
  Status start_again();
  void resume(GdbResume request);
  void monitor(GdbFields f);
  void refuse_write();
  std::string stop_reply(const GdbStop& stop) const;
  std::optional<std::string> os_xml(std::string_view kind);
  unsigned threads() { return let_go_ ? 0 : target_.vcpu_count(); }
  bool valid_thread(i64 id) { return id > 0 && static_cast<u64>(id) <= threads(); }

  DebugTarget& target_;
  GdbConnection& connection_;
  std::function<void(std::string_view)> explain_;
  GdbPacketReader reader_;
  bool open_ = true, acknowledge_ = true, explained_ = false;
  bool extended_ = false;  // !: gdb stays when it has killed what it debugs, and may run it again
  bool let_go_ = false;    // it has
  std::string last_;       // as sent, for when it has to be sent again
  unsigned general_ = 0;   // vCPU that registers and memory are read of
  i64 continue_ = -1;      // Hc: a thread id, or any
  bool physical_ = false;  // addresses are physical: Qqemu.PhyMemMode
  std::vector<GdbBreakpoint> breakpoints_;
  std::vector<GdbWatchpoint> watchpoints_;
};

}  // namespace deja
