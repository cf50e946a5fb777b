#include "replay/screenshot.h"

#include <fcntl.h>
#include <png.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "base/host_io.h"
#include "base/host_limits.h"
#include "sandbox/outside_file.h"
#include "sandbox/sandbox.h"

namespace deja {
namespace {

// The bits of a 5- or 6-bit colour fill eight by being repeated.
u8 widen(unsigned value, unsigned bits) {
  const unsigned shifted = value << (8 - bits);
  return static_cast<u8>(shifted | shifted >> bits);
}

void convert_line(const u8* from, unsigned bytes_per_pixel, u32 pixels, u8* to) {
  for (u32 x = 0; x < pixels; ++x, from += bytes_per_pixel, to += 3) {
    if (bytes_per_pixel == 2) {
      const unsigned pixel = from[0] | from[1] << 8;
      to[0] = widen(pixel >> 11, 5), to[1] = widen(pixel >> 5 & 63, 6), to[2] = widen(pixel & 31, 5);
    } else {
      to[0] = from[2], to[1] = from[1], to[2] = from[0];
    }
  }
}

}  // namespace

Result<Picture> take_picture(Machine& machine) {
  if (!machine.has_screen()) return make_error("the machine has no screen; it gets one by --screen 1024x768");
  const std::optional<ScreenMode> mode = machine.screen_mode();
  if (!mode) return make_error("the guest has not switched its screen on");
  Picture picture{mode->size.width, mode->size.height, {}};
  picture.rgb.resize(u64{picture.width} * picture.height * 3);
  const u64 size = u64{mode->stride} * (picture.height - 1) + u64{mode->bytes_per_pixel} * picture.width;
  const u8* const pixels = machine.ram().host(Gpa(kVideoMemory + mode->offset), size);
  for (u32 y = 0; y < picture.height; ++y)
    convert_line(pixels + y * mode->stride, mode->bytes_per_pixel, picture.width,
                 &picture.rgb[u64{y} * picture.width * 3]);
  return picture;
}

namespace {

Result<std::string> encode_png(const Picture& picture) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = picture.width;
  image.height = picture.height;
  image.format = PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
  std::string png(size, '\0');
  if (!png_image_write_to_memory(&image, png.data(), &size, 0, picture.rgb.data(), 0, nullptr))
    return make_error("cannot make a picture of {}x{}: {}", picture.width, picture.height, image.message);
  png.resize(size);
  return png;
}

Status write_to(int fd, std::string_view bytes) {
  if (const int error = write_all(fd, bytes)) return Error{host_error(error)};
  return {};
}

Result<std::string> read_all(int fd, u64 most) {
  struct stat st {};
  if (fd < 0 || ::fstat(fd, &st) != 0 || st.st_size < 0 || static_cast<u64>(st.st_size) > most)
    return make_error("there is no such file");
  std::string bytes(static_cast<std::size_t>(st.st_size), '\0');
  if (::pread(fd, bytes.data(), bytes.size(), 0) != st.st_size) return make_error("it is not whole");
  return bytes;
}

// A descriptor of memory with these bytes.
Result<int> in_memory(const char* name, std::string_view bytes) {
  const int fd = ::memfd_create(name, MFD_CLOEXEC);
  if (fd < 0) return Error{host_error(errno)};
  const Status status = write_to(fd, bytes);
  if (status) return fd;
  ::close(fd);
  return status.error();
}

}  // namespace

Status write_png(const Picture& picture, const std::filesystem::path& out) {
  DEJA_ASSIGN(const std::string png, encode_png(picture));
  const int fd = create_outside_file(out, true);
  if (fd < 0) return make_error("{}: cannot create: {}", out.string(), host_error(errno));
  Status status = write_to(fd, png);
  if (::close(fd) != 0 && status) status = Error{host_error(errno)};
  if (status) return {};
  remove_outside_file(out);
  return make_error("{}: cannot write: {}", out.string(), status.error().message);
}

