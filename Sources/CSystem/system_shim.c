#include "system_shim.h"
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int sys_accept4(int listener, void *address, unsigned *length, int flags) {
  return accept4(listener, (struct sockaddr *)address, length, flags);
}
int sys_getrandom(void *buffer, size_t count) {
  uint8_t *p = buffer;
  while (count > 0) {
    ssize_t n = getrandom(p, count, 0);
    if (n < 0) return -1;
    p += n;
    count -= (size_t)n;
  }
  return 0;
}
int sys_gettid(void) { return gettid(); }
void sys_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }
void *sys_memmem(const void *text, size_t count, const void *needle, size_t needle_count) {
  return memmem(text, count, needle, needle_count);
}
const void *sys_memrchr(const void *text, int byte, size_t count) { return memrchr(text, byte, count); }
int sys_fallocate_keep_size(int fd, off_t offset, off_t count) { return fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, count); }
int sys_punch_hole(int fd, off_t offset, off_t count) {
  return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, count);
}
int sys_sync_file_range(int fd, off_t offset, off_t count) {
  return sync_file_range(fd, offset, count, SYNC_FILE_RANGE_WRITE);
}
void sys_trim_memory(void) { malloc_trim(0); }
int sys_is_regular(unsigned mode) { return S_ISREG(mode); }
int sys_is_directory(unsigned mode) { return S_ISDIR(mode); }
int sys_is_socket(unsigned mode) { return S_ISSOCK(mode); }
int64_t sys_free_bytes(const char *path) {
  struct statvfs s;
  if (statvfs(path, &s) != 0) return -1;
  return (int64_t)s.f_bavail * (int64_t)s.f_frsize;
}
int sys_exit_status(int status) {
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  if (WIFSIGNALED(status)) return 128 + WTERMSIG(status);
  return -1;
}
int sys_raise_open_files(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return -1;
  limit.rlim_cur = limit.rlim_max;
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0) return -1;
  return limit.rlim_cur > 1 << 30 ? 1 << 30 : (int)limit.rlim_cur;
}
int64_t sys_cpu_ns(void) {
  struct timespec t;
  if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) != 0) return -1;
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t sys_file_system(const char *path) {
  struct statfs info;
  return statfs(path, &info) == 0 ? (int64_t)(uint32_t)info.f_type : -1;
}

struct thread_start {
  char name[16];
  void (*body)(void *);
  void *context;
};
static void *run_thread(void *argument) {
  struct thread_start start = *(struct thread_start *)argument;
  free(argument);
  pthread_setname_np(pthread_self(), start.name);
  start.body(start.context);
  return NULL;
}
int sys_start_thread(const char *name, size_t stack_bytes, void (*body)(void *), void *context) {
  struct thread_start *start = malloc(sizeof *start);
  if (start == NULL) return ENOMEM;
  strncpy(start->name, name, 15);
  start->name[15] = 0;
  start->body = body;
  start->context = context;
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, stack_bytes);
  pthread_t thread;
  int result = pthread_create(&thread, &attributes, run_thread, start);
  pthread_attr_destroy(&attributes);
  if (result != 0) free(start);
  return result;
}

int sys_notify(const char *path, const void *bytes, size_t count) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  size_t length = strlen(path);
  if (length == 0 || length >= sizeof address.sun_path) {
    errno = EINVAL;
    return -1;
  }
  memcpy(address.sun_path, path, length);
  if (path[0] == '@') address.sun_path[0] = 0;
  int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  ssize_t sent = sendto(fd, bytes, count, 0, (struct sockaddr *)&address,
                        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
  int code = errno;
  close(fd);
  errno = code;
  return sent < 0 ? -1 : 0;
}

void sys_keep_freed_memory(int bytes) {
  mallopt(M_MMAP_THRESHOLD, bytes);
  mallopt(M_TRIM_THRESHOLD, bytes);
}
