#include "eventlog/manifest.h"

#include <xxhash.h>

#include <charconv>
#include <ctime>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "machine/memory_map.h"

namespace deja {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxSeedBytes = 4096;
// Firmware, kernel and initrd, and the drives.
constexpr std::size_t kMaxInputs = 3 + kMaxDrives;
constexpr std::string_view kDriveRole = "drive";  // and a number
// A drive's block sizes are only written where they are not the usual ones.
constexpr const char *kLogicalBlockSize = "logical_block_size", *kPhysicalBlockSize = "physical_block_size";
constexpr u32 kUsualBlockSize = 512;
constexpr std::string_view kEvents = "events", kEventsSuffix = ".log";
constexpr std::string_view kCheckpoints = "checkpoints", kCheckpointsSuffix = ".dat";
// The file ends with this, the 16 hexadecimal digits of XXH3-64 of all bytes before it, and kChecksumEnd.
constexpr std::string_view kChecksumStart = ",\n  \"checksum\": \"";
constexpr std::string_view kChecksumEnd = "\"\n}\n";

std::string hex(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) out += fmt::format("{:02x}", static_cast<u8>(c));
  return out;
}

std::optional<std::string> unhex(std::string_view text) {
  if (text.size() % 2) return std::nullopt;
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  std::string out;
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const int high = digit(text[i]), low = digit(text[i + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    out += static_cast<char>(high << 4 | low);
  }
  return out;
}

// "events", 3, ".log": "events-3.log"; without the number when that is 0.
std::string numbered(std::string_view stem, u32 number, std::string_view suffix) {
  return number ? fmt::format("{}-{}{}", stem, number, suffix) : fmt::format("{}{}", stem, suffix);
}

bool is_numbered(std::string_view name, std::string_view stem, std::string_view suffix) {
  if (name.size() < stem.size() + suffix.size() || !name.starts_with(stem) || !name.ends_with(suffix))
    return false;
  name.remove_prefix(stem.size());
  name.remove_suffix(suffix.size());
  if (name.empty()) return true;
  u32 number = 0;
  const auto [end, error] = std::from_chars(name.data() + 1, name.data() + name.size(), number);
  return name[0] == '-' && error == std::errc() && end == name.data() + name.size() &&
         numbered(stem, number, suffix) == fmt::format("{}{}{}", stem, name, suffix);
}

bool is_sha256(std::string_view text) { return text.size() == 64 && unhex(text); }

// Paths and command lines are bytes, JSON strings are Unicode: what is not UTF-8 becomes {"hex": "…"}.
Json text_json(const std::string& text) {
  try {
    (void)Json(text).dump();
    return text;
  } catch (const Json::type_error&) {
    return Json{{"hex", hex(text)}};
  }
}

Json end_json(const EndInfo& e) {
  return {{"reason", to_string(e.end.reason)},
          {"code", e.end.code},
          {"detail", text_json(e.end.detail)},
          {"final_step", e.final_step},
          {"instructions", e.instructions},
          {"virtual_ns", e.virtual_ns},
          {"host_ns", e.host_ns},
          {"digests", e.digests},
          {"log_bytes", e.log_bytes},
          {"log_frames", e.log_frames},
          {"log_checksum", fmt::format("{:016x}", e.log_checksum)}};
}

// Reads the members of one JSON object; remembers the first thing wrong and which members it was asked for,
// so that one that nobody asked for can be refused.
class Fields {
 public:
  Fields(const Json& object, std::string path, std::optional<Error>& error, const std::string& where)
      : object_(object), path_(std::move(path)), error_(error), where_(where) {
    if (!object_.is_object()) fail("", "must be an object");
  }

  u64 number(const char* name, u64 min = 0, u64 max = ~u64{0}) {
    const Json* j = find(name);
    if (!j) return min;
    if (!j->is_number_unsigned() || j->get<u64>() < min || j->get<u64>() > max) {
      fail(name, fmt::format("must be an integer from {} to {}", min, max));
      return min;
    }
    return j->get<u64>();
  }
  u32 number32(const char* name, u32 min = 0) { return static_cast<u32>(number(name, min, ~u32{0})); }
  i64 signed_number(const char* name) {
    const Json* j = find(name);
    if (!j) return 0;
    const bool fits = j->is_number_integer() && !(j->is_number_unsigned() && j->get<u64>() > u64{INT64_MAX});
    if (!fits) {
      fail(name, "must be an integer of 64 bits");
      return 0;
    }
    return j->get<i64>();
  }
  bool flag(const char* name) {
    const Json* j = find(name);
    if (!j) return false;
    if (!j->is_boolean()) fail(name, "must be true or false");
    return j->is_boolean() && j->get<bool>();
  }
  std::string text(const char* name) {
    const Json* j = find(name);
    return j ? text_of(*j, name) : std::string();
  }
  std::string bytes(const char* name, std::size_t max) {
    const std::string t = text(name);
    const auto b = unhex(t);
    if (!b || b->size() > max) {
      fail(name, fmt::format("must be at most {} pairs of lower-case hexadecimal digits", max));
      return {};
    }
    return *b;
  }
  // The member as it is, nullptr when absent.
  const Json* member(const char* name, bool required = true) { return find(name, required); }
  // A member that is an object; an empty one when absent.
  Fields object(const char* name) {
    static const Json kNothing = Json::object();
    const Json* j = find(name);
    return Fields(j ? *j : kNothing, path_of(name), error_, where_);
  }
  // visit(element, index) for each element of a member that is an array.
  template <class Visit>
  void each(const char* name, bool required, Visit visit) {
    const Json* j = find(name, required);
    if (!j) return;
    if (!j->is_array()) return fail(name, "must be an array");
    for (std::size_t i = 0; i < j->size(); ++i) visit((*j)[i], i);
  }
  // An element of the array `name` that is an object.
  Fields item(const Json& element, const char* name, std::size_t index) {
    return Fields(element, fmt::format("{}[{}]", path_of(name), index), error_, where_);
  }
  bool failed() const { return error_.has_value(); }
  std::string text_of(const Json& j, const std::string& name) {
    if (j.is_string()) return j.get<std::string>();
    if (j.is_object() && j.size() == 1 && j.contains("hex") && j["hex"].is_string()) {
      if (auto b = unhex(j["hex"].get<std::string>())) return *b;
    }
    fail(name, "must be a string");
    return {};
  }
  void fail(const std::string& name, const std::string& what) {
    if (error_) return;
    const std::string full = path_of(name);
    error_ = make_error("{}: {}: {}", where_, full.empty() ? "top level" : full, what);
  }
  void refuse_others() {
    if (!object_.is_object()) return;
    for (const auto& [name, value] : object_.items()) {
      if (!asked_.contains(name)) fail(name, "is not a member of this format");
    }
  }

 private:
  std::string path_of(const std::string& name) const {
    return path_ + (path_.empty() || name.empty() ? "" : ".") + name;
  }
  const Json* find(const char* name, bool required = true) {
    asked_.insert(name);
    if (!object_.is_object()) return nullptr;
    const auto it = object_.find(name);
    if (it != object_.end()) return &*it;
    if (required) fail(name, "is missing");
    return nullptr;
  }

  const Json& object_;
  std::string path_;
  std::optional<Error>& error_;
  const std::string& where_;
  std::set<std::string, std::less<>> asked_;
};

// Each takes one object of the file, and leaves what is wrong with it to its Fields.
HostInfo parse_host(Fields f) {
  HostInfo host;
  host.cpu = f.text("cpu");
  host.kernel = f.text("kernel");
  host.cpus = f.number32("cpus");
  f.refuse_others();
  return host;
}

DriveSpec parse_drive_spec(Fields f) {
  DriveSpec drive;
  drive.format = f.text("format");
  drive.read_only = f.flag("read_only");
  drive.serial = f.text("serial");
  for (const auto& [name, size] : {std::pair(kLogicalBlockSize, &drive.logical_block_size),
                                   std::pair(kPhysicalBlockSize, &drive.physical_block_size)})
    if (f.member(name, false)) *size = f.number32(name, 1);
  f.refuse_others();
  return drive;
}

std::map<std::string, std::string> parse_options(Fields& machine) {
  std::map<std::string, std::string> parsed;
  const Json* options = machine.member("options");
  if (!options) return parsed;
  if (!options->is_object()) {
    machine.fail("options", "must be an object");
    return parsed;
  }
  for (const auto& [name, value] : options->items()) parsed[name] = machine.text_of(value, "options." + name);
  return parsed;
}

MachineSpec parse_machine(Fields f, u32 format_version) {
  MachineSpec machine;
  machine.ram_bytes = f.number("ram_bytes", kPageSize, u64{1} << 46);
  machine.vcpus = f.number32("vcpus", 1);
  machine.cpu_model = f.text("cpu_model");
  Fields rate = f.object("clock_rate");
  machine.clock_rate_num = rate.number32("num", 1);
  machine.clock_rate_den = rate.number32("den", 1);
  rate.refuse_others();
  machine.quantum_steps = f.number("quantum_steps");
  machine.boot_mode = f.text("boot_mode");
  machine.cmdline = f.text("cmdline");
  f.each("serial", true,
         [&](const Json& item, std::size_t) { machine.serial.push_back(f.text_of(item, "serial")); });
  // Format 1 had no virtio devices.
  f.each("drives", format_version > 1, [&](const Json& item, std::size_t i) {
    machine.drives.push_back(parse_drive_spec(f.item(item, "drives", i)));
  });
  if (format_version > 1) {
    machine.nic_mac = f.text("nic");
    machine.console = f.flag("console");
  }
  machine.options = parse_options(f);
  f.refuse_others();
  return machine;
}

ParentInfo parse_parent(Fields f) {
  ParentInfo parent;
  parent.name = f.text("name");
  parent.created_unix_ns = f.signed_number("created_unix_ns");
  parent.step = f.number("step");
  f.refuse_others();
  return parent;
}

BaseInfo parse_base(Fields f) {
  BaseInfo base;
  base.step = f.number("step");
  base.virtual_ns = f.number("virtual_ns");
  base.instructions = f.number("instructions");
  base.origin = f.text("origin");
  base.origin_created_unix_ns = f.signed_number("origin_created_unix_ns");
  f.refuse_others();
  return base;
}

WindowInfo parse_window(Fields f) {
  WindowInfo window;
  window.keep_ns = f.number("keep_ns");
  window.number = f.number32("number");
  f.refuse_others();
  return window;
}

RecordedFile parse_input(Fields f) {
  RecordedFile file;
  file.role = f.text("role");
  file.original_path = f.text("original_path");
  file.sha256 = f.text("sha256");
  file.size = f.number("size");
  file.stored = f.text("stored");
  if (const Json* identity = f.member("identity", false)) file.identity = f.text_of(*identity, "identity");
  if (!is_sha256(file.sha256) && (file.identity.empty() || !file.sha256.empty()))
    f.fail("sha256", "must be 64 lower-case hexadecimal digits");
  if (!file.stored.empty() && file.stored != "sha256-" + file.sha256)
    f.fail("stored", "must be empty or \"sha256-\" and the digest");
  if (file.role.starts_with(kDriveRole) == file.identity.empty())
    f.fail("identity", "must be there for a drive, and for nothing else");
  f.refuse_others();
  return file;
}

std::vector<RecordedFile> parse_inputs(Fields& top) {
  std::vector<RecordedFile> inputs;
  std::set<std::string, std::less<>> roles;
  const Json* all = top.member("inputs");
  if (all && all->size() > kMaxInputs) top.fail("inputs", fmt::format("must be at most {}", kMaxInputs));
  top.each("inputs", true, [&](const Json& item, std::size_t i) {
    if (top.failed()) return;  // it may be one of very many
    Fields f = top.item(item, "inputs", i);
    inputs.push_back(parse_input(f));
    const std::string& role = inputs.back().role;
    if (!roles.insert(role).second) f.fail("role", fmt::format("there is another '{}'", role));
  });
  return inputs;
}

EndInfo parse_end(Fields f) {
  EndInfo e;
  if (const auto reason = parse_end_reason(f.text("reason"))) {
    e.end.reason = *reason;
  } else {
    f.fail("reason", "is not a reason that this program knows");
  }
  e.end.code = f.number32("code");
  e.end.detail = f.text("detail");
  e.final_step = f.number("final_step");
  e.instructions = f.number("instructions");
  e.virtual_ns = f.number("virtual_ns");
  e.host_ns = f.number("host_ns");
  e.digests = f.number("digests");
  e.log_bytes = f.number("log_bytes");
  e.log_frames = f.number("log_frames");
  const std::string sum = f.bytes("log_checksum", 8);
  for (const char c : sum) e.log_checksum = e.log_checksum << 8 | static_cast<u8>(c);
  f.refuse_others();
  return e;
}

// `number` is signed in JSON when negative only, so a version that is no small natural number is simply
// damage.
Status check_version(const Json& j, const std::string& where) {
  const auto it = j.find("format_version");
  if (it == j.end() || !it->is_number_unsigned() || it->get<u64>() == 0)
    return make_error(
        "{}: format_version: is missing or no positive integer; this is not a recording's manifest", where);
  if (it->get<u64>() > kRecordingFormatVersion) {
    return make_error(
        "{}: format_version: the recording has format {}, and this program knows formats up to {}; "
        "use the newer DejaVM that made it",
        where, it->get<u64>(), kRecordingFormatVersion);
  }
  return {};
}

Status check_checksum(std::string_view text, const std::string& where) {
  const std::size_t tail = kChecksumStart.size() + 16 + kChecksumEnd.size();
  const auto bad = [&] {
    return make_error(
        "{}: checksum: does not fit the file; it was changed after it was written, or its disk is failing. "
        "Restore it from a copy",
        where);
  };
  if (text.size() < tail) return bad();
  const std::string_view body = text.substr(0, text.size() - tail);
  const std::string want =
      fmt::format("{}{:016x}{}", kChecksumStart, XXH3_64bits(body.data(), body.size()), kChecksumEnd);
  if (text.substr(body.size()) != want) return bad();
  return {};
}

}  // namespace

