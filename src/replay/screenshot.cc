#include "replay/screenshot.h"

#include <png.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

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

Status write_png(const Picture& picture, const std::filesystem::path& out) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = picture.width;
  image.height = picture.height;
  image.format = PNG_FORMAT_RGB;
  const int fd = create_outside_file(out, true);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(fd >= 0 ? ::fdopen(fd, "wb") : nullptr,
                                                             &std::fclose);
  if (!file) return make_error("{}: cannot create: {}", out.string(), std::strerror(errno));
  errno = 0;
  if (png_image_write_to_stdio(&image, file.get(), 0, picture.rgb.data(), 0, nullptr) &&
      std::fflush(file.get()) == 0)
    return {};
  const int cause = errno;
  remove_outside_file(out);
  return make_error("{}: cannot write: {}", out.string(), cause ? std::strerror(cause) : image.message);
}

namespace {

// A request is this and the file's name, with a descriptor of memory that has the pixels; the answer is an
// error's message, or one blank.
struct PictureSize {
  u32 width = 0, height = 0;
  u64 bytes() const { return u64{width} * height * 3; }
};

// Nothing that a program would take for anything but a picture. A NUL would hide the end from the kernel.
Status check_name(const std::string& name) {
  for (const char c : name)
    if (static_cast<unsigned char>(c) < ' ')
      return make_error("the name of a picture has a control character");
  if (!name.ends_with(".png")) return make_error("{}: the name of a picture ends with .png", name);
  return {};
}

Status serve_request(const Message& request) {
  PictureSize size;
  if (request.bytes.size() <= sizeof size) return make_error("a picture without a name");
  std::memcpy(&size, request.bytes.data(), sizeof size);
  const std::string name = request.bytes.substr(sizeof size);
  DEJA_TRY(check_name(name));
  Picture picture{size.width, size.height, {}};
  constexpr u64 kMostPixels = kMaxVideoMemory / 2;  // of two bytes each
  if (!size.width || !size.height || u64{size.width} * size.height > kMostPixels)
    return make_error("{}: a picture of {}x{}", name, size.width, size.height);
  picture.rgb.resize(size.bytes());
  if (::pread(request.fd, picture.rgb.data(), picture.rgb.size(), 0) != static_cast<ssize_t>(size.bytes()))
    return make_error("{}: the picture is not whole", name);
  return write_png(picture, name);
}

int serve_pictures(int socket) {
  HelperProcess::confine(Confined::keeper, {{}, {"/"}});
  while (const std::optional<Message> request = receive_message(socket)) {
    const Status status = serve_request(*request);
    if (request->fd >= 0) ::close(request->fd);
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
  const int memory = ::memfd_create("picture", MFD_CLOEXEC);
  if (memory < 0) return make_error("{}: {}", file, std::strerror(errno));
  const PictureSize size{picture.width, picture.height};
  const bool whole =
      ::pwrite(memory, picture.rgb.data(), picture.rgb.size(), 0) == static_cast<ssize_t>(size.bytes());
  const bool sent =
      whole && send_message(process_->socket(),
                            std::string(reinterpret_cast<const char*>(&size), sizeof size) + file, memory);
  ::close(memory);
  const std::optional<Message> answer = sent ? receive_message(process_->socket()) : std::nullopt;
  if (!answer) return make_error("{}: the process that writes pictures has ended", file);
  return answer->bytes == " " ? Status() : Error{answer->bytes};
}

}  // namespace deja
