#include "gdb/server.h"

#include <algorithm>

#include "base/printable.h"
#include "gdb/documents.h"

namespace deja {
namespace {

constexpr std::size_t kMostRead = 16 * 1024;  // bytes of an m packet: half of PacketSize as hex
constexpr u64 kLongestWatch = 1_MiB;
constexpr std::size_t kMostPoints = 100'000;
constexpr std::size_t kMostConditions = 64;
constexpr std::size_t kConsolePiece = 4096;
constexpr std::string_view kError = "E01";

bool type_of(u64 n, GdbWatchpoint::Kind* kind) {
  if (n < 2 || n > 4) return false;
  *kind = static_cast<GdbWatchpoint::Kind>(n);
  return true;
}

// ";X len,hex" any number of times.
bool parse_conditions(GdbFields f, std::vector<std::string>* conditions) {
  while (!f.done()) {
    f.literal(';');
    u64 size = 0;
    if (conditions->size() == kMostConditions || !f.literal('X') || !f.number(&size) || !f.literal(',') ||
        size > f.rest().size() / 2)
      return false;
    std::string code;
    if (!from_hex(f.rest().substr(0, size * 2), &code)) return false;
    conditions->push_back(std::move(code));
    f = GdbFields(f.rest().substr(size * 2));
  }
  return true;
}

}  // namespace

GdbServer::GdbServer(DebugTarget& target, GdbConnection& connection,
                     std::function<void(std::string_view)> explain)
    : target_(target), connection_(connection), explain_(std::move(explain)) {
  general_ = target_.current_vcpu();
}

void GdbServer::serve() {
  while (open_) {
    if (reader_.empty()) {
      if (!receive(true)) return;
      continue;
    }
    const GdbInput in = reader_.next();
    switch (in.kind) {
      case GdbInput::Kind::packet:
        if (acknowledge_) connection_.send("+");
        handle(in.payload);
        break;
      case GdbInput::Kind::damaged:
        if (acknowledge_) connection_.send("-");
        break;
      case GdbInput::Kind::resend:
        if (acknowledge_ && !last_.empty()) connection_.send(last_);
        break;
      case GdbInput::Kind::interrupt:
        // Nothing runs: it came after the stop that it was to cause.
        break;
    }
  }
}

bool GdbServer::receive(bool wait) {
  std::string bytes;
  if (!connection_.receive(&bytes, wait)) return open_ = false;
  reader_.feed(bytes);
  return true;
}

bool GdbServer::interrupted() {
  if (!receive(false)) return true;
  // gdb sends no packets while it waits, but acknowledgements.
  while (!reader_.empty())
    if (reader_.next().kind == GdbInput::Kind::interrupt) return true;
  return false;
}

void GdbServer::reply(std::string_view payload) {
  last_ = gdb_packet(payload);
  if (!connection_.send(last_)) open_ = false;
}

void GdbServer::console(std::string_view shown) {
  const std::string lines = printable_lines(shown);
  std::string_view text = lines;
  for (; !text.empty(); text.remove_prefix(std::min(text.size(), kConsolePiece)))
    reply("O" + to_hex(text.substr(0, kConsolePiece)));
}

void GdbServer::handle(const std::string& packet) {
  if (packet.empty()) return reply("");
  GdbFields f(std::string_view(packet).substr(1));
  switch (packet[0]) {
    case '!':
      extended_ = true;
      return reply("OK");
    case '?':
      return reply(present());
    case 'H':
      return select_thread(f);
    case 'T': {
      i64 id = 0;
      return reply(f.thread(&id) && valid_thread(id) ? "OK" : kError);
    }
    case 'g':
      return reply(to_hex(gdb_registers(target_.cpu(general_))));
    case 'p':
      return read_register(f);
    case 'm':
      return read_memory(f);
    case 'G':
    case 'P':
    case 'M':
    case 'X':
      return refuse_write();
    case 'Z':
      return point(true, f);
    case 'z':
      return point(false, f);
    case 'c':
    case 'C':
    case 's':
    case 'S': {
      // A signal to deliver is passed over; there is nobody to take it. Another address to go on at is
      // refused.
      u64 signal = 0;
      if (packet[0] == 'C' || packet[0] == 'S') f.number(&signal);
      if (!f.done()) return refuse_write();
      GdbResume r;
      r.how = packet[0] == 's' || packet[0] == 'S' ? GdbResume::How::step : GdbResume::How::go;
      r.vcpu = continue_ > 0 ? static_cast<unsigned>(continue_ - 1) : general_;
      return resume(std::move(r));
    }
    case 'b': {
      GdbResume r;
      r.backward = true;
      r.vcpu = continue_ > 0 ? static_cast<unsigned>(continue_ - 1) : general_;
      if (f.rest() == "s")
        r.how = GdbResume::How::step;
      else if (f.rest() != "c")
        return reply("");
      return resume(std::move(r));
    }
    case 'v':
      if (f.literal("Cont?")) return reply("vCont;c;C;s;S;r");
      if (f.literal("Cont;")) return verbose_resume(f);
      if (f.literal("Kill;")) {
        reply("OK");
        return let_go();
      }
      // Which program, and what it is given, was decided when it was recorded.
      if (f.literal("Run;")) return reply(start_again() ? present() : std::string(kError));
      return reply("");
    case 'q':
      return query(f);
    case 'Q':
      return set(f);
    case 'D':
      reply("OK");
      return let_go();
    case 'k':
      return let_go();
    case 'R':  // has no answer
      if (!start_again()) let_go();
      return;
    default:
      return reply("");
  }
}

std::string GdbServer::present() {
  if (let_go_) return "W00";
  GdbStop stop;
  stop.vcpu = general_ = target_.current_vcpu();
  return stop_reply(stop);
}

void GdbServer::let_go() {
  let_go_ = true;
  if (!extended_) open_ = false;
}

// gdb sets its breakpoints anew.
Status GdbServer::start_again() {
  breakpoints_.clear();
  watchpoints_.clear();
  if (Status status = target_.restart(); !status) {
    explain_(status.error().message);
    return status;
  }
  let_go_ = false;
  return {};
}

void GdbServer::select_thread(GdbFields f) {
  const bool general = f.literal('g');
  i64 id = 0;
  if ((!general && !f.literal('c')) || !f.thread(&id) || (id > 0 && !valid_thread(id))) return reply(kError);
  if (!general)
    continue_ = id;
  else if (id > 0)
    general_ = static_cast<unsigned>(id - 1);
  else
    general_ = target_.current_vcpu();
  reply("OK");
}

void GdbServer::read_register(GdbFields f) {
  u64 n = 0;
  if (!f.number(&n) || n >= gdb_register_count()) return reply(kError);
  reply(to_hex(gdb_register(target_.cpu(general_), static_cast<unsigned>(n))));
}

void GdbServer::read_memory(GdbFields f) {
  u64 address = 0, size = 0;
  if (!f.number(&address) || !f.literal(',') || !f.number(&size)) return reply(kError);
  std::string bytes(std::min<u64>(size, kMostRead), '\0');
  const std::size_t got = target_.read_memory(general_, physical_, address, bytes.data(), bytes.size());
  if (got == 0 && size > 0) return reply("E14");
  reply(to_hex(bytes.data(), got));
}

void GdbServer::search_memory(GdbFields f) {
  u64 address = 0, size = 0;
  if (!f.number(&address) || !f.literal(';') || !f.number(&size) || !f.literal(';') || f.done())
    return reply(kError);
  const std::string pattern(f.rest());
  // Overlapping windows, so that no place is cut in two.
  constexpr std::size_t kWindow = 64 * 1024;
  std::string bytes(kWindow + pattern.size(), '\0');
  for (u64 at = 0; at < size;) {
    if (interrupted()) return reply(kError);
    const std::size_t want = static_cast<std::size_t>(std::min<u64>(size - at, bytes.size()));
    const std::size_t got = target_.read_memory(general_, physical_, address + at, bytes.data(), want);
    const std::size_t found = std::string_view(bytes.data(), got).find(pattern);
    if (found != std::string_view::npos) return reply(fmt::format("1,{:x}", address + at + found));
    if (got < want) return reply(at + got == 0 ? "E14" : "0");  // memory ends here
    at += std::min<u64>(kWindow, want);
  }
  reply("0");
}

// gdb's compare-sections: CRC-32 with the polynomial 04c11db7h, from all ones, high bit first.
void GdbServer::checksum(GdbFields f) {
  u64 address = 0, size = 0;
  if (!f.number(&address) || !f.literal(',') || !f.number(&size)) return reply(kError);
  u32 crc = ~u32{0};
  std::string bytes(kMostRead, '\0');
  for (u64 at = 0; at < size;) {
    const std::size_t want = static_cast<std::size_t>(std::min<u64>(size - at, bytes.size()));
    if (target_.read_memory(general_, physical_, address + at, bytes.data(), want) != want || interrupted())
      return reply("E14");
    for (std::size_t i = 0; i < want; ++i) {
      crc ^= u32{static_cast<u8>(bytes[i])} << 24;
      for (int bit = 0; bit < 8; ++bit) crc = crc << 1 ^ (crc >> 31 ? 0x04c11db7 : 0);
    }
    at += want;
  }
  reply(fmt::format("C{:x}", crc));
}

void GdbServer::refuse_write() {
  if (!explained_)
    explain_("what happened cannot be changed: memory and registers of a recording are read-only");
  explained_ = true;
  reply("E.what happened cannot be changed: memory and registers of a recording are read-only");
}

void GdbServer::point(bool insert, GdbFields f) {
  u64 type = 0, address = 0, size = 0;
  if (!f.number(&type) || !f.literal(',') || !f.number(&address) || !f.literal(',') || !f.number(&size))
    return reply(kError);
  if (type <= 1) {
    GdbBreakpoint b{address, type == 1, {}};
    // Commands to run at the target are not offered in qSupported.
    if (!parse_conditions(f, &b.conditions)) return reply(kError);
    const auto same = [&](const GdbBreakpoint& x) { return x.pc == b.pc && x.hardware == b.hardware; };
    std::erase_if(breakpoints_, same);
    if (insert) {
      if (breakpoints_.size() == kMostPoints) return reply(kError);
      breakpoints_.push_back(std::move(b));
    }
    return reply("OK");
  }
  GdbWatchpoint w;
  if (!type_of(type, &w.kind)) return reply("");
  if (size == 0 || size > kLongestWatch || address + size - 1 < address) return reply(kError);
  w.address = address;
  w.size = size;
  w.physical = physical_;
  std::erase(watchpoints_, w);
  if (insert) {
    if (watchpoints_.size() == kMostPoints) return reply(kError);
    watchpoints_.push_back(w);
  }
  reply("OK");
}

void GdbServer::verbose_resume(GdbFields f) {
  // One action a thread; the first that fits a thread counts. All vCPUs share one time, so what matters is
  // whether one of them is to be stepped.
  GdbResume r;
  r.vcpu = general_;
  bool stepping = false;
  while (!f.done()) {
    GdbResume action;
    u64 signal = 0;
    if (f.literal('s') || f.literal('S')) {
      action.how = GdbResume::How::step;
      f.number(&signal);
    } else if (f.literal('r')) {
      action.how = GdbResume::How::range;
      if (!f.number(&action.from) || !f.literal(',') || !f.number(&action.to)) return reply(kError);
    } else if (f.literal('C')) {
      f.number(&signal);
    } else if (!f.literal('c')) {
      return reply(kError);
    }
    i64 id = -1;
    if (f.literal(':') && (!f.thread(&id) || (id > 0 && !valid_thread(id)))) return reply(kError);
    if (!f.done() && !f.literal(';')) return reply(kError);
    if (stepping || action.how == GdbResume::How::go) continue;
    stepping = true;
    r.how = action.how;
    r.from = action.from;
    r.to = action.to;
    if (id > 0) r.vcpu = static_cast<unsigned>(id - 1);
  }
  resume(std::move(r));
}

void GdbServer::resume(GdbResume r) {
  r.breakpoints = breakpoints_;
  r.watchpoints = watchpoints_;
  r.watch_vcpu = general_;
  r.interrupted = [this] { return interrupted(); };
  const Result<GdbStop> result = target_.resume(r);
  GdbStop stop;
  if (result) {
    stop = result.value();
    if (!stop.note.empty()) console(show("deja: {}\n", stop.note));
  } else {
    console(show("deja: {}\n", result.error().message));
    stop.why = GdbStop::Why::interrupted;
    stop.vcpu = target_.current_vcpu();
  }
  general_ = stop.vcpu;
  reply(stop_reply(stop));
}

std::string GdbServer::stop_reply(const GdbStop& stop) const {
  const bool sigint = stop.why == GdbStop::Why::interrupted;
  std::string text = fmt::format("T{}thread:{:x};", sigint ? "02" : "05", stop.vcpu + 1);
  switch (stop.why) {
    case GdbStop::Why::breakpoint:
      text += stop.hardware ? "hwbreak:;" : "swbreak:;";
      break;
    case GdbStop::Why::watchpoint: {
      const char* name = stop.watchpoint.kind == GdbWatchpoint::Kind::write  ? "watch"
                         : stop.watchpoint.kind == GdbWatchpoint::Kind::read ? "rwatch"
                                                                             : "awatch";
      text += fmt::format("{}:{:x};", name, stop.accessed);
      break;
    }
    case GdbStop::Why::history_begins:
      text += "replaylog:begin;";
      break;
    case GdbStop::Why::history_ends:
      text += "replaylog:end;";
      break;
    case GdbStop::Why::stepped:
    case GdbStop::Why::interrupted:
      break;
  }
  return text;
}

void GdbServer::monitor(GdbFields f) {
  std::string text;
  if (!from_hex(f.rest(), &text)) return reply(kError);
  const auto result = target_.command(text, general_, [this] { return interrupted(); });
  console(result ? result.value() : show("{}\n", result.error().message));
  general_ = std::min(general_, target_.vcpu_count() - 1);
  reply("OK");
}

std::optional<std::string> GdbServer::os_xml(std::string_view kind) {
  if (kind.empty()) return os_document(kind, os_kinds());
  const auto table = target_.os_table(kind);
  if (table) return os_document(kind, table.value());
  explain_(printable(table.error().message));
  return std::nullopt;
}

void GdbServer::transfer(GdbFields f) {
  std::string document;
  if (f.literal("features:read:target.xml:")) {
    document = gdb_target_xml();
  } else if (f.literal("threads:read::")) {
    document = threads_document(target_, threads());
  } else if (f.literal("osdata:read:")) {
    const std::string kind(f.rest().substr(0, f.rest().find(':')));
    if (!f.literal(kind) || !f.literal(':')) return reply("E00");
    std::optional<std::string> xml = os_xml(kind);
    if (!xml) return reply("E00");
    document = std::move(*xml);
  } else if (f.literal("memory-map:read::")) {
    document = memory_map_document();
  } else {
    return reply(f.literal("features:") || f.literal("threads:") ? "E00" : "");
  }
  u64 offset = 0, size = 0;
  if (!f.number(&offset) || !f.literal(',') || !f.number(&size)) return reply("E00");
  if (offset >= document.size()) return reply("l");
  const std::string piece = document.substr(offset, std::min<u64>(size, kMostRead));
  reply((offset + piece.size() < document.size() ? "m" : "l") + piece);
}

void GdbServer::query(GdbFields f) {
  if (f.literal("Supported"))
    return reply(fmt::format(
        "PacketSize={:x};QStartNoAckMode+;qXfer:features:read+;qXfer:threads:read+;qXfer:memory-map:read+;"
        "ReverseStep+;ReverseContinue+;vContSupported+;ConditionalBreakpoints+;swbreak+;hwbreak+;qXfer:"
        "osdata:read+",
        GdbPacketReader::kMaxPayload));
  if (f.literal("Xfer:")) return transfer(f);
  if (f.literal("Rcmd,")) return monitor(f);
  if (f.literal("Search:memory:")) return search_memory(f);
  if (f.literal("CRC:")) return checksum(f);
  if (f.literal("fThreadInfo")) {
    if (let_go_) return reply("l");
    std::string ids = "m";
    for (unsigned i = 1; i <= threads(); ++i) ids += fmt::format("{}{:x}", i > 1 ? "," : "", i);
    return reply(ids);
  }
  if (f.literal("sThreadInfo")) return reply("l");
  if (f.literal("ThreadExtraInfo,")) {
    i64 id = 0;
    if (!f.thread(&id) || !valid_thread(id)) return reply(kError);
    return reply(to_hex(target_.describe_vcpu(static_cast<unsigned>(id - 1))));
  }
  if (f.literal("Attached")) return reply("1");
  if (f.literal("Symbol")) return reply("OK");
  if (f.literal("qemu.PhyMemMode")) return reply(physical_ ? "1" : "0");
  if (f.rest() == "C") return reply(fmt::format("QC{:x}", general_ + 1));
  reply("");
}

void GdbServer::set(GdbFields f) {
  if (f.literal("StartNoAckMode")) {
    reply("OK");
    acknowledge_ = false;
    return;
  }
  if (f.literal("qemu.PhyMemMode:")) {
    if (f.rest() != "0" && f.rest() != "1") return reply(kError);
    physical_ = f.rest() == "1";
    return reply("OK");
  }
  reply("");
}

}  // namespace deja
