// What scripts and servers do all day: split text into words, hash them, look them up, compare, sort.
#include <string.h>

#include "workload.h"

enum { kText = 3 << 20, kBuckets = 1 << 16 };

struct Word {
  struct Word* next;
  const char* text;
  uint32_t count;
};

static struct Word* buckets[kBuckets];

static struct Word* find(const char* text) {
  uint32_t hash = 2166136261;
  for (const char* c = text; *c; c++) hash = (hash ^ (uint8_t)*c) * 16777619;
  struct Word** place = &buckets[hash % kBuckets];
  for (; *place; place = &(*place)->next) {
    if (strcmp((*place)->text, text) == 0) return *place;
  }
  *place = allocate(sizeof(struct Word));
  **place = (struct Word){NULL, text, 0};
  return *place;
}

static int by_count(const void* left, const void* right) {
  const struct Word *a = *(struct Word* const*)left, *b = *(struct Word* const*)right;
  if (a->count != b->count) return a->count < b->count ? 1 : -1;
  return strcmp(a->text, b->text);
}

int main() {
  char* text = allocate(kText + 1);
  uint64_t random = 424242;
  for (size_t i = 0; i < kText;) {
    uint64_t r = next_random(&random), length = 2 + r % 5;
    for (uint64_t j = 0; j < length && i < kText; j++) text[i++] = "etaoinshrdlu"[(r >> (8 + 5 * j)) % 12];
    if (i < kText) text[i++] = ' ';
  }
  text[kText] = 0;
  size_t distinct = 0, words = 0;
  static struct Word* sorted[kText / 3];
  for (char* word = strtok(text, " "); word; word = strtok(NULL, " ")) {
    struct Word* entry = find(word);
    if (entry->count++ == 0) sorted[distinct++] = entry;
    words++;
  }
  qsort(sorted, distinct, sizeof(sorted[0]), by_count);
  uint64_t sum = fold(words, distinct);
  char line[64];
  for (size_t i = 0; i < distinct; i++) {
    int length = snprintf(line, sizeof(line), "%u %s", sorted[i]->count, sorted[i]->text);
    sum = fold(sum, (uint64_t)length ^ (uint64_t)strlen(sorted[i]->text) << 8 ^ (uint64_t)line[length - 1] << 16);
  }
  print_checksum(sum);
}
