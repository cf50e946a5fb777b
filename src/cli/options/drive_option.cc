#include "cli/options/drive_option.h"

#include "base/parse_number.h"

#include <optional>
#include <vector>

namespace deja {
namespace {

constexpr std::size_t kMaxSerial = 20;  // virtio 1.2 section 5.2.6

// At single commas; a double one stands for one in the text.
std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> items(1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != ',')
      items.back() += text[i];
    else if (i + 1 < text.size() && text[i + 1] == ',')
      items.back() += text[++i];
    else
      items.emplace_back();
  }
  return items;
}

}  // namespace

Result<DriveOption> parse_drive(std::string_view text, std::size_t index) {
  DriveOption drive;
  drive.spec.serial = fmt::format("deja{}", index);
  std::optional<u32> physical;
  for (const std::string& item : split(text)) {
    const auto equals = item.find('=');
    const std::string key = item.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : item.substr(equals + 1);
    if (key == "file" && !value.empty()) {
      drive.file.path = value;
    } else if (key == "format" && !value.empty()) {
      drive.file.format = value;
    } else if ((key == "readonly" || key == "read-only") &&
               (value.empty() || value == "on" || value == "off")) {
      drive.spec.read_only = value != "off";
    } else if (key == "serial" && value.size() <= kMaxSerial) {
      drive.spec.serial = value;
    } else if (key == "logical_block_size" || key == "physical_block_size") {
      // Which sizes are possible is said where the image's is known.
      const std::optional<u32> size = parse_number<u32>(value);
      if (!size)
        return make_error("--drive {}: '{}' is no number of bytes; write for example {}=4096", text, item,
                          key);
      if (key == "logical_block_size")
        drive.spec.logical_block_size = *size;
      else
        physical = size;
    } else if (key == "if" && value == "virtio") {
      // the only interface there is
    } else if (key == "if" && value == "pflash") {
      return make_error(
          "--drive {}: firmware is not a drive; write --firmware ovmf, or --firmware FILE with OVMF's code. "
          "What it keeps "
          "in variables lasts as long as the run",
          text);
    } else if (key == "if") {
      return make_error("--drive {}: if={}: there are virtio disks only", text, value);
    } else if (key != "id" && key != "cache" && key != "aio" && key != "media" && key != "index" &&
               key != "snapshot" && key != "discard") {
      // Those are about QEMU's way of writing to the image, which is never written here.
      return make_error(
          "--drive {}: '{}' is not understood; write for example --drive file=disk.qcow2,if=virtio", text,
          item);
    }
  }
  drive.spec.physical_block_size = physical.value_or(drive.spec.logical_block_size);
  if (drive.file.path.empty())
    return make_error("--drive {}: file= is missing; write for example --drive file=disk.qcow2,if=virtio",
                      text);
  return drive;
}

}  // namespace deja
