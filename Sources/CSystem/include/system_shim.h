#pragma once
// Linux calls that Swift's Glibc module lacks, with plain types. Each returns -1 and sets errno on failure.
#include <stddef.h>
#include <stdint.h>
#include "crc32c.h"

int sys_accept4(int listener, void *address, unsigned *length, int flags);
int sys_getrandom(void *buffer, size_t count);
int sys_gettid(void);
void sys_name_thread(const char *name);
void *sys_memmem(const void *text, size_t count, const void *needle, size_t needle_count);
const void *sys_memrchr(const void *text, int byte, size_t count);
int sys_fallocate_keep_size(int fd, long offset, long count);
/// Removes `count` bytes at `offset` from the file's storage; they read as zeros.
int sys_punch_hole(int fd, long offset, long count);
int sys_sync_file_range(int fd, long offset, long count);
void sys_trim_memory(void);
int sys_is_regular(unsigned mode);
int sys_is_directory(unsigned mode);
int sys_is_socket(unsigned mode);
/// Free bytes for a process without privileges on the file system of `path`; -1 on failure.
int64_t sys_free_bytes(const char *path);
/// The wait status taken apart: the exit status, or 128 + the signal.
int sys_exit_status(int status);
int sys_raise_open_files(void);
/// CPU time of this process in nanoseconds, user and system together.
int64_t sys_cpu_ns(void);
/// The number of the kind of file system that `path` lies on (statfs(2)); -1 where it cannot be told.
int64_t sys_file_system(const char *path);
/// Starts a detached thread with a name (at most 15 bytes) and a stack; 0, or an error number.
int sys_start_thread(const char *name, size_t stack_bytes, void (*body)(void *), void *context);
/// Sends a datagram to the Unix socket `path`; a leading `@` means the abstract namespace.
int sys_notify(const char *path, const void *bytes, size_t count);
/// Lets the allocator keep freed memory of up to `bytes` in each arena instead of giving it back to the system at once:
/// blocks of a few hundred KiB that come and go (windows, reads) then cost no page faults.
void sys_keep_freed_memory(int bytes);
