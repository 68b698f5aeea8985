#pragma once
// Linux calls that Swift's Glibc module lacks, with plain types. Each returns -1 and sets errno on failure.
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

int sys_accept4(int listener, void *address, unsigned *length, int flags);
int sys_getrandom(void *buffer, size_t count);
int sys_gettid(void);
void sys_name_thread(const char *name);
void *sys_memmem(const void *text, size_t count, const void *needle, size_t needle_count);
const void *sys_memrchr(const void *text, int byte, size_t count);
int sys_fallocate_keep_size(int fd, off_t offset, off_t count);
/// Removes `count` bytes at `offset` from the file's storage; they read as zeros.
int sys_punch_hole(int fd, off_t offset, off_t count);
int sys_sync_file_range(int fd, off_t offset, off_t count);
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
/// Lets the allocator keep freed memory of up to `bytes` in each arena instead of giving it back to the system at once:
/// blocks of a few hundred KiB that come and go (windows, reads) then cost no page faults.
void sys_keep_freed_memory(int bytes);
