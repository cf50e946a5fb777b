// The virtio devices as a driver uses them, each through MSI-X while the CPU sleeps: random bytes, a disk that is
// read, written and read again, a network card that asks the router behind it for its address (ARP), and lines
// typed on COM1, which are echoed until one says "end".
#include "apic.h"

enum {
  RNG_SLOT = 21,
  NIC_SLOT = 3,
  DISK_SLOT = 4,
  COM1 = 0x3f8,
  COM1_IRQ = 4,
  VECTOR = 0x50,
  // Offsets in the device's window (BAR 4) and in its common configuration, virtio 1.2 section 4.1.4.
  NOTIFY = 0x3000,
  DRIVER_FEATURE_SELECT = 8,
  DRIVER_FEATURE = 0xc,
  STATUS = 0x14,
  QUEUE_SELECT = 0x16,
  QUEUE_SIZE = 0x18,
  QUEUE_VECTOR = 0x1a,
  QUEUE_ENABLE = 0x1c,
  QUEUE_DESC = 0x20,
  NEXT = 1,
  WRITE = 2,
  RING = 8,
};

struct Descriptor {
  u64 address;
  u32 size;
  u16 flags, next;
};
struct Queue {
  struct Descriptor descriptors[RING];
  struct {
    u16 flags, index, ring[RING];
  } available __attribute__((aligned(16)));
  volatile struct {
    u16 flags, index;
    struct {
      u32 id, size;
    } ring[RING];
  } used __attribute__((aligned(16)));
  u16 seen;  // of used.index
} __attribute__((aligned(4096)));

static struct Queue rng, disk, receive, transmit;
static volatile int interrupts, received;

static u32 config(u32 slot, u32 reg) {
  outl(0xcf8, 1u << 31 | slot << 11 | reg);
  return inl(0xcfc);
}
static void set_config(u32 slot, u32 reg, u32 value) {
  outl(0xcf8, 1u << 31 | slot << 11 | reg);
  outl(0xcfc, value);
}
static u64 bar(u32 slot, u32 number) { return config(slot, 0x10 + 4 * number) & ~15u; }
static void set8(u64 at, u8 value) { *(volatile u8*)at = value; }
static void set16(u64 at, u16 value) { *(volatile u16*)at = value; }
static void set32(u64 at, u32 value) { *(volatile u32*)at = value; }

static void device_interrupt(struct Context* f) {
  (void)f;
  interrupts++;
  LAPIC(LAPIC_EOI) = 0;
}

static void arrived(struct Context* f) {
  (void)f;
  received = 1;
  outb(0x20, 0x20);
}

static void start(u32 slot, struct Queue** queues, u32 count) {
  EXPECT_EQ(config(slot, 0) & 0xffff, 0x1af4);
  set_config(slot, 4, 6);  // memory space, bus master
  u32 capability = config(slot, 0x34) & 0xff;
  while (capability && (config(slot, capability) & 0xff) != 0x11)
    capability = config(slot, capability) >> 8 & 0xff;
  set_config(slot, capability, 1u << 31);  // MSI-X on
  for (u32 i = 0; i < count; i++) {
    const u64 entry = bar(slot, 1) + 16 * i;
    set32(entry, 0xfee00000), set32(entry + 4, 0), set32(entry + 8, VECTOR), set32(entry + 12, 0);
  }
  const u64 common = bar(slot, 4);
  set8(common + STATUS, 0);
  set8(common + STATUS, 3);
  set32(common + DRIVER_FEATURE_SELECT, 1);
  set32(common + DRIVER_FEATURE, 1);  // VIRTIO_F_VERSION_1
  set8(common + STATUS, 11);
  for (u32 i = 0; i < count; i++) {
    set16(common + QUEUE_SELECT, i);
    set16(common + QUEUE_SIZE, RING);
    set16(common + QUEUE_VECTOR, i);
    const u64 parts[] = {(u64)queues[i]->descriptors, (u64)&queues[i]->available, (u64)&queues[i]->used};
    for (u32 p = 0; p < 3; p++) {
      set32(common + QUEUE_DESC + 8 * p, (u32)parts[p]);
      set32(common + QUEUE_DESC + 8 * p + 4, 0);
    }
    set16(common + QUEUE_ENABLE, 1);
  }
  set8(common + STATUS, 15);
}

static void describe(struct Queue* q, u32 i, void* data, u32 size, u32 flags) {
  q->descriptors[i] = (struct Descriptor){(u64)data, size, flags, i + 1};
}

static void offer(u32 slot, u32 number, struct Queue* q) {
  q->available.ring[q->available.index % RING] = 0;
  asm volatile("" ::: "memory");
  q->available.index++;
  set16(bar(slot, 4) + NOTIFY + 4 * number, number);
}

// Sleeps until the device has done the next request; how much it has written.
static u32 done(struct Queue* q) {
  while (q->used.index == q->seen) sti_hlt_cli();
  return q->used.ring[q->seen++ % RING].size;
}

