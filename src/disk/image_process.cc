#include "disk/image_process.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>

#include "base/archive.h"
#include "base/host_io.h"
#include "base/host_limits.h"
#include "disk/disk_image.h"
#include "sandbox/helper_process.h"

namespace deja {
namespace {

constexpr u64 kPiece = 64_KiB;
constexpr std::size_t kPieces = 32;
constexpr u64 kMaxText = 64_KiB;

// Requests are an operation, an image and its arguments; answers are kOk with what was asked for, or kFailed
// with a text.
enum Operation : u8 { kOpen, kRead, kFindBoot, kClose };
enum Answer : u8 { kOk, kFailed };

std::unique_ptr<HelperProcess> g_process;
std::mutex g_asking;  // held from a request to its answer

void put_text(StateWriter& w, std::string_view text) { w.vector(std::vector<u8>(text.begin(), text.end())); }
std::string get_text(StateReader& r) {
  std::vector<u8> bytes;
  r.vector(bytes, kMaxText);
  return {bytes.begin(), bytes.end()};
}
std::string message(StateWriter& w) {
  const std::vector<u8> bytes = w.take();
  return {bytes.begin(), bytes.end()};
}

// --- In the other process.

struct Reply {
  StateWriter body;
  int fd = -1;
};

Status hand_over(int fd, std::span<const u8> bytes) {
  if (const int error = write_all(fd, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}))
    return make_error("cannot hand over a kernel: {}", host_error(error));
  return {};
}

class ImageServer {
 public:
  int serve(int socket) {
    HelperProcess::confine(Confined::reader, {});
    while (std::optional<Message> request = receive_message(socket)) {
      Reply reply;
      StateReader r(request->bytes);
      Status status = answer(r, request->fd, &reply);
      StateWriter w;
      w.field(status ? kOk : kFailed);
      if (status) {
        const std::vector<u8> body = reply.body.take();
        w.bytes(body.data(), body.size());
      } else {
        put_text(w, std::string_view(status.error().message).substr(0, kMaxText));
      }
      const bool sent = send_message(socket, message(w), reply.fd);
      if (reply.fd >= 0) ::close(reply.fd);
      if (!sent) break;
    }
    return 0;
  }

 private:
  Status answer(StateReader& r, int fd, Reply* reply) {
    u8 operation = 0;
    u32 number = 0;
    r.field(operation), r.field(number);
    if (operation == kOpen) {
      const std::string path = get_text(r), format = get_text(r);
      DEJA_ASSIGN(HostFile file, HostFile::adopt(path, fd));
      DEJA_ASSIGN(auto image, read_format(std::move(file), format));
      reply->body.field(next_);
      reply->body.field(image->size());
      images_[next_++] = std::move(image);
      return {};
    }
    if (fd >= 0) ::close(fd);  // nothing else needs one
    const auto image = images_.find(number);
    if (image == images_.end()) return make_error("image {} is not open", number);
    switch (operation) {
      case kRead: {
        u64 offset = 0;
        r.field(offset);
        std::vector<u8> bytes(kPiece);
        DEJA_TRY(image->second->read(offset, bytes));
        reply->body.bytes(bytes.data(), bytes.size());
        return {};
      }
      case kFindBoot: {
        DEJA_ASSIGN(const BootDisk boot, find_boot_disk(*image->second));
        reply->fd = ::memfd_create("deja-kernel", MFD_CLOEXEC);
        if (reply->fd < 0) return make_error("cannot hand over a kernel: {}", host_error(errno));
        DEJA_TRY(hand_over(reply->fd, boot.kernel));
        DEJA_TRY(hand_over(reply->fd, boot.initrd));
        reply->body.field(u32{boot.partition});
        put_text(reply->body, boot.kernel_path);
        put_text(reply->body, boot.initrd_path);
        reply->body.field(u64{boot.kernel.size()});
        reply->body.field(u64{boot.initrd.size()});
        return {};
      }
      default:
        images_.erase(image);
        return {};
    }
  }

