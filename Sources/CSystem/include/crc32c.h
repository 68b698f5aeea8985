#pragma once
// CRC-32C (Castagnoli), by the processor's instruction where there is one, else by tables.
#include <stddef.h>
#include <stdint.h>

/// Continues `seed` over `count` bytes: sys_crc32c(sys_crc32c(s, a), b) is the checksum of a followed by b.
uint32_t sys_crc32c(uint32_t seed, const void *bytes, size_t count);
/// The same by tables alone; tests compare the two.
uint32_t sys_crc32c_portable(uint32_t seed, const void *bytes, size_t count);
