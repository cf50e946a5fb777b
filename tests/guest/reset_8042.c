// Reset by a pulse of the 8042's output port. The CMOS byte 51h tells the second boot from the first: a reset
// keeps it.
#include "apic.h"

int main(void) {
  if (cmos_read(0x51) == 0xa5) {
    put_string("second boot\n");
    return 0;
  }
  put_string("first boot\n");
  cmos_write(0x51, 0xa5);
  while (inb(0x64) & 2) {
  }
  outb(0x64, 0xfe);
  for (;;) asm volatile("hlt");
}
