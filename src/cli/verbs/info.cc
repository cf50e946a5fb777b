#include "cli/json_text.h"
#include "cli/messages.h"
#include "cli/verbs/verbs.h"
#include "replay/position.h"
#include "replay/survey.h"

namespace deja {
namespace {

struct Info {
  const RecordingManifest& manifest;
  const LogSurvey& survey;
  RecordingState state;
  u64 log_bytes;
};

std::string end_text(const Info& info) {
  if (info.survey.damage) return "damaged";
  if (info.manifest.end) return std::string(to_string(info.manifest.end->end.reason));
  return std::string(to_string(info.state));
}

bool complete(const Info& info) { return info.manifest.end && !info.survey.damage; }

void print_json(const std::string& path, const Info& info) {
  const auto& end = info.manifest.end;
  nlohmann::ordered_json j;
  j["path"] = path;
  j["state"] = to_string(info.state);
  j["complete"] = complete(info);
  j["end"] = end_text(info);
  j["end_detail"] = end ? end->end.detail : "";
  j["exit_code"] = end ? end->end.code : 0;
  j["first_step"] = first_step(info.manifest);
  if (info.manifest.window) j["keep_ns"] = info.manifest.window->keep_ns;
  j["steps"] = end ? end->final_step : info.survey.last_step;
  // Without an end only a replay could tell these.
  j["instructions"] = end ? nlohmann::ordered_json(end->instructions) : nlohmann::ordered_json(nullptr);
  j["virtual_ns"] = end ? nlohmann::ordered_json(end->virtual_ns) : nlohmann::ordered_json(nullptr);
  j["host_ns"] = end ? end->host_ns : info.survey.last_progress_ns;
  j["log_bytes"] = info.log_bytes;
  j["events"] = info.survey.events;
  j["digests"] = info.survey.digests.size();
  j["created_unix_ns"] = info.manifest.created_unix_ns;
  j["build"] = info.manifest.build;
  j["host_cpu"] = info.manifest.host.cpu;
  const MachineSpec& m = info.manifest.machine;
  j["machine"] = {{"behaviour", info.manifest.machine_version},
                  {"ram_bytes", m.ram_bytes},
                  {"vcpus", m.vcpus},
                  {"cpu_model", m.cpu_model},
                  {"boot_mode", m.boot_mode},
                  {"cmdline", m.cmdline}};
  j["inputs"] = nlohmann::ordered_json::array();
  for (const RecordedFile& f : info.manifest.inputs)
    j["inputs"].push_back(
        {{"role", f.role}, {"path", f.original_path}, {"sha256", f.sha256}, {"size", f.size}});
  if (info.survey.damage) {
    j["damage"] = info.survey.damage->message;
    j["intact_to_step"] = steps_on_record(info.manifest, info.survey).last;
  }
  say("{}\n", json_text(j));
}

void print_text(const std::string& path, const Info& info) {
  const RecordingManifest& m = info.manifest;
  const auto row = [](const char* name, const std::string& value) { say("{:<14}{}\n", name, value); };
  row("recording", path);
  row("made", show("{} by deja {}", format_date(m.created_unix_ns), m.build));
  row("host", show("{}, {}", m.host.cpu, m.host.kernel));
  row("machine", show("{}, {} vCPU{} {}, behaviour {}", bytes(m.machine.ram_bytes), m.machine.vcpus,
                      m.machine.vcpus == 1 ? "," : "s,", m.machine.cpu_model, m.machine_version));
  for (const RecordedFile& f : m.inputs)
    row(f.role.c_str(), show("{} ({}, sha256 {}…{})", f.original_path, bytes(f.size), f.sha256.substr(0, 12),
                             f.stored.empty() ? ", not in the recording" : ""));
  if (!m.machine.cmdline.empty()) row("command line", m.machine.cmdline);
  if (m.base)
    row("begins at",
        show("step {}, {} after power-on{}", format_count(m.base->step), seconds(m.base->virtual_ns),
             m.base->origin.empty() ? "" : ": cut from " + m.base->origin));
  if (m.window) row("keeps", show("the last {} of the host's time", seconds(m.window->keep_ns)));
  row(m.base ? "last step" : "steps", format_count(m.end ? m.end->final_step : info.survey.last_step));
  if (m.end) {
    row("instructions", format_count(m.end->instructions));
    row("guest's time", seconds(m.end->virtual_ns));
  }
  row("host's time", seconds(m.end ? m.end->host_ns : info.survey.last_progress_ns));
  row("log", show("{}: {} events, {} digests", bytes(info.log_bytes), format_count(info.survey.events),
                  format_count(info.survey.digests.size())));
  std::string end = end_text(info);
  if (m.end && m.end->end.reason == event::EndReason::debug_exit) end += show(" with {}", m.end->end.code);
  if (m.end && !m.end->end.detail.empty()) end += ": " + m.end->end.detail;
  row("ended by", end);
  if (!info.survey.damage) return;
  row("intact to", show("step {}", format_count(steps_on_record(m, info.survey).last)));
  row("damage", info.survey.damage->message);
}

}  // namespace

void add_info(Command& app, Action* action) {
  struct Options {
    std::string recording;
    bool json = false;
  };
  auto o = std::make_shared<Options>();
  Command* verb = app.add_subcommand("info", "Say what a recording holds");
  verb->footer("Examples:\n  deja info latest\n  deja info --json crash | jq .instructions");
  verb->add_option("REC", o->recording, "name or path of a recording, or `latest`")->required();
  verb->add_flag("--json", o->json, "as one JSON object");
  verb->final_callback([o, action] {
    *action = [o]() -> Result<int> {
      DEJA_ASSIGN(auto dir, resolve_recording(o->recording));
      DEJA_ASSIGN(auto recording, Recording::open(dir));
      const LogSurvey survey = survey_log(recording);
      const Info info{recording.manifest, survey, recording.state, recording.log.offset()};
      o->json ? print_json(dir.string(), info) : print_text(dir.string(), info);
      return survey.damage ? kExitDamaged : kExitOk;
    };
  });
}

}  // namespace deja
