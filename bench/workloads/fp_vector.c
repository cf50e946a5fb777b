// Single precision in vectors: a matrix product, in AVX2 where CPUID offers it and in SSE2 elsewhere. Without fused
// multiply-add and with the same order of additions, so that both give the same bits.
#include <string.h>

#include "workload.h"

enum { kSize = 512, kRounds = 7 };

typedef float Matrix[kSize][kSize];

#define MULTIPLY(name, attributes)                                                     \
  attributes static void name(Matrix* restrict c, const Matrix* a, const Matrix* b) { \
    for (int i = 0; i < kSize; i++) {                                                  \
      for (int k = 0; k < kSize; k++) {                                                \
        float factor = (*a)[i][k];                                                     \
        for (int j = 0; j < kSize; j++) (*c)[i][j] += factor * (*b)[k][j];             \
      }                                                                                \
    }                                                                                  \
  }

MULTIPLY(multiply_avx2, __attribute__((target("avx2,no-fma"), optimize("O3"))))
MULTIPLY(multiply_sse2, __attribute__((optimize("O3"))))

int main() {
  Matrix *a = allocate(sizeof(Matrix)), *b = allocate(sizeof(Matrix)), *c = allocate(sizeof(Matrix));
  uint64_t random = 31337;
  for (int i = 0; i < kSize; i++) {
    for (int j = 0; j < kSize; j++) {
      (*a)[i][j] = next_random(&random) % 2048 / 1024.0f - 1;
      (*b)[i][j] = next_random(&random) % 2048 / 1024.0f - 1;
    }
  }
  memset(c, 0, sizeof(Matrix));
  for (int round = 0; round < kRounds; round++) {
    (__builtin_cpu_supports("avx2") ? multiply_avx2 : multiply_sse2)(c, a, b);
  }
  uint64_t sum = 0;
  for (int i = 0; i < kSize; i++) {
    for (int j = 0; j < kSize; j++) {
      uint32_t bits;
      memcpy(&bits, &(*c)[i][j], sizeof(bits));
      sum = sum * 31 + bits;
    }
  }
  print_checksum(sum);
}
