// kexec_into exec|crash COMMAND-LINE: loads /kernel and /initrd with that command line, and starts them (exec), or
// leaves them for a panic (crash). What kexec-tools do, without their options.
#include <fcntl.h>
#include <linux/kexec.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const int crash = strcmp(argv[1], "crash") == 0;
  const int kernel = open("/kernel", O_RDONLY), initrd = open("/initrd", O_RDONLY);
  if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(argv[2]) + 1, argv[2],
              crash ? KEXEC_FILE_ON_CRASH : 0ul) != 0) {
    perror("kexec_file_load");
    return 1;
  }
  puts("loaded");
  fflush(stdout);
  if (!crash) reboot(LINUX_REBOOT_CMD_KEXEC);
  return 0;
}
