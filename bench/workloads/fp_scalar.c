// Double precision, one number at a time: planets, with divisions and square roots.
#include <math.h>
#include <string.h>

#include "workload.h"

enum { kBodies = 8, kSteps = 480000 };

int main() {
  double place[kBodies][3], speed[kBodies][3], mass[kBodies];
  uint64_t random = 987654321;
  for (int i = 0; i < kBodies; i++) {
    mass[i] = 1 + next_random(&random) % 1000 / 1000.0;
    for (int k = 0; k < 3; k++) {
      place[i][k] = next_random(&random) % 20000 / 1000.0 - 10;
      speed[i][k] = next_random(&random) % 2000 / 10000.0 - 0.1;
    }
  }
  for (int step = 0; step < kSteps; step++) {
    for (int i = 0; i < kBodies; i++) {
      for (int j = i + 1; j < kBodies; j++) {
        double d[3], square = 0.01;
        for (int k = 0; k < 3; k++) {
          d[k] = place[i][k] - place[j][k];
          square += d[k] * d[k];
        }
        double pull = 0.001 / (square * sqrt(square));
        for (int k = 0; k < 3; k++) {
          speed[i][k] -= d[k] * mass[j] * pull;
          speed[j][k] += d[k] * mass[i] * pull;
        }
      }
    }
    for (int i = 0; i < kBodies; i++) {
      for (int k = 0; k < 3; k++) place[i][k] += 0.001 * speed[i][k];
    }
  }
  uint64_t sum = 0;
  for (int i = 0; i < kBodies; i++) {
    for (int k = 0; k < 3; k++) {
      uint64_t bits;
      memcpy(&bits, &place[i][k], sizeof(bits));
      sum = fold(sum, bits);
    }
  }
  print_checksum(sum);
}