std::string events_file(const RecordingManifest& m) {
  return numbered(kEvents, m.window ? m.window->number : 0, kEventsSuffix);
}
std::string checkpoints_file(const RecordingManifest& m) {
  return numbered(kCheckpoints, m.window ? m.window->number : 0, kCheckpointsSuffix);
}
bool is_events_file(std::string_view name) { return is_numbered(name, kEvents, kEventsSuffix); }
bool is_checkpoints_file(std::string_view name) {
  return is_numbered(name, kCheckpoints, kCheckpointsSuffix);
}

std::string format_date(i64 unix_ns) {
  i64 seconds = unix_ns / 1'000'000'000;
  if (unix_ns % 1'000'000'000 < 0) --seconds;
  const std::time_t t = seconds;
  std::tm tm{};
  if (!::gmtime_r(&t, &tm)) return fmt::format("@{}", seconds);
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
                     tm.tm_hour, tm.tm_min, tm.tm_sec);
}

std::string to_json(const RecordingManifest& m) {
  Json inputs = Json::array();
  for (const auto& f : m.inputs) {
    Json j = {{"role", f.role},
              {"original_path", text_json(f.original_path)},
              {"sha256", f.sha256},
              {"size", f.size},
              {"stored", f.stored}};
    if (!f.identity.empty()) j["identity"] = f.identity;
    inputs.push_back(std::move(j));
  }
  Json serial = Json::array();
  for (const auto& s : m.machine.serial) serial.push_back(text_json(s));
  Json drives = Json::array();
  for (const DriveSpec& d : m.machine.drives) {
    Json j = {{"format", d.format}, {"read_only", d.read_only}, {"serial", text_json(d.serial)}};
    if (d.logical_block_size != kUsualBlockSize) j[kLogicalBlockSize] = d.logical_block_size;
    if (d.physical_block_size != kUsualBlockSize) j[kPhysicalBlockSize] = d.physical_block_size;
    drives.push_back(std::move(j));
  }
  Json options = Json::object();
  for (const auto& [name, value] : m.machine.options) options[name] = text_json(value);

  Json j = {
      {"format_version", m.format_version},
      {"machine_version", m.machine_version},
      {"build", m.build},
      {"created", format_date(m.created_unix_ns)},
      {"created_unix_ns", m.created_unix_ns},
      {"recorder_pid", m.recorder_pid},
      {"host", {{"cpu", text_json(m.host.cpu)}, {"kernel", text_json(m.host.kernel)}, {"cpus", m.host.cpus}}},
      {"machine",
       {{"ram_bytes", m.machine.ram_bytes},
        {"vcpus", m.machine.vcpus},
        {"cpu_model", m.machine.cpu_model},
        {"clock_rate", {{"num", m.machine.clock_rate_num}, {"den", m.machine.clock_rate_den}}},
        {"quantum_steps", m.machine.quantum_steps},
        {"boot_mode", m.machine.boot_mode},
        {"cmdline", text_json(m.machine.cmdline)},
        {"serial", serial},
        {"drives", drives},
        {"nic", m.machine.nic_mac},
        {"console", m.machine.console},
        {"options", options}}},
      {"inputs", inputs},
      {"rtc_base_unix_seconds", m.rtc_base_unix_seconds},
      {"rng_seed", hex(m.rng_seed)},
      {"state", m.end ? "ended" : "running"}};
  if (m.parent)
    j["parent"] = {{"name", text_json(m.parent->name)},
                   {"created_unix_ns", m.parent->created_unix_ns},
                   {"step", m.parent->step}};
  if (m.base)
    j["base"] = {{"step", m.base->step},
                 {"virtual_ns", m.base->virtual_ns},
                 {"instructions", m.base->instructions},
                 {"origin", text_json(m.base->origin)},
                 {"origin_created_unix_ns", m.base->origin_created_unix_ns}};
  if (m.window) j["window"] = {{"keep_ns", m.window->keep_ns}, {"number", m.window->number}};
  if (m.end) j["end"] = end_json(*m.end);

  std::string text = j.dump(2, ' ', false, Json::error_handler_t::replace);
  text.resize(text.size() - 2);  // the last "\n}"
  return fmt::format("{}{}{:016x}{}", text, kChecksumStart, XXH3_64bits(text.data(), text.size()),
                     kChecksumEnd);
}

