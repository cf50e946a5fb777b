// Minutes of work for a debugger that looks at each turn, and less than a second without one.
#include "runtime.h"

int main(void) {
  for (u64 turns = 1000000000; turns; --turns) asm volatile("turn: .globl turn");
  return 0;
}
