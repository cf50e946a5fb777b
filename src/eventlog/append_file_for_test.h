// Test doubles: a file in memory that can fail at a given byte.
#pragma once

#include <memory>
#include <string>

#include "eventlog/append_file.h"

namespace deja {

struct FakeDisk {
  std::string bytes;
  std::size_t capacity = ~std::size_t{0};  // writes beyond leave a part and fail
  bool truncate_fails = false;
  int appends = 0;
};

class FakeAppendFile : public AppendFile {
 public:
  explicit FakeAppendFile(FakeDisk& disk) : disk_(disk) {}
  Status append(std::string_view data) override {
    ++disk_.appends;
    const std::size_t room = disk_.capacity - std::min(disk_.capacity, disk_.bytes.size());
    disk_.bytes += data.substr(0, room);
    if (room < data.size()) return make_error("fake disk is full");
    return {};
  }
  Status truncate(u64 size) override {
    if (disk_.truncate_fails) return make_error("fake disk does not truncate");
    disk_.bytes.resize(size);
    return {};
  }
  Status sync() override { return {}; }

 private:
  FakeDisk& disk_;
};

}  // namespace deja
