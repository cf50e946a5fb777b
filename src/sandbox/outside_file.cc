#include "sandbox/outside_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <string_view>

#include "sandbox/helper_process.h"
#include "sandbox/sandbox.h"

namespace deja {
namespace {

namespace fs = std::filesystem;

enum Request : char { kCreate = 'c', kCreateExclusive = 'x', kRemove = 'r' };

std::map<fs::path, std::unique_ptr<HelperProcess>> g_keepers;

int create(const fs::path& path, bool exclusive) {
  return ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | (exclusive ? O_EXCL : O_TRUNC),
                exclusive ? 0600 : 0666);
}

// To a request of whoever may have been taken over: 0 or errno, with the descriptor of a file made.
int answer(std::string_view request, const fs::path& path, int* fd) {
  switch (request.size() == 1 ? request[0] : '\0') {
    case kRemove:
      return std::remove(path.c_str()) == 0 ? 0 : errno;
    case kCreate:
    case kCreateExclusive:
      *fd = create(path, request[0] == kCreateExclusive);
      return *fd >= 0 ? 0 : errno;
    default:
      return EINVAL;
  }
}

int serve(int socket, const fs::path& path) {
  HelperProcess::confine(Confined::keeper, {.write = {path.parent_path()}});
  while (const std::optional<Message> request = receive_message(socket)) {
    if (request->fd >= 0) ::close(request->fd);  // no request has one
    int fd = -1;
    const int error = answer(request->bytes, path, &fd);
    const bool sent = send_message(socket, {reinterpret_cast<const char*>(&error), sizeof error}, fd);
    if (fd >= 0) ::close(fd);
    if (!sent) break;
  }
  return 0;
}

HelperProcess* keeper_of(const fs::path& path) {
  std::error_code ec;
  const auto found = g_keepers.find(fs::absolute(path, ec));
  return found == g_keepers.end() ? nullptr : found->second.get();
}

int ask(HelperProcess& keeper, Request request) {
  const char byte = request;
  if (!send_message(keeper.socket(), {&byte, 1})) return errno = EPIPE, -1;
  const std::optional<Message> answer = receive_message(keeper.socket());
  int error = EPIPE;
  if (answer && answer->bytes.size() == sizeof error) std::memcpy(&error, answer->bytes.data(), sizeof error);
  const int fd = answer ? answer->fd : -1;
  if (fd >= 0 && (error != 0 || request == kRemove)) ::close(fd);
  return errno = error, error == 0 && request != kRemove ? fd : -1;
}

}  // namespace

Status prepare_outside_file(const fs::path& path) {
  if (!sandbox::enabled() || sandbox::may_write(path)) return {};
  std::error_code ec;
  const fs::path whole = fs::absolute(path, ec);
  DEJA_ASSIGN(g_keepers[whole],
              HelperProcess::start("deja-file", [&](int socket) { return serve(socket, whole); }));
  return {};
}

int create_outside_file(const fs::path& path, bool exclusive) {
  HelperProcess* const keeper = keeper_of(path);
  return keeper ? ask(*keeper, exclusive ? kCreateExclusive : kCreate) : create(path, exclusive);
}

void remove_outside_file(const fs::path& path) {
  if (HelperProcess* const keeper = keeper_of(path))
    (void)ask(*keeper, kRemove);
  else
    (void)std::remove(path.c_str());
}

}  // namespace deja
