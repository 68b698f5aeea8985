#pragma once
// Byte scanning, 64 bytes at a time, inlined into Swift loops. SSE2 is part of every x86-64; arm64 uses NEON;
// elsewhere plain C does the same.
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
static inline uint64_t scan_mask64(__m128i a, __m128i b, __m128i c, __m128i d) {
  return (uint64_t)(uint16_t)_mm_movemask_epi8(a) | ((uint64_t)(uint16_t)_mm_movemask_epi8(b) << 16) |
         ((uint64_t)(uint16_t)_mm_movemask_epi8(c) << 32) | ((uint64_t)(uint16_t)_mm_movemask_epi8(d) << 48);
}

/// Bits of the 16 bytes at `p` that end a plain run in a JSON string: quote, backslash or a control character (< 0x20).
static inline uint32_t scan_string_stops16(const uint8_t *p) {
  __m128i x = _mm_loadu_si128((const __m128i *)p);
  __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(x, _mm_set1_epi8(0x1f)), x);
  __m128i stop = _mm_or_si128(control, _mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8('"')),
                                                    _mm_cmpeq_epi8(x, _mm_set1_epi8('\\'))));
  return (uint32_t)_mm_movemask_epi8(stop);
}

/// Bits of the 16 bytes at `p` that are not ASCII.
static inline uint32_t scan_high16(const uint8_t *p) {
  return (uint32_t)_mm_movemask_epi8(_mm_loadu_si128((const __m128i *)p));
}

/// Bits of the 64 bytes at `p` that equal `a`, `b` or `c`.
static inline uint64_t scan_any3_64(const uint8_t *p, uint8_t a, uint8_t b, uint8_t c) {
  __m128i va = _mm_set1_epi8((char)a), vb = _mm_set1_epi8((char)b), vc = _mm_set1_epi8((char)c), m[4];
  for (int i = 0; i < 4; i++) {
    __m128i x = _mm_loadu_si128((const __m128i *)(p + 16 * i));
    m[i] = _mm_or_si128(_mm_cmpeq_epi8(x, va), _mm_or_si128(_mm_cmpeq_epi8(x, vb), _mm_cmpeq_epi8(x, vc)));
  }
  return scan_mask64(m[0], m[1], m[2], m[3]);
}
/// Bits of the 16 bytes at `p` that equal `a`, `b` or `c`.
static inline uint32_t scan_any3_16(const uint8_t *p, uint8_t a, uint8_t b, uint8_t c) {
  __m128i x = _mm_loadu_si128((const __m128i *)p);
  return (uint32_t)_mm_movemask_epi8(
      _mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8((char)a)), _mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8((char)b)),
                                                                           _mm_cmpeq_epi8(x, _mm_set1_epi8((char)c)))));
}
#elif defined(__ARM_NEON)
#include <arm_neon.h>
static inline uint32_t scan_movemask16(uint8x16_t v) {
  static const uint8_t weights[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  uint8x16_t bits = vandq_u8(v, vld1q_u8(weights));
  return (uint32_t)vaddv_u8(vget_low_u8(bits)) | ((uint32_t)vaddv_u8(vget_high_u8(bits)) << 8);
}
static inline uint32_t scan_string_stops16(const uint8_t *p) {
  uint8x16_t x = vld1q_u8(p);
  uint8x16_t stop = vorrq_u8(vcltq_u8(x, vdupq_n_u8(0x20)),
                             vorrq_u8(vceqq_u8(x, vdupq_n_u8('"')), vceqq_u8(x, vdupq_n_u8('\\'))));
  return scan_movemask16(stop);
}
static inline uint32_t scan_high16(const uint8_t *p) {
  return scan_movemask16(vcgeq_u8(vld1q_u8(p), vdupq_n_u8(0x80)));
}
static inline uint64_t scan_any3_64(const uint8_t *p, uint8_t a, uint8_t b, uint8_t c) {
  uint64_t m = 0;
  for (int i = 0; i < 4; i++) {
    uint8x16_t x = vld1q_u8(p + 16 * i);
    uint8x16_t hit = vorrq_u8(vceqq_u8(x, vdupq_n_u8(a)), vorrq_u8(vceqq_u8(x, vdupq_n_u8(b)), vceqq_u8(x, vdupq_n_u8(c))));
    m |= (uint64_t)scan_movemask16(hit) << (16 * i);
  }
  return m;
}
static inline uint32_t scan_any3_16(const uint8_t *p, uint8_t a, uint8_t b, uint8_t c) {
  uint8x16_t x = vld1q_u8(p);
  return scan_movemask16(
      vorrq_u8(vceqq_u8(x, vdupq_n_u8(a)), vorrq_u8(vceqq_u8(x, vdupq_n_u8(b)), vceqq_u8(x, vdupq_n_u8(c)))));
}
#else
static inline uint32_t scan_any3_16(const uint8_t *p, uint8_t a, uint8_t b, uint8_t c) {
  uint32_t m = 0;
  for (int i = 0; i < 16; i++) m |= (uint32_t)(p[i] == a || p[i] == b || p[i] == c) << i;
  return m;
}
static inline uint32_t scan_string_stops16(const uint8_t *p) {
  uint32_t m = 0;
  for (int i = 0; i < 16; i++) m |= (uint32_t)(p[i] < 0x20 || p[i] == '"' || p[i] == '\\') << i;
  return m;
}
static inline uint32_t scan_high16(const uint8_t *p) {
  uint32_t m = 0;
  for (int i = 0; i < 16; i++) m |= (uint32_t)(p[i] >> 7) << i;
  return m;
}
static inline uint64_t scan_any3_64(const uint8_t *p, uint8_t a, uint8_t b, uint8_t c) {
  uint64_t m = 0;
  for (int i = 0; i < 64; i++) m |= (uint64_t)(p[i] == a || p[i] == b || p[i] == c) << i;
  return m;
}
#endif

/// Of the 16 bytes at `p`: in the low half the bits of `scan_string_stops16`, in the high half those of `scan_high16`.
static inline uint32_t scan_string16(const uint8_t *p) {
#if defined(__SSE2__)
  __m128i x = _mm_loadu_si128((const __m128i *)p);
  __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(x, _mm_set1_epi8(0x1f)), x);
  __m128i stop = _mm_or_si128(control, _mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8('"')),
                                                    _mm_cmpeq_epi8(x, _mm_set1_epi8('\\'))));
  return (uint32_t)_mm_movemask_epi8(stop) | ((uint32_t)_mm_movemask_epi8(x) << 16);
#else
  return scan_string_stops16(p) | (scan_high16(p) << 16);
#endif
}
