//  A load generator for 127.0.0.1: sends the lines of a file over TCP, as Beats windows (Lumberjack 2) or as HTTP bodies,
//  and waits until the peer has answered for all of them.
//
//    sender tcp   --port N [--connections N] FILE
//    sender beats --port N [--connections N] [--window N] [--compress LEVEL] [--in-flight N] [--payload raw|filebeat] FILE
//    sender http  --port N [--connections N] [--batch N] [--array] [--gzip] [--path PATH] [--type TYPE] FILE
//    all of them: [--limit LINES] [--repeat N] [--timeout SECONDS]
//
//  Everything that goes over the wire is made before the clock starts, so that its CPU time is not taken from the peer while
//  it is measured; the memory for it is bounded by --limit. The result is one JSON line: events, acknowledged, bytes,
//  start_ns (CLOCK_MONOTONIC), seconds, events_per_second, cpu_seconds, and the time from a window's or request's last
//  byte to its answer (milliseconds, median and 99th percentile). Exit status 1 when the peer closes early, breaks the
//  protocol, answers with another status than 2xx, or is not done after --timeout.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

enum mode { tcp, beats, http };
enum { connection_limit = 256, in_flight_limit = 64, window_limit = 100000 };

/// What is sent in one go and answered in one go: a Beats window, an HTTP request, or a connection's share of the lines.
struct unit {
  char *bytes;
  size_t count;
  uint32_t events;
  float answer_ms;
};

struct text {
  char *bytes;
  size_t count, capacity;
};

static struct {
  enum mode mode;
  unsigned port, connections, window, in_flight, batch, timeout;
  int compression;
  bool raw, array, gzip;
  long limit, repeats;
  const char *path, *type;
} options = {.connections = 1, .window = 2048, .in_flight = 2, .batch = 500, .timeout = 600, .repeats = 1, .path = "/"};

static struct unit *units;
static size_t unit_count, unit_capacity;
static _Atomic long sent_events, acknowledged_events, sent_bytes;

static int64_t monotonic_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void __attribute__((noreturn)) fail(const char *what) {
  fprintf(stderr, "sender: %s\n", what);
  exit(1);
}

