// Two processes and a pool of objects in memory that they share, each at an address of its own. One of them frees
// and takes anew an object that the other one still uses.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct object {
  int in_use;
  int generation;
  char name[24];
};
struct pool {
  struct object objects[64];
};
static struct pool* pool;

static struct object* take(const char* name) {
  for (int i = 0;; i = (i + 1) % 64) {
    struct object* object = &pool->objects[i];
    if (object->in_use) continue;
    object->in_use = 1;
    object->generation++;
    strcpy(object->name, name);
    return object;
  }
}

static void give_back(struct object* object) { object->in_use = 0; }

// In the other process: objects nobody has touched for a while are given back, or so it thinks.
static void clean_up(int file) {
  munmap(pool, sizeof *pool);
  pool = mmap((void*)0x70000000, sizeof *pool, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file, 0);
  for (int i = 0; i < 64; i += 3)
    if (pool->objects[i].in_use) give_back(&pool->objects[i]);  // the bug
  for (int i = 0; i < 4; i++) take("cleaner");
}

__attribute__((noinline)) void complain(struct object* object) {
  printf("somebody else has my object: %s\n", object->name);
  exit(1);
}

int main(void) {
  int file = memfd_create("pool", 0);
  if (ftruncate(file, sizeof *pool)) return 2;
  pool = mmap(NULL, sizeof *pool, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  for (int i = 0; i < 9; i++) take("other");
  struct object* mine = take("mine");
  if (fork() == 0) {
    clean_up(file);
    _exit(0);
  }
  wait(NULL);
  if (strcmp(mine->name, "mine")) complain(mine);
  return 0;
}