// Two processes. The one that the engine talks to makes files, and understands nothing of pictures; it asks
// another, which has no files, to make PNG of the pixels. So no file comes to be that is not a picture, and
// none that is there is touched.
namespace {

// A request is this and the file's name, with a descriptor of memory that has the pixels; the answer is an
// error's message, or one blank. The second process gets the same without a name, and its answer comes with
// a descriptor of memory that has the PNG.
struct PictureSize {
  u32 width = 0, height = 0;
  u64 bytes() const { return u64{width} * height * 3; }
};
constexpr u64 kMostPixels = kMaxVideoMemory / 2;  // of two bytes each
constexpr u64 kMostPng = 8 * kMostPixels;
constexpr std::string_view kPngSignature = "\x89PNG\r\n\x1a\n";

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

// Nothing that a program would take for anything but a picture. A NUL would hide the end from the kernel.
Status check_name(const std::string& name) {
  for (const char c : name)
    if (static_cast<unsigned char>(c) < ' ')
      return make_error("the name of a picture has a control character");
  if (!name.ends_with(".png")) return make_error("{}: the name of a picture ends with .png", name);
  return {};
}

Result<PictureSize> size_in(std::string_view request) {
  PictureSize size;
  if (request.size() < sizeof size) return make_error("a picture without a size");
  std::memcpy(&size, request.data(), sizeof size);
  if (!size.width || !size.height || u64{size.width} * size.height > kMostPixels)
    return make_error("a picture of {}x{}", size.width, size.height);
  return size;
}

// In the second process.
Result<int> encode(const Message& request) {
  DEJA_ASSIGN(const PictureSize size, size_in(request.bytes));
  DEJA_ASSIGN(const std::string pixels, read_all(request.fd, size.bytes()));
  if (pixels.size() != size.bytes()) return make_error("the picture is not whole");
  DEJA_ASSIGN(const std::string png, encode_png({size.width, size.height, {pixels.begin(), pixels.end()}}));
  return in_memory("png", png);
}

int serve_encoder(int socket) {
  HelperProcess::confine(Confined::reader, {});
  while (const std::optional<Message> request = receive_message(socket)) {
    const Descriptor pixels(request->fd);
    auto png = encode(*request);
    const Descriptor out(png ? *png : -1);
    if (!send_message(socket, png ? " " : png.error().message, out.get())) break;
  }
  return 0;
}

// In the first.
Result<std::string> ask_encoder(HelperProcess& encoder, std::string_view size, int pixels) {
  const bool sent = send_message(encoder.socket(), size, pixels);
  const std::optional<Message> answer = sent ? receive_message(encoder.socket()) : std::nullopt;
  if (!answer) return make_error("the process that makes PNG has ended");
  const Descriptor memory(answer->fd);
  if (answer->bytes != " ") return Error{answer->bytes};
  DEJA_ASSIGN(std::string png, read_all(memory.get(), kMostPng));
  if (!png.starts_with(kPngSignature)) return make_error("the process that makes PNG answers nonsense");
  return png;
}

Status serve_request(HelperProcess& encoder, const Message& request) {
  if (request.bytes.size() <= sizeof(PictureSize)) return make_error("a picture without a name");
  const std::string name = request.bytes.substr(sizeof(PictureSize));
  DEJA_TRY(check_name(name));
  auto png = ask_encoder(encoder, std::string_view(request.bytes).substr(0, sizeof(PictureSize)), request.fd);
  if (!png) return make_error("{}: {}", name, png.error().message);
  const Descriptor file(::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (file.get() < 0) return make_error("{}: cannot create: {}", name, host_error(errno));
  const Status status = write_to(file.get(), *png);
  if (status) return {};
  // Removing files is not among what this process may do.
  const bool emptied = ::ftruncate(file.get(), 0) == 0;
  return make_error("{}: cannot write: {}; {} file of this name is left", name, status.error().message,
                    emptied ? "an empty" : "part of a");
}

int serve_pictures(int socket) {
  auto encoder = HelperProcess::start("deja-png", serve_encoder);
  HelperProcess::confine(Confined::maker, {.create = {"/"}});
  while (const std::optional<Message> request = receive_message(socket)) {
    const Descriptor pixels(request->fd);
    const Status status = encoder ? serve_request(**encoder, *request) : encoder.error();
    if (!send_message(socket, status ? " " : status.error().message)) break;
  }
  return 0;
}

}  // namespace

Result<PictureWriter> PictureWriter::create() {
  PictureWriter writer;
  if (sandbox::enabled()) {
    DEJA_ASSIGN(writer.process_, HelperProcess::start("deja-picture", serve_pictures));
  }
  return writer;
}

Status PictureWriter::write(const Picture& picture, const std::string& file) {
  DEJA_TRY(check_name(file));
  if (!process_) return write_png(picture, file);
  auto memory = in_memory("picture", {reinterpret_cast<const char*>(picture.rgb.data()), picture.rgb.size()});
  if (!memory) return make_error("{}: {}", file, memory.error().message);
  const Descriptor pixels(*memory);
  const PictureSize size{picture.width, picture.height};
  const bool sent =
      send_message(process_->socket(), std::string(reinterpret_cast<const char*>(&size), sizeof size) + file,
                   pixels.get());
  const std::optional<Message> answer = sent ? receive_message(process_->socket()) : std::nullopt;
  if (!answer) return make_error("{}: the process that writes pictures has ended", file);
  return answer->bytes == " " ? Status() : Error{answer->bytes};
}

}  // namespace deja