static void __attribute__((noreturn)) fail_system(const char *what) {
  fprintf(stderr, "sender: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void *allocate(void *old, size_t count) {
  void *new = realloc(old, count);
  if (!new) fail("not enough memory; give a lower --limit");
  return new;
}

static char *reserve(struct text *text, size_t more) {
  if (text->capacity - text->count < more) {
    size_t capacity = text->capacity ? text->capacity * 2 : 1 << 20;
    while (capacity < text->count + more) capacity *= 2;
    text->bytes = allocate(text->bytes, text->capacity = capacity);
  }
  return text->bytes + text->count;
}

static void append(struct text *text, const char *bytes, size_t count) {
  memcpy(reserve(text, count), bytes, count);
  text->count += count;
}

static void append_string(struct text *text, const char *string) { append(text, string, strlen(string)); }

static void put32(char *at, uint32_t value) {
  value = htonl(value);
  memcpy(at, &value, sizeof value);
}

static void add_unit(char *bytes, size_t count, uint32_t events) {
  if (unit_count == unit_capacity) {
    unit_capacity = unit_capacity ? unit_capacity * 2 : 1024;
    units = allocate(units, unit_capacity * sizeof *units);
  }
  units[unit_count++] = (struct unit){.bytes = bytes, .count = count, .events = events};
}

static void add_copy(const char *head, size_t head_count, const char *body, size_t body_count, uint32_t events) {
  char *bytes = allocate(NULL, head_count + body_count);
  memcpy(bytes, head, head_count);
  memcpy(bytes + head_count, body, body_count);
  add_unit(bytes, head_count + body_count, events);
}

// MARK: Making the units

static void append_escaped(struct text *text, const char *bytes, size_t count) {
  char *at = reserve(text, count * 6);
  for (size_t i = 0; i < count; i++) {
    unsigned char byte = (unsigned char)bytes[i];
    if (byte == '"' || byte == '\\') {
      *at++ = '\\';
      *at++ = (char)byte;
    } else if (byte < 0x20) {
      at += sprintf(at, "\\u%04x", byte);
    } else {
      *at++ = (char)byte;
    }
  }
  text->count = (size_t)(at - text->bytes);
}

/// The event that Filebeat makes of a line: its fields and their order, about 430 bytes beside the line.
static void append_filebeat_event(struct text *text, const char *line, size_t count, long offset) {
  char number[48];
  append_string(text, "{\"@timestamp\":\"2026-03-02T06:00:00.000Z\",\"@metadata\":{\"beat\":\"filebeat\",\"type\":\"_doc\","
                      "\"version\":\"8.17.0\"},\"log\":{\"offset\":");
  append(text, number, (size_t)sprintf(number, "%ld", offset));
  append_string(text, ",\"file\":{\"path\":\"/var/log/aura/app.log\"}},\"message\":\"");
  append_escaped(text, line, count);
  append_string(text, "\",\"input\":{\"type\":\"filestream\"},\"ecs\":{\"version\":\"8.0.0\"},\"host\":{\"name\":\"bench-01\"},"
                      "\"agent\":{\"type\":\"filebeat\",\"version\":\"8.17.0\",\"name\":\"bench-01\","
                      "\"id\":\"5f0c7a52-93d1-4d0a-8e61-0c3f2f6f9b11\",\"ephemeral_id\":\"c6a8e5b4-7a07-4ce3-9d0b-2b7d6f1e4a90\"}}");
}

static void add_window(const struct text *frames, uint32_t events) {
  char head[12] = "2W";
  put32(head + 2, events);
  if (!options.compression) return add_copy(head, 6, frames->bytes, frames->count, events);
  uLongf packed_count = compressBound(frames->count);
  char *packed = allocate(NULL, packed_count);
  if (compress2((Bytef *)packed, &packed_count, (const Bytef *)frames->bytes, frames->count, options.compression) != Z_OK)
    fail("zlib refuses");
  memcpy(head + 6, "2C", 2);
  put32(head + 8, (uint32_t)packed_count);
  add_copy(head, 12, packed, packed_count, events);
  free(packed);
}

static void add_request(const struct text *body, uint32_t events) {
  const char *bytes = body->bytes;
  size_t count = body->count;
  char *packed = NULL, head[1024];
  if (options.gzip) {
    z_stream deflater = {0};
    if (deflateInit2(&deflater, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) fail("zlib refuses");
    size_t capacity = deflateBound(&deflater, count);
    packed = allocate(NULL, capacity);
    deflater.next_in = (Bytef *)bytes;
    deflater.avail_in = (uInt)count;
    deflater.next_out = (Bytef *)packed;
    deflater.avail_out = (uInt)capacity;
    if (deflate(&deflater, Z_FINISH) != Z_STREAM_END) fail("zlib refuses");
    bytes = packed;
    count = deflater.total_out;
    deflateEnd(&deflater);
  }
  const char *type = options.type ? options.type : options.array ? "application/json" : "application/x-ndjson";
  int head_count = snprintf(
      head, sizeof head, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nContent-Type: %s\r\n%sContent-Length: %zu\r\n\r\n",
      options.path, options.port, type, options.gzip ? "Content-Encoding: gzip\r\n" : "", count);
  if (head_count < 0 || (size_t)head_count >= sizeof head) fail("--path or --type is too long");
  add_copy(head, (size_t)head_count, bytes, count, events);
  free(packed);
}

/// Cuts the file into units of `per_unit` lines.
static void make_units(const char *file, size_t file_count, unsigned per_unit) {
  struct text text = {0};
  const char *at = file, *end = file + file_count;
  long lines = 0;
  while (at < end && lines < options.limit) {
    uint32_t events = 0;
    text.count = 0;
    if (options.mode == http && options.array) append(&text, "[", 1);
    for (; at < end && events < per_unit && lines < options.limit; lines++) {
      const char *line_end = memchr(at, '\n', (size_t)(end - at));
      if (!line_end) line_end = end;
      size_t count = (size_t)(line_end - at);
      if (options.mode == beats) {
        size_t frame = text.count;
        reserve(&text, 10);
        text.count += 10;
        if (options.raw) append(&text, at, count);
        else append_filebeat_event(&text, at, count, (long)(at - file));
        memcpy(text.bytes + frame, "2J", 2);
        put32(text.bytes + frame + 2, events + 1);
        put32(text.bytes + frame + 6, (uint32_t)(text.count - frame - 10));
      } else {
        if (options.array && events) append(&text, ",", 1);
        append(&text, at, count);
        if (!options.array) append(&text, "\n", 1);
      }
      events++;
      at = line_end + 1;
    }
    if (options.mode == http && options.array) append(&text, "]", 1);
    if (options.mode == beats) add_window(&text, events);
    else add_request(&text, events);
  }
  free(text.bytes);
}

/// Gives each connection an equal run of whole lines; nothing is copied.
static void share_lines(char *file, size_t file_count) {
  char *end = file, *at = file;
  for (long lines = 0; end < file + file_count && lines < options.limit; lines++) {
    char *newline = memchr(end, '\n', (size_t)(file + file_count - end));
    end = newline ? newline + 1 : file + file_count;
  }
  size_t total = (size_t)(end - file);
  for (unsigned i = 0; i < options.connections; i++) {
    char *stop = i + 1 == options.connections ? end : file + total / options.connections * (i + 1);
    if (stop < at) stop = at;
    while (stop < end && stop > file && stop[-1] != '\n') stop++;
    uint32_t events = 0;
    for (char *line = at; line < stop; events++) {
      char *newline = memchr(line, '\n', (size_t)(stop - line));
      line = newline ? newline + 1 : stop;
    }
    add_unit(at, (size_t)(stop - at), events);
    at = stop;
  }
}

// MARK: Sending

static int connect_peer(void) {
  struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
  if (descriptor < 0) fail_system("socket");
  if (connect(descriptor, (struct sockaddr *)&peer, sizeof peer)) fail_system("connect");
  setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return descriptor;
}

static void send_unit(int descriptor, const struct unit *unit) {
  for (size_t at = 0; at < unit->count;) {
    size_t part = unit->count - at < 1 << 20 ? unit->count - at : 1 << 20;
    ssize_t count = send(descriptor, unit->bytes + at, part, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_system("send");
    at += (size_t)count;
  }
  sent_events += unit->events;
  sent_bytes += (long)unit->count;
}

static size_t receive(int descriptor, char *bytes, size_t limit) {
  ssize_t count;
  do count = recv(descriptor, bytes, limit, 0);
  while (count < 0 && errno == EINTR);
  if (count < 0) fail_system("receive");
  return (size_t)count;
}

/// Reads acknowledgements until the oldest window has its last one. Keep-alives (0) and partial ones only go by.
static void await_window(int descriptor, const struct unit *unit) {
  for (uint32_t acknowledged = 0; acknowledged < unit->events;) {
    char frame[6];
    for (size_t at = 0; at < sizeof frame;) {
      size_t count = receive(descriptor, frame + at, sizeof frame - at);
      if (!count) fail("the peer closed before it had acknowledged every window");
      at += count;
    }
    uint32_t sequence;
    memcpy(&sequence, frame + 2, sizeof sequence);
    sequence = ntohl(sequence);
    if (frame[0] != '2' || frame[1] != 'A' || sequence > unit->events) fail("the peer sent something that is no acknowledgement");
    if (sequence > acknowledged) acknowledged = sequence;
  }
}

static void await_response(int descriptor) {
  char head[16384 + 1], *end;
  size_t count = 0;
  do {
    size_t part = receive(descriptor, head + count, sizeof head - 1 - count);
    if (!part) fail("the peer closed before it had answered");
    count += part;
    head[count] = 0;
  } while (!(end = memmem(head, count, "\r\n\r\n", 4)) && count < sizeof head - 1);
  if (!end) fail("the peer's answer has a head above 16 KiB");
  if (strncmp(head, "HTTP/1.", 7) || head[8] != ' ') fail("the peer's answer is no HTTP");
  if (head[9] != '2') {
    head[strcspn(head, "\r\n")] = 0;
    fail(head);
  }
  char *field = strcasestr(head, "\r\ncontent-length:");
  if (!field || field > end) fail("the peer's answer has no Content-Length");
  size_t length = strtoull(field + 17, NULL, 10), have = count - (size_t)(end + 4 - head);
  for (char rest[16384]; have < length;) {
    size_t part = receive(descriptor, rest, length - have < sizeof rest ? length - have : sizeof rest);
    if (!part) fail("the peer closed within its answer");
    have += part;
  }
}

static void *run_connection(void *argument) {
  size_t first = (size_t)(uintptr_t)argument, step = options.connections;
  int descriptor = connect_peer();
  for (long round = 0; round < options.repeats; round++) {
    if (options.mode == tcp) {
      send_unit(descriptor, &units[first]);
      continue;
    }
    unsigned flight_limit = options.mode == beats ? options.in_flight : 1;
    int64_t sent_at[in_flight_limit];
    size_t oldest = first, next = first;
    while (oldest < unit_count) {
      if (next < unit_count && (next - oldest) / step < flight_limit) {
        send_unit(descriptor, &units[next]);
        sent_at[(next / step) % in_flight_limit] = monotonic_ns();
        next += step;
        continue;
      }
      if (options.mode == beats) await_window(descriptor, &units[oldest]);
      else await_response(descriptor);
      units[oldest].answer_ms = (float)((double)(monotonic_ns() - sent_at[(oldest / step) % in_flight_limit]) / 1e6);
      acknowledged_events += units[oldest].events;
      oldest += step;
    }
  }
  if (options.mode == tcp) {
    // TCP has no acknowledgement of its own: that the peer has read to the end is all that can be waited for.
    char rest[256];
    shutdown(descriptor, SHUT_WR);
    while (receive(descriptor, rest, sizeof rest)) continue;
  }
  close(descriptor);
  return NULL;
}

// MARK: Options and result

static int by_time(const void *left, const void *right) {
  float a = ((const struct unit *)left)->answer_ms, b = ((const struct unit *)right)->answer_ms;
  return (a > b) - (a < b);
}

static double cpu_seconds(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void out_of_time(int signal_number) {
  static const char text[] = "sender: the peer is not done within --timeout\n";
  (void)signal_number;
  if (write(2, text, sizeof text - 1)) {}
  _exit(1);
}

static unsigned number(const char *text, unsigned least, unsigned most) {
  char *end;
  errno = 0;
  unsigned long value = strtoul(text, &end, 10);
  if (*text < '0' || *text > '9' || *end || errno || value < least || value > most) {
    fprintf(stderr, "sender: '%s' is no number from %u to %u\n", text, least, most);
    exit(2);
  }
  return (unsigned)value;
}

static void __attribute__((noreturn)) usage(void) {
  fprintf(stderr, "usage: sender tcp|beats|http --port N [options] FILE   (the options stand at the top of sender.c)\n");
  exit(2);
}

static char *map_file(const char *path, size_t *count) {
  struct stat status;
  int descriptor = open(path, O_RDONLY | O_CLOEXEC);
  if (descriptor < 0 || fstat(descriptor, &status)) fail_system(path);
  if (!status.st_size) fail("the file is empty");
  *count = (size_t)status.st_size;
  char *bytes = mmap(NULL, *count, PROT_READ, MAP_PRIVATE | MAP_POPULATE, descriptor, 0);
  if (bytes == MAP_FAILED) fail_system("mmap");
  return bytes;
}

int main(int argument_count, char **arguments) {
  static const struct option known[] = {
      {"port", required_argument, NULL, 'p'},      {"connections", required_argument, NULL, 'c'},
      {"window", required_argument, NULL, 'w'},    {"compress", required_argument, NULL, 'z'},
      {"in-flight", required_argument, NULL, 'f'}, {"payload", required_argument, NULL, 'l'},
      {"batch", required_argument, NULL, 'b'},     {"array", no_argument, NULL, 'a'},
      {"gzip", no_argument, NULL, 'g'},            {"path", required_argument, NULL, 'u'},
      {"type", required_argument, NULL, 't'},      {"limit", required_argument, NULL, 'n'},
      {"repeat", required_argument, NULL, 'r'},    {"timeout", required_argument, NULL, 's'},
      {NULL, 0, NULL, 0}};
  if (argument_count < 3) usage();
  if (!strcmp(arguments[1], "tcp")) options.mode = tcp;
  else if (!strcmp(arguments[1], "beats")) options.mode = beats;
  else if (!strcmp(arguments[1], "http")) options.mode = http;
  else usage();
  options.limit = 1l << 40;
  int option;
  optind = 2;
  while ((option = getopt_long(argument_count, arguments, "", known, NULL)) != -1) switch (option) {
    case 'p': options.port = number(optarg, 1, 65535); break;
    case 'c': options.connections = number(optarg, 1, connection_limit); break;
    case 'w': options.window = number(optarg, 1, window_limit); break;
    case 'z': options.compression = (int)number(optarg, 0, 9); break;
    case 'f': options.in_flight = number(optarg, 1, in_flight_limit); break;
    case 'l':
      if (strcmp(optarg, "raw") && strcmp(optarg, "filebeat")) usage();
      options.raw = *optarg == 'r';
      break;
    case 'b': options.batch = number(optarg, 1, window_limit); break;
    case 'a': options.array = true; break;
    case 'g': options.gzip = true; break;
    case 'u': options.path = optarg; break;
    case 't': options.type = optarg; break;
    case 'n': options.limit = number(optarg, 1, 1000000000); break;
    case 'r': options.repeats = number(optarg, 1, 1000000); break;
    case 's': options.timeout = number(optarg, 1, 86400); break;
    default: usage();
    }
  if (!options.port || optind + 1 != argument_count) usage();
  size_t count;
  char *file = map_file(arguments[optind], &count);
  if (options.mode == tcp) share_lines(file, count);
  else make_units(file, count, options.mode == beats ? options.window : options.batch);

  signal(SIGPIPE, SIG_IGN);
  signal(SIGALRM, out_of_time);
  alarm(options.timeout);
  pthread_t threads[connection_limit];
  double cpu = cpu_seconds();
  int64_t start = monotonic_ns();
  for (unsigned i = 0; i < options.connections; i++)
    if (pthread_create(&threads[i], NULL, run_connection, (void *)(uintptr_t)i)) fail("a thread does not start");
  for (unsigned i = 0; i < options.connections; i++) pthread_join(threads[i], NULL);
  double seconds = (double)(monotonic_ns() - start) / 1e9;
  cpu = cpu_seconds() - cpu;
  qsort(units, unit_count, sizeof *units, by_time);
  printf("{\"events\":%ld,\"acknowledged\":%ld,\"bytes\":%ld,\"start_ns\":%lld,\"seconds\":%.4f,\"events_per_second\":%.0f,"
         "\"cpu_seconds\":%.3f,\"answer_ms_median\":%.2f,\"answer_ms_99\":%.2f}\n",
         sent_events, acknowledged_events, sent_bytes, (long long)start, seconds, (double)sent_events / seconds, cpu,
         (double)units[unit_count / 2].answer_ms, (double)units[unit_count - 1 - unit_count / 100].answer_ms);
  return 0;
}
