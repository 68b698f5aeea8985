#include "crc32c.h"
#include <string.h>
#if defined(__x86_64__)
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <sys/auxv.h>
#ifndef HWCAP_CRC32
#define HWCAP_CRC32 (1 << 7)
#endif
#endif

// Eight tables of 256 entries: eight bytes are folded in one step.
static uint32_t tables[8][256];

// Runs before main, so that no thread ever sees half-made tables.
__attribute__((constructor)) static void make_tables(void) {
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; bit++) c = (c >> 1) ^ (c & 1 ? 0x82f63b78u : 0);
    tables[0][i] = c;
  }
  for (uint32_t i = 0; i < 256; i++)
    for (int t = 1; t < 8; t++) tables[t][i] = (tables[t - 1][i] >> 8) ^ tables[0][tables[t - 1][i] & 255];
}

uint32_t sys_crc32c_portable(uint32_t seed, const void *bytes, size_t count) {
  const uint8_t *p = bytes;
  uint32_t c = ~seed;
  while (count >= 8) {
    uint32_t low = c ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
    c = tables[7][low & 255] ^ tables[6][low >> 8 & 255] ^ tables[5][low >> 16 & 255] ^ tables[4][low >> 24]
        ^ tables[3][p[4]] ^ tables[2][p[5]] ^ tables[1][p[6]] ^ tables[0][p[7]];
    p += 8;
    count -= 8;
  }
  while (count-- > 0) c = (c >> 8) ^ tables[0][(c ^ *p++) & 255];
  return ~c;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t seed, const void *bytes, size_t count) {
  const uint8_t *p = bytes;
  uint64_t c = (uint32_t)~seed;
  while (count >= 8) {
    uint64_t word;
    memcpy(&word, p, 8);
    c = _mm_crc32_u64(c, word);
    p += 8;
    count -= 8;
  }
  uint32_t rest = (uint32_t)c;
  while (count-- > 0) rest = _mm_crc32_u8(rest, *p++);
  return ~rest;
}
#elif defined(__aarch64__)
__attribute__((target("crc"))) static uint32_t crc32c_arm(uint32_t seed, const void *bytes, size_t count) {
  const uint8_t *p = bytes;
  uint32_t c = ~seed;
  while (count >= 8) {
    uint64_t word;
    memcpy(&word, p, 8);
    c = __builtin_arm_crc32cd(c, word);
    p += 8;
    count -= 8;
  }
  while (count-- > 0) c = __builtin_arm_crc32cb(c, *p++);
  return ~c;
}
#endif

uint32_t sys_crc32c(uint32_t seed, const void *bytes, size_t count) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("sse4.2")) return crc32c_sse42(seed, bytes, count);
#elif defined(__aarch64__)
  if (getauxval(AT_HWCAP) & HWCAP_CRC32) return crc32c_arm(seed, bytes, count);
#endif
  return sys_crc32c_portable(seed, bytes, count);
}
