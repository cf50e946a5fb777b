// What every workload shares: a hash to fold its result into, and the one line it prints.
#pragma once

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

// Xorshift64*, so that the inputs are the same everywhere.
static inline uint64_t next_random(uint64_t* state) {
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return *state * 0x2545f4914f6cdd1d;
}

// FNV-1a over the eight bytes of a value.
static inline uint64_t fold(uint64_t sum, uint64_t value) {
  for (int i = 0; i < 8; i++) sum = (sum ^ (value >> (8 * i) & 0xff)) * 0x100000001b3;
  return sum;
}

static inline void print_checksum(uint64_t sum) { printf("%016" PRIx64 "\n", sum); }

static inline void* allocate(size_t bytes) {
  void* memory = malloc(bytes);
  if (!memory) {
    fprintf(stderr, "no memory for %zu bytes\n", bytes);
    exit(1);
  }
  return memory;
}

static inline void require(int holds, const char* what) {
  if (holds) return;
  perror(what);
  exit(1);
}