Result<RecordingManifest> parse_manifest(std::string_view text, const std::string& where) {
  const Json j = Json::parse(text, nullptr, false);
  if (j.is_discarded() || !j.is_object())
    return make_error("{}: not valid JSON; the file is damaged, restore it from a copy", where);
  DEJA_TRY(check_version(j, where));
  DEJA_TRY(check_checksum(text, where));

  std::optional<Error> error;
  RecordingManifest m;
  Fields top(j, "", error, where);
  m.format_version = top.number32("format_version", 1);
  m.machine_version = top.number32("machine_version");
  m.build = top.text("build");
  (void)top.text("created");
  m.created_unix_ns = top.signed_number("created_unix_ns");
  m.recorder_pid = top.number32("recorder_pid");
  m.rtc_base_unix_seconds = top.signed_number("rtc_base_unix_seconds");
  m.rng_seed = top.bytes("rng_seed", kMaxSeedBytes);
  (void)top.text("checksum");
  m.host = parse_host(top.object("host"));
  m.machine = parse_machine(top.object("machine"), m.format_version);
  if (m.format_version > 2 && top.member("parent", false)) m.parent = parse_parent(top.object("parent"));
  if (m.format_version > 3 && top.member("base", false)) m.base = parse_base(top.object("base"));
  if (m.format_version > 4 && top.member("window", false)) m.window = parse_window(top.object("window"));
  m.inputs = parse_inputs(top);
  const std::string state = top.text("state");
  if (state != "running" && state != "ended") top.fail("state", "must be \"running\" or \"ended\"");
  if (state == "ended") m.end = parse_end(top.object("end"));
  top.refuse_others();
  if (error) return *error;
  return m;
}

}  // namespace deja
