// What a fuzz target is: one function that does one random case. target_main.cc has the rest: seeds, limits,
// and what to say when a case ends badly. Built with AddressSanitizer and UndefinedBehaviorSanitizer.
//
// Targets make hostile input by construction and not by mutating files, which is why they are not
// libFuzzer's: a ring, a table of clusters or a chain of frames that is right but for one thing gets past the
// checks that random bytes fail at; the compiler is the one that builds the product; and a seed gives the
// same case on every host, so that a test with a fixed seed says the same twice.
#pragma once

#include <initializer_list>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/types.h"

namespace deja::fuzz {

class Random {
 public:
  explicit Random(u64 seed) : engine_(seed) {}

  u64 operator()() { return engine_(); }
  // 0 to n - 1; n > 0.
  u64 below(u64 n) { return engine_() % n; }
  bool one_in(u64 n) { return below(n) == 0; }
  template <class T>
  T pick(std::initializer_list<T> list) {
    return *(list.begin() + below(list.size()));
  }
  // Numbers that programs get wrong: small ones, powers of two and their neighbours, the largest.
  u64 edgy();
  std::string bytes(std::size_t size);

 private:
  std::mt19937_64 engine_;
};

// Changes a few bytes, cuts, repeats or inserts: what damage and simple malice make of a file.
void damage(Random& random, std::string& bytes);

// A file in memory with this content, for readers that want a path; gone with the object.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view content);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  std::string path() const;
  int duplicate() const;  // of its descriptor, the caller's to close

 private:
  int fd_;
};

// One case. What must hold is checked with DEJA_CHECK.
void run_case(Random& random);

}  // namespace deja::fuzz
