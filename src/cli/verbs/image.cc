#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/host_limits.h"
#include "cli/messages.h"
#include "cli/options/image_script.h"
#include "cli/options/machine_options.h"
#include "cli/verbs/verbs.h"

namespace deja {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kPackages =
    "systemd-sysv,udev,dbus,openssh-server,iproute2,linux-image-cloud-amd64,initramfs-tools,zstd,e2fsprogs,"
    "kmod,"
    "procps,less,wget,ca-certificates,netbase,grub-pc-bin,grub-efi-amd64-bin";
// What files are dated at the latest, and the file system exactly: an image depends on its packages only.
constexpr std::string_view kEpoch = "1700000000";
// The EFI system partition is in front of the root file system, so that this one can grow with the disk. It
// is the second nevertheless: the root is vda1 however the machine is started.
constexpr u64 kEspStart = 1_MiB, kRootStart = 4_MiB, kMinSize = 1_GiB;

struct Options {
  std::string system, out;
  std::string size = "2G";
  std::vector<std::string> packages;
  std::string hostname = "debian", user = "user", ssh_key, mirror;
};

// Removed with all that is in it.
class WorkFolder {
 public:
  static Result<fs::path> make(const fs::path& beside) {
    std::string name = (beside / ".deja-image-XXXXXX").string();
    if (!::mkdtemp(name.data()))
      return make_error("{}: cannot create a folder there: {}", beside.string(), host_error(errno));
    ::chmod(name.c_str(), 0777);  // mmdebstrap's namespace has another user
    return fs::path(name);
  }
  explicit WorkFolder(fs::path path) : path_(std::move(path)) {}
  ~WorkFolder() {
    std::error_code ec;
    fs::remove_all(path_, ec);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

// Runs a program with the environment of this one and `more`; its output goes to ours.
Status run_program(const std::vector<std::string>& command,
                   const std::vector<std::pair<std::string, std::string>>& more) {
  std::vector<char*> arguments;
  arguments.reserve(command.size() + 1);
  for (const std::string& a : command) arguments.push_back(const_cast<char*>(a.c_str()));
  arguments.push_back(nullptr);
  const pid_t child = ::fork();
  if (child < 0) return make_error("cannot start {}: {}", command[0], host_error(errno));
  if (child == 0) {
    for (const auto& [name, value] : more) ::setenv(name.c_str(), value.c_str(), 1);
    ::signal(SIGXFSZ, SIG_DFL);  // use_host_limits() is for this program
    ::execvp(arguments[0], arguments.data());
    ::_exit(errno == ENOENT ? 127 : 126);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return make_error("{} failed; its messages are above", command[0]);
  return {};
}

// Said before work of minutes and not after. Where daemons are is not in everybody's PATH, but in that of the
// script.
Status check_installed(std::initializer_list<std::string_view> programs) {
  const char* const set = std::getenv("PATH");
  const std::string path = std::string(set ? set : "") + ":/usr/sbin:/sbin";
  for (const std::string_view program : programs) {
    bool found = false;
    for (std::size_t at = 0; !found && at < path.size();) {
      const auto end = std::min(path.find(':', at), path.size());
      found = ::access((fs::path(path.substr(at, end - at)) / program).c_str(), X_OK) == 0;
      at = end + 1;
    }
    if (!found)
      return make_error(
          "{} is not installed; on Debian: apt-get install mmdebstrap e2fsprogs uidmap dosfstools mtools "
          "qemu-utils",
          program);
  }
  return {};
}

// Where the packages come from: as asked for, or as on a Debian 12 host, or Debian's own address.
std::string package_source(const Options& o) {
  if (!o.mirror.empty()) return o.mirror;
  for (const char* file : {"/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"}) {
    std::ifstream in(file);
    const std::string text{std::istreambuf_iterator<char>(in), {}};
    if (text.find("bookworm") != std::string::npos) return file;
  }
  return {};
}

void write_partition(u8* entry, u8 status, u8 type, u64 start, u64 end) {
  const u32 first = static_cast<u32>(start / 512), count = static_cast<u32>((end - start) / 512);
  entry[0] = status;
  entry[4] = type;
  std::fill(entry + 1, entry + 4, u8{0xff}),
      std::fill(entry + 5, entry + 8, u8{0xff});  // no cylinders, heads
  std::memcpy(entry + 8, &first, 4);
  std::memcpy(entry + 12, &count, 4);
}

// What stands before the first partition: GRUB for BIOS, in whose first sector the partition table is.
Result<std::vector<char>> disk_start(const fs::path& loader, u64 size) {
  std::ifstream in(loader, std::ios::binary);
  std::vector<char> start{std::istreambuf_iterator<char>(in), {}};
  if (start.size() < 512 || start.size() > kEspStart)
    return make_error("the boot loader has {} bytes; it should fit before the partition at {}", start.size(),
                      kEspStart);
  std::fill(start.begin() + 440, start.begin() + 512, '\0');
  u8* const mbr = reinterpret_cast<u8*>(start.data());
  constexpr u8 kActive = 0x80, kLinux = 0x83, kEfiSystem = 0xef;
  write_partition(&mbr[446], kActive, kLinux, kRootStart, size);
  write_partition(&mbr[446 + 16], 0, kEfiSystem, kEspStart, kRootStart);
  mbr[510] = 0x55, mbr[511] = 0xaa;
  return start;
}

// Copies `from` to `at`, leaving holes where there are zeros.
void copy_sparsely(const fs::path& from, std::ofstream& out, u64 at) {
  std::ifstream in(from, std::ios::binary);
  std::vector<char> piece(1_MiB);
  while (in.read(piece.data(), static_cast<std::streamsize>(piece.size())) || in.gcount() > 0) {
    const auto n = static_cast<std::size_t>(in.gcount());
    if (std::any_of(piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(n),
                    [](char c) { return c != 0; })) {
      out.seekp(static_cast<std::streamoff>(at));
      out.write(piece.data(), static_cast<std::streamsize>(n));
    }
    at += n;
  }
}

Status assemble(const fs::path& loader, const fs::path& esp, const fs::path& root, const fs::path& to,
                u64 size) {
  DEJA_ASSIGN(const std::vector<char> start, disk_start(loader, size));
  std::ofstream out(to, std::ios::binary | std::ios::trunc);
  out.write(start.data(), static_cast<std::streamsize>(start.size()));
  copy_sparsely(esp, out, kEspStart);
  copy_sparsely(root, out, kRootStart);
  out.close();
  if (!out || ::truncate(to.c_str(), static_cast<off_t>(size)) != 0)
    return make_error("{}: cannot write: {}", to.string(), host_error(errno));
  return {};
}

Status build(const Options& o) {
  if (o.system != "debian12") return make_error("image {}: there is debian12", o.system);
  const fs::path out = fs::absolute(o.out);
  const bool qcow2 = out.extension() == ".qcow2";
  if (!qcow2 && out.extension() != ".raw" && out.extension() != ".img")
    return make_error("{}: the name must end in .qcow2, .raw or .img, which says what it will be", o.out);
  if (fs::exists(out)) return make_error("{}: exists already; remove it first", o.out);
  DEJA_TRY(check_installed({"mmdebstrap", "mke2fs", "mkfs.vfat", "mcopy"}));
  if (qcow2) DEJA_TRY(check_installed({"qemu-img"}));
  DEJA_ASSIGN(const u64 size, parse_memory_size(o.size));
  if (size < kMinSize) return make_error("--size {}: at least 1G", o.size);
  std::string key;
  if (!o.ssh_key.empty()) {
    std::ifstream in(o.ssh_key);
    std::getline(in, key);
    if (!key.starts_with("ssh-") && !key.starts_with("ecdsa-"))
      return make_error("--ssh-key {}: is not a public key of ssh; its name usually ends in .pub", o.ssh_key);
  }

  DEJA_ASSIGN(fs::path folder, WorkFolder::make(out.parent_path()));
  const WorkFolder work(std::move(folder));
  const fs::path hook = work.path() / "hook", filesystem = work.path() / "root.ext4",
                 loader = work.path() / "loader", esp = work.path() / "esp", disk = work.path() / "disk";
  std::ofstream(hook) << kImageScript;
  ::chmod(hook.c_str(), 0755);

  note("fetching and installing packages (a few minutes; mmdebstrap)");
  std::string packages(kPackages);
  for (const std::string& p : o.packages) packages += "," + p;
  std::vector<std::string> command = {"mmdebstrap",
                                      "--quiet",
                                      "--variant=minbase",
                                      "--include=" + packages,
                                      "--customize-hook=" + hook.string(),
                                      "--format=null",
                                      "bookworm",
                                      "-"};
  if (const std::string source = package_source(o); !source.empty()) command.push_back(source);
  DEJA_TRY(run_program(command, {{"SOURCE_DATE_EPOCH", std::string(kEpoch)},
                                 {"E2FSPROGS_FAKE_TIME", std::string(kEpoch)},
                                 {"HOST", o.hostname},
                                 {"LOGIN", o.user},
                                 {"SSH_KEY", key},
                                 {"FS", filesystem.string()},
                                 {"LOADER", loader.string()},
                                 {"ESP", esp.string()},
                                 {"ESP_BYTES", std::to_string(kRootStart - kEspStart)},
                                 {"FS_BYTES", std::to_string(size - kRootStart)}}));
  note("writing the disk");
  DEJA_TRY(assemble(loader, esp, filesystem, disk, size));
  fs::remove(filesystem);
  if (qcow2) {
    const fs::path packed = work.path() / "disk.qcow2";
    DEJA_TRY(run_program({"qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", "-c", disk, packed}, {}));
    fs::rename(packed, disk);
  }
  std::error_code ec;
  fs::rename(disk, out, ec);
  if (ec) return make_error("{}: {}", out.string(), ec.message());
  note("made {}: log in as root or {} without a password{}", o.out, o.user,
       key.empty() ? "" : ", or by ssh with that key");
  note("try: deja record {}", o.out);
  return {};
}

}  // namespace

void add_image(Command& app, Action* action) {
  auto o = std::make_shared<Options>();
  Command* verb = app.add_subcommand("image", "Make a disk image with a Debian system on it");
  verb->footer(
      "Examples:\n"
      "  deja image debian12 debian.qcow2 --ssh-key ~/.ssh/id_ed25519.pub\n"
      "  deja image debian12 build.raw --size 4G --packages gcc,libc6-dev,make --hostname build\n"
      "It starts by itself, and from BIOS and UEFI firmware (--firmware). Needs mmdebstrap, mke2fs, "
      "mkfs.vfat, "
      "mtools and, for qcow2, qemu-img; no root, mounts or loop devices. The same packages make the same "
      "image, "
      "bit for bit.");
  verb->add_option("SYSTEM", o->system, "debian12")->required();
  verb->add_option("OUT", o->out, "the image: .qcow2, .raw or .img")->required();
  verb->add_option("--size", o->size, "of the disk [2G]");
  verb->add_option("--packages", o->packages, "Debian packages to install besides")->delimiter(',');
  verb->add_option("--hostname", o->hostname, "the name of the system [debian]");
  verb->add_option("--user", o->user, "a user to create [user]");
  verb->add_option("--ssh-key", o->ssh_key, "a public key that may log in as root and as that user");
  verb->add_option("--mirror", o->mirror,
                   "where packages come from: an address or a file of apt's sources [the host's]");
  verb->final_callback([o, action] {
    *action = [o]() -> Result<int> {
      DEJA_TRY(build(*o));
      return kExitOk;
    };
  });
}

}  // namespace deja