  std::map<u32, std::shared_ptr<BlockImage>> images_;
  u32 next_ = 0;
};

// --- In this one.

struct Answered {
  std::string body;
  int fd = -1;
};

enum class Brings { bytes, descriptor };

// `fd`: goes along. A descriptor that does not belong into the answer is closed.
Result<Answered> ask(const std::string& path, StateWriter& request, int fd = -1,
                     Brings brings = Brings::bytes) {
  const std::lock_guard lock(g_asking);
  std::optional<Message> reply;
  if (g_process && send_message(g_process->socket(), message(request), fd))
    reply = receive_message(g_process->socket());
  if (!reply) return make_error("disk image '{}': the process that reads it has ended", path);
  StateReader r(reply->bytes);
  u8 answer = 0;
  r.field(answer);
  if (reply->fd >= 0 && (answer != kOk || brings != Brings::descriptor)) {
    ::close(reply->fd);
    reply->fd = -1;
  }
  if (answer == kOk) return Answered{reply->bytes.substr(1), reply->fd};
  return Error{get_text(r)};
}

Error nonsense(const std::string& path) {
  return make_error("disk image '{}': the process that reads it answers nonsense", path);
}

StateWriter request_for(Operation operation, u32 number) {
  StateWriter w;
  w.field(operation), w.field(number);
  return w;
}

}  // namespace

Status start_image_process() {
  if (g_process) return {};
  DEJA_ASSIGN(g_process,
              HelperProcess::start("deja-image", [](int socket) { return ImageServer().serve(socket); }));
  return {};
}

Result<std::shared_ptr<RemoteImage>> RemoteImage::open(const HostFile& file, const std::string& format) {
  DEJA_TRY(start_image_process());
  StateWriter request = request_for(kOpen, 0);
  put_text(request, file.path());
  put_text(request, format);
  DEJA_ASSIGN(const Answered answer, ask(file.path(), request, file.fd()));
  StateReader r(answer.body);
  u32 number = 0;
  u64 size = 0;
  r.field(number), r.field(size);
  if (!r.ok() || !r.at_end()) return nonsense(file.path());
  return std::shared_ptr<RemoteImage>(new RemoteImage(file.path(), number, size));
}

RemoteImage::~RemoteImage() {
  StateWriter request = request_for(kClose, number_);
  (void)ask(path_, request).ok();
}

Result<const RemoteImage::Piece*> RemoteImage::piece(u64 offset) {
  const auto known =
      std::find_if(pieces_.begin(), pieces_.end(), [&](const Piece& p) { return p.offset == offset; });
  if (known != pieces_.end()) return &*known;
  StateWriter request = request_for(kRead, number_);
  request.field(offset);
  DEJA_ASSIGN(const Answered answer, ask(path_, request));
  if (answer.body.size() != kPiece) return nonsense(path_);
  if (pieces_.size() == kPieces) pieces_.pop_back();
  pieces_.push_front({offset, {answer.body.begin(), answer.body.end()}});
  return &pieces_.front();
}

Status RemoteImage::read(u64 offset, std::span<u8> out) {
  while (!out.empty()) {
    if (offset >= size_) {
      std::fill(out.begin(), out.end(), u8{0});
      return {};
    }
    const u64 within = offset % kPiece, n = std::min<u64>(out.size(), kPiece - within);
    DEJA_ASSIGN(const Piece* const p, piece(offset - within));
    std::memcpy(out.data(), p->bytes.data() + within, n);
    offset += n;
    out = out.subspan(n);
  }
  return {};
}

Result<BootDisk> RemoteImage::find_boot() {
  StateWriter request = request_for(kFindBoot, number_);
  DEJA_ASSIGN(const Answered answer, ask(path_, request, -1, Brings::descriptor));
  auto content = HostFile::adopt(path_, answer.fd);
  if (!content) return nonsense(path_);
  StateReader r(answer.body);
  BootDisk boot;
  u32 partition = 0;
  u64 kernel = 0, initrd = 0;
  r.field(partition);
  boot.kernel_path = get_text(r);
  boot.initrd_path = get_text(r);
  r.field(kernel), r.field(initrd);
  if (!r.ok() || !r.at_end() || kernel > kMaxBootFile || initrd > kMaxBootFile ||
      content->size() != kernel + initrd)
    return nonsense(path_);
  boot.partition = partition;
  boot.kernel.resize(kernel);
  boot.initrd.resize(initrd);
  DEJA_TRY(content->read(0, boot.kernel));
  DEJA_TRY(content->read(kernel, boot.initrd));
  return boot;
}

}  // namespace deja