static void random_bytes(void) {
  SUBJECT("random bytes");
  static u8 bytes[16];
  start(RNG_SLOT, (struct Queue*[]){&rng}, 1);
  describe(&rng, 0, bytes, sizeof bytes, WRITE);
  offer(RNG_SLOT, 0, &rng);
  EXPECT_EQ(done(&rng), sizeof bytes);
  for (u32 i = 0; i < sizeof bytes; i++) put_hex(bytes[i]), put_char(' ');
  put_char('\n');
}

enum { DISK_READ = 0, DISK_WRITE = 1, DISK_FLUSH = 4, SECTOR = 512 };

static u8 request(u32 type, u64 sector, void* data) {
  static struct {
    u32 type, reserved;
    u64 sector;
  } header;
  static u8 status;
  header.type = type, header.sector = sector, status = 0xff;
  describe(&disk, 0, &header, sizeof header, NEXT);
  if (data) describe(&disk, 1, data, SECTOR, NEXT | (type == DISK_READ ? WRITE : 0));
  describe(&disk, data ? 2 : 1, &status, 1, WRITE);
  offer(DISK_SLOT, 0, &disk);
  done(&disk);
  return *(volatile u8*)&status;
}

static void use_disk(void) {
  SUBJECT("disk");
  static char sector[SECTOR + 1], again[SECTOR];
  start(DISK_SLOT, (struct Queue*[]){&disk}, 1);
  EXPECT_EQ(request(DISK_READ, 0, sector), 0);
  put_string(sector);
  for (u32 round = 0; round < 24; round++) {
    for (u32 i = 0; i < SECTOR; i++) sector[i] = (char)(i * 7 + round);
    EXPECT_EQ(request(DISK_WRITE, 3 + 5 * round, sector), 0);
    EXPECT_EQ(request(DISK_READ, 3 + 5 * round, again), 0);
    for (u32 i = 0; i < SECTOR; i++) EXPECT_EQ(again[i], sector[i]);
  }
  EXPECT_EQ(request(DISK_FLUSH, 0, 0), 0);
  EXPECT_EQ(request(DISK_READ, 1 << 20, again), 1);  // beyond the end
}

static void ask_router(void) {
  SUBJECT("router");
  static struct {
    u8 header[12];
    u8 to[6], from[6], type[2];
    u8 format[6], operation[2], sender[6], sender_ip[4], target[6], target_ip[4];
    u8 rest[1600];
  } __attribute__((packed)) question, answer;
  enum { HEADER = 12, FRAME = 60 };
  start(NIC_SLOT, (struct Queue*[]){&receive, &transmit}, 2);
  describe(&receive, 0, &answer, sizeof answer, WRITE);
  offer(NIC_SLOT, 0, &receive);
  static const u8 own[] = {0x52, 0x54, 0, 0x12, 0x34, 0x56}, router[] = {10, 0, 2, 2}, ip[] = {10, 0, 2, 15};
  static const u8 type[] = {8, 6}, format[] = {0, 1, 8, 0, 6, 4};
  memset(question.to, 0xff, 6);
  memcpy(question.from, own, 6), memcpy(question.sender, own, 6);
  memcpy(question.type, type, 2), memcpy(question.format, format, 6);
  question.operation[1] = 1;
  memcpy(question.sender_ip, ip, 4), memcpy(question.target_ip, router, 4);
  describe(&transmit, 0, &question, HEADER + FRAME, 0);
  offer(NIC_SLOT, 1, &transmit);
  done(&transmit);
  EXPECT(done(&receive) >= HEADER + 42);
  EXPECT_EQ(answer.operation[1], 2);
  for (u32 i = 0; i < 4; i++) EXPECT_EQ(answer.sender_ip[i], router[i]);
  for (u32 i = 0; i < 6; i++) put_hex(answer.sender[i]), put_char(' ');
  put_char('\n');
}

static char next_char(void) {
  while (!(inb(COM1 + 5) & 1)) {
    received = 0;
    while (!received) sti_hlt_cli();
  }
  return inb(COM1);
}

static void echo_lines(void) {
  outb(COM1 + 2, 0);  // no FIFO
  outb(COM1 + 1, 1);  // an interrupt for each byte
  outb(COM1 + 4, 8);  // OUT2 lets it through
  put_string("ready\n");
  for (u32 matched = 0; matched < 4;) {
    const char c = next_char();
    put_char(c);
    matched = c == "end\n"[matched] ? matched + 1 : c == 'e';
  }
}

int main(void) {
  pic_init();
  hooks[0x20 + COM1_IRQ] = arrived;
  hooks[VECTOR] = device_interrupt;
  outb(0x21, 0xff & ~(1 << COM1_IRQ));
  LAPIC(LAPIC_SVR) = 0x1ff;
  random_bytes();
  use_disk();
  ask_router();
  EXPECT(interrupts > 50);
  echo_lines();
  return 0;
}
