//  A null Elasticsearch. It takes bulk requests as fast as one core can read them, counts the documents and answers each
//  action as Elasticsearch would, so that what a benchmark measures is the sender. It listens on 127.0.0.1 alone.
//
//    nullsink [--port N] [--items short|full|none] [--latency MS] [--max-body BYTES] [--dump FILE] [--dump-max BYTES]
//
//  Port 0 takes a free one; the first line of standard output is `listening 127.0.0.1:PORT`. `GET /_stats` gives the counts,
//  `POST /_reset` starts them anew. `--latency` holds every bulk answer back without using CPU time. `--dump` keeps the
//  inflated bodies of all connections, one after another, up to `--dump-max` bytes.
//
//  One thread, level-triggered epoll. A connection owns its head buffer, its inflated body and the unsent rest of its
//  answer; while an answer is outstanding nothing is read from it, so each buffer has one user and one limit.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

enum { head_limit = 16384, read_size = 512 * 1024, connection_limit = 1024 };
enum item_style { items_short, items_full, items_none };
enum stage { reading_head, reading_body, reading_chunk_size, reading_chunk, reading_chunk_end, reading_trailer, answering };

struct buffer {
  char *bytes;
  size_t count, capacity;
};

struct connection {
  int descriptor;
  enum stage stage;
  char head[head_limit + 1];
  size_t head_count;
  bool is_bulk, is_head_request, is_chunked, is_compressed, closes, inflating, failed;
  size_t remaining;         // of the body or of the present chunk, in bytes on the wire
  char size_line[32];       // the hexadecimal size of a chunk
  size_t size_count, trailer_count;
  z_stream inflater;
  struct buffer body, answer;
  size_t answer_sent;
  int64_t answer_due;       // monotonic nanoseconds; 0 when the answer may go at once
  int slot;
};

static struct {
  long documents, requests, refused, connections;
  long body_bytes, wire_bytes;
  int64_t first_ns, last_ns;
} counts;

static struct {
  enum item_style items;
  int64_t latency_ns;
  size_t body_limit;
  int dump;
  size_t dump_left;
} options = {.items = items_short, .body_limit = 256u << 20, .dump = -1, .dump_left = SIZE_MAX};

static struct connection *connections[connection_limit];
static int poller;
static char read_buffer[read_size];
static volatile sig_atomic_t stopping;

static int64_t monotonic_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void fail(const char *what) {
  fprintf(stderr, "nullsink: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void reserve(struct buffer *buffer, size_t more) {
  if (buffer->capacity - buffer->count >= more) return;
  size_t capacity = buffer->capacity ? buffer->capacity * 2 : 65536;
  while (capacity < buffer->count + more) capacity *= 2;
  buffer->bytes = realloc(buffer->bytes, capacity);
  if (!buffer->bytes) fail("memory");
  buffer->capacity = capacity;
}

static void append(struct buffer *buffer, const char *bytes, size_t count) {
  reserve(buffer, count);
  memcpy(buffer->bytes + buffer->count, bytes, count);
  buffer->count += count;
}

static void append_text(struct buffer *buffer, const char *text) { append(buffer, text, strlen(text)); }

// MARK: Answers

static void watch(struct connection *it) {
  bool is_unsent = it->answer_sent < it->answer.count;
  bool waits = it->stage == answering;
  struct epoll_event event = {.data.ptr = it};
  event.events = it->answer_due ? 0 : is_unsent ? EPOLLOUT : waits ? 0 : EPOLLIN;
  epoll_ctl(poller, EPOLL_CTL_MOD, it->descriptor, &event);
}

static void start_answer(struct connection *it, const char *status, size_t length) {
  char head[320];
  int count = snprintf(
      head, sizeof head,
      "HTTP/1.1 %s\r\nX-elastic-product: Elasticsearch\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n%s\r\n",
      status, length, it->closes ? "connection: close\r\n" : "");
  append(&it->answer, head, (size_t)count);
}

static void answer(struct connection *it, const char *status, const char *body) {
  start_answer(it, status, strlen(body));
  if (!it->is_head_request) append_text(&it->answer, body);
  it->stage = answering;
}

/// Refuses a request whose rest cannot be trusted or is not wanted; the connection ends behind the answer.
static void refuse(struct connection *it, const char *status, const char *type, const char *reason) {
  char body[400];
  int code = atoi(status);
  snprintf(body, sizeof body, "{\"error\":{\"type\":\"%s\",\"reason\":\"%s\"},\"status\":%d}", type, reason, code);
  counts.refused++;
  it->closes = true;
  answer(it, status, body);
}

// MARK: Bulk bodies

struct action {
  const char *name;
  int status;
  const char *result;
  bool has_source;
};
static const struct action actions[] = {
    {"create", 201, "created", true},
    {"index", 201, "created", true},
    {"update", 200, "updated", true},
    {"delete", 200, "deleted", false},
};

/// The action that a line such as `{"create":{"_index":"a"}}` asks for; NULL where it is none.
static const struct action *find_action(const char *line, const char *end) {
  while (line < end && (*line == ' ' || *line == '\t')) line++;
  if (line == end || *line++ != '{') return NULL;
  while (line < end && *line == ' ') line++;
  if (line == end || *line++ != '"') return NULL;
  for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
    size_t count = strlen(actions[i].name);
    if ((size_t)(end - line) > count && !memcmp(line, actions[i].name, count) && line[count] == '"') return &actions[i];
  }
  return NULL;
}

/// The text behind `"key":"` within a line, still escaped as it was sent, so that it can be echoed as it is.
static size_t find_text(const char *line, const char *end, const char *key, const char **text) {
  char wanted[32];
  int count = snprintf(wanted, sizeof wanted, "\"%s\"", key);
  const char *at = memmem(line, (size_t)(end - line), wanted, (size_t)count);
  if (!at) return 0;
  at += count;
  while (at < end && (*at == ' ' || *at == ':')) at++;
  if (at == end || *at++ != '"') return 0;
  const char *stop = at;
  while (stop < end && *stop != '"') stop += *stop == '\\' && stop + 1 < end ? 2 : 1;
  *text = at;
  return (size_t)(stop - at);
}

static void append_item(struct buffer *items, const struct action *action, const char *line, const char *end, long number) {
  char text[256];
  if (options.items == items_short) {
    append(items, text, (size_t)snprintf(text, sizeof text, "{\"%s\":{\"status\":%d}}", action->name, action->status));
    return;
  }
  const char *index = "null", *id = NULL;
  size_t index_count = find_text(line, end, "_index", &index), id_count = find_text(line, end, "_id", &id);
  append(items, text, (size_t)snprintf(text, sizeof text, "{\"%s\":{\"_index\":\"", action->name));
  append(items, index, index_count);
  append_text(items, "\",\"_id\":\"");
  if (id_count) append(items, id, id_count);
  else append(items, text, (size_t)snprintf(text, sizeof text, "null-%ld", number));
  append(items, text, (size_t)snprintf(
      text, sizeof text,
      "\",\"_version\":1,\"result\":\"%s\",\"_shards\":{\"total\":1,\"successful\":1,\"failed\":0},"
      "\"_seq_no\":%ld,\"_primary_term\":1,\"status\":%d}}",
      action->result, number, action->status));
}

static void finish_bulk(struct connection *it) {
  static struct buffer items;  // one thread: every answer is copied out before the next one starts
  items.count = 0;
  append_text(&items, "{\"took\":1,\"errors\":false,\"items\":[");
  const char *at = it->body.bytes, *end = at + it->body.count;
  if (!it->body.count) return refuse(it, "400 Bad Request", "parse_exception", "request body is required");
  if (end[-1] != '\n')
    return refuse(it, "400 Bad Request", "illegal_argument_exception", "The bulk request must be terminated by a newline [\\\\n]");
  long documents = 0;
  while (at < end) {
    const char *line_end = memchr(at, '\n', (size_t)(end - at));  // the last byte is a newline, so there is one
    if (line_end == at || (line_end == at + 1 && *at == '\r')) { at = line_end + 1; continue; }
    const struct action *action = find_action(at, line_end);
    if (!action)
      return refuse(it, "400 Bad Request", "illegal_argument_exception", "Malformed action/metadata line");
    const char *next = line_end + 1;
    if (action->has_source) {
      if (next == end) return refuse(it, "400 Bad Request", "illegal_argument_exception", "An action has no document");
      next = (const char *)memchr(next, '\n', (size_t)(end - next)) + 1;
    }
    if (options.items != items_none) {
      if (documents) append(&items, ",", 1);
      append_item(&items, action, at, line_end, counts.documents + documents);
    }
    documents++;
    at = next;
  }
  append_text(&items, "]}");
  counts.documents += documents;
  counts.requests++;
  counts.body_bytes += (long)it->body.count;
  counts.last_ns = monotonic_ns();
  if (!counts.first_ns) counts.first_ns = counts.last_ns;
  if (options.dump >= 0 && options.dump_left) {
    size_t count = it->body.count < options.dump_left ? it->body.count : options.dump_left;
    if (write(options.dump, it->body.bytes, count) != (ssize_t)count) fail("dump");
    options.dump_left -= count;
  }
  start_answer(it, "200 OK", items.count);
  append(&it->answer, items.bytes, items.count);
  it->stage = answering;
  if (options.latency_ns) it->answer_due = counts.last_ns + options.latency_ns;
}

// MARK: Requests

static bool path_is(const struct connection *it, const char *path) {
  const char *at = strchr(it->head, ' ');
  size_t count = strlen(path);
  return at && !strncmp(at + 1, path, count) && (at[1 + count] == ' ' || at[1 + count] == '?');
}

static bool path_ends_bulk(const struct connection *it) {
  const char *at = strchr(it->head, ' ');
  if (!at) return false;
  size_t count = strcspn(++at, " ?");
  return count >= 6 && !memcmp(at + count - 6, "/_bulk", 6);
}

static void finish_request(struct connection *it) {
  if (it->inflating) {
    inflateEnd(&it->inflater);
    it->inflating = false;
  }
  if (it->is_bulk) return finish_bulk(it);
  if (path_is(it, "/_stats")) {
    char body[640];
    snprintf(
        body, sizeof body,
        "{\"_all\":{\"primaries\":{\"docs\":{\"count\":%ld}}},\"documents\":%ld,\"requests\":%ld,\"refused\":%ld,"
        "\"body_bytes\":%ld,\"wire_bytes\":%ld,\"first_ns\":%lld,\"last_ns\":%lld,\"connections\":%ld}",
        counts.documents, counts.documents, counts.requests, counts.refused, counts.body_bytes, counts.wire_bytes,
        (long long)counts.first_ns, (long long)counts.last_ns, counts.connections);
    return answer(it, "200 OK", body);
  }
  if (path_is(it, "/_reset")) {
    memset(&counts, 0, sizeof counts);
    return answer(it, "200 OK", "{\"acknowledged\":true}");
  }
  if (path_is(it, "/_license")) return answer(it, "200 OK", "{\"license\":{\"status\":\"active\",\"type\":\"basic\"}}");
  if (path_is(it, "/_cluster/health"))
    return answer(it, "200 OK", "{\"cluster_name\":\"nullsink\",\"status\":\"green\",\"number_of_nodes\":1}");
  if (path_is(it, "/"))
    return answer(it, "200 OK",
        "{\"name\":\"nullsink\",\"cluster_name\":\"nullsink\",\"cluster_uuid\":\"bnVsbHNpbmstYmVuY2htYQ\","
        "\"version\":{\"number\":\"8.14.3\",\"build_flavor\":\"default\",\"lucene_version\":\"9.10.0\","
        "\"minimum_wire_compatibility_version\":\"7.17.0\",\"minimum_index_compatibility_version\":\"7.0.0\"},"
        "\"tagline\":\"You Know, for Search\"}");
  answer(it, "200 OK", "{\"acknowledged\":true}");
}

/// The value of a header, with the blanks before it skipped; NULL where it is missing. Ends at a carriage return.
static const char *header(const struct connection *it, const char *name) {
  size_t count = strlen(name);
  for (const char *at = it->head; (at = strstr(at, "\r\n"));) {
    at += 2;
    if (strncasecmp(at, name, count) || at[count] != ':') continue;
    at += count + 1;
    while (*at == ' ' || *at == '\t') at++;
    return at;
  }
  return NULL;
}

static void begin_body(struct connection *it) {
  const char *value;
  it->is_head_request = !strncmp(it->head, "HEAD ", 5);
  it->is_bulk = path_ends_bulk(it) && (!strncmp(it->head, "POST ", 5) || !strncmp(it->head, "PUT ", 4));
  it->closes = (value = header(it, "connection")) && !strncasecmp(value, "close", 5);
  it->is_chunked = (value = header(it, "transfer-encoding")) && !strncasecmp(value, "chunked", 7);
  it->is_compressed = false;
  it->remaining = 0;
  it->body.count = 0;
  if ((value = header(it, "content-encoding")) && strncasecmp(value, "identity", 8)) {
    if (strncasecmp(value, "gzip", 4) && strncasecmp(value, "deflate", 7))
      return refuse(it, "415 Unsupported Media Type", "media_type_exception", "unknown content encoding");
    it->is_compressed = true;
    memset(&it->inflater, 0, sizeof it->inflater);
    if (inflateInit2(&it->inflater, 15 + 32) != Z_OK) fail("zlib");
    it->inflating = true;
  }
  if (!it->is_chunked && (value = header(it, "content-length"))) {
    char *end;
    unsigned long long length = strtoull(value, &end, 10);
    if (*value < '0' || *value > '9' || *end != '\r')
      return refuse(it, "400 Bad Request", "parse_exception", "Content-Length is no number");
    if (length > options.body_limit)
      return refuse(it, "413 Content Too Large", "content_too_long_exception", "the body is above --max-body");
    it->remaining = (size_t)length;
  }
  if ((value = header(it, "expect")) && !strncasecmp(value, "100-continue", 12)) {
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
    if (send(it->descriptor, text, sizeof text - 1, MSG_NOSIGNAL) < 0) it->failed = true;
  }
  it->size_count = it->trailer_count = 0;
  it->stage = it->is_chunked ? reading_chunk_size : reading_body;
  if (!it->is_chunked && !it->remaining) finish_request(it);
}

/// Adds `count` bytes of the wire to the body, inflated where need be.
static void take_body(struct connection *it, const char *bytes, size_t count) {
  counts.wire_bytes += (long)count;
  if (!it->is_compressed) {
    if (it->body.count + count > options.body_limit)
      return refuse(it, "413 Content Too Large", "content_too_long_exception", "the body is above --max-body");
    return append(&it->body, bytes, count);
  }
  it->inflater.next_in = (Bytef *)bytes;
  it->inflater.avail_in = (uInt)count;
  while (it->inflater.avail_in) {
    reserve(&it->body, 262144);
    it->inflater.next_out = (Bytef *)it->body.bytes + it->body.count;
    it->inflater.avail_out = (uInt)(it->body.capacity - it->body.count > 1u << 30 ? 1u << 30 : it->body.capacity - it->body.count);
    uInt before = it->inflater.avail_out;
    int result = inflate(&it->inflater, Z_NO_FLUSH);
    it->body.count += before - it->inflater.avail_out;
    if (it->body.count > options.body_limit)
      return refuse(it, "413 Content Too Large", "content_too_long_exception", "the inflated body is above --max-body");
    if (result == Z_STREAM_END) {
      if (it->inflater.avail_in) inflateReset(&it->inflater);  // a gzip body may have several members
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      return refuse(it, "400 Bad Request", "parse_exception", "the body does not inflate");
    }
  }
}

/// Feeds bytes through the request's stages. Returns how many were taken: all, unless an answer has to go first.
static size_t feed(struct connection *it, const char *bytes, size_t count) {
  size_t at = 0;
  while (at < count && it->stage != answering && !it->failed) {
    size_t rest = count - at;
    switch (it->stage) {
    case reading_head: {
      size_t room = head_limit - it->head_count, part = rest < room ? rest : room, from = it->head_count < 3 ? 0 : it->head_count - 3;
      memcpy(it->head + it->head_count, bytes + at, part);
      char *end = memmem(it->head + from, it->head_count + part - from, "\r\n\r\n", 4);
      if (!end) {
        it->head_count += part;
        at += part;
        if (it->head_count == head_limit) refuse(it, "431 Request Header Fields Too Large", "parse_exception", "head above 16 KiB");
        break;
      }
      at += (size_t)(end + 4 - it->head) - it->head_count;
      end[2] = 0;
      it->head_count = 0;
      begin_body(it);
      break;
    }
    case reading_body:
    case reading_chunk: {
      size_t part = rest < it->remaining ? rest : it->remaining;
      at += part;
      it->remaining -= part;
      take_body(it, bytes + at - part, part);
      if (it->stage == answering || it->remaining) break;
      if (it->stage == reading_body) finish_request(it);
      else it->stage = reading_chunk_end;
      break;
    }
    case reading_chunk_size: {
      char byte = bytes[at++];
      if (byte != '\n') {
        if (it->size_count == sizeof it->size_line - 1) { refuse(it, "400 Bad Request", "parse_exception", "chunk size"); break; }
        it->size_line[it->size_count++] = byte;
        break;
      }
      it->size_line[it->size_count] = 0;
      it->size_count = 0;
      it->remaining = strtoull(it->size_line, NULL, 16);
      if (it->remaining > options.body_limit) refuse(it, "413 Content Too Large", "content_too_long_exception", "chunk too long");
      else it->stage = it->remaining ? reading_chunk : reading_trailer;
      break;
    }
    case reading_chunk_end:
      if (bytes[at++] == '\n') it->stage = reading_chunk_size;
      break;
    case reading_trailer: {
      char byte = bytes[at++];
      if (byte == '\n') {
        if (!it->trailer_count) finish_request(it);
        it->trailer_count = 0;
      } else if (byte != '\r') {
        it->trailer_count++;
      }
      break;
    }
    case answering:
      break;
    }
  }
  return at;
}

// MARK: Connections

static void drop(struct connection *it) {
  if (it->inflating) inflateEnd(&it->inflater);
  connections[it->slot] = NULL;
  close(it->descriptor);
  free(it->body.bytes);
  free(it->answer.bytes);
  free(it);
}

/// Sends what is due. Returns false when the connection is at its end.
static bool flush(struct connection *it) {
  while (!it->answer_due && it->answer_sent < it->answer.count) {
    ssize_t sent = send(it->descriptor, it->answer.bytes + it->answer_sent, it->answer.count - it->answer_sent, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return errno == EAGAIN;
    it->answer_sent += (size_t)sent;
  }
  if (it->answer_due || it->stage != answering) return true;
  it->answer.count = it->answer_sent = 0;
  it->stage = reading_head;
  return !it->closes;
}

static bool receive(struct connection *it) {
  ssize_t count = recv(it->descriptor, read_buffer, read_size, 0);
  if (count < 0) return errno == EAGAIN || errno == EINTR;
  if (!count) return false;
  for (size_t at = 0; at < (size_t)count;) {
    at += feed(it, read_buffer + at, (size_t)count - at);
    if (it->failed) return false;
    // Requests behind an answer that cannot go now would need a store of their own; nobody who waits for answers sends them.
    if (it->stage == answering && !flush(it)) return false;
    if (it->stage == answering && at < (size_t)count) return false;
  }
  return true;
}

static void accept_all(int listener) {
  for (;;) {
    int descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1, slot = 0;
    if (descriptor < 0) return;
    while (slot < connection_limit && connections[slot]) slot++;
    struct connection *it = slot < connection_limit ? calloc(1, sizeof *it) : NULL;
    if (!it) {
      close(descriptor);
      continue;
    }
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    it->descriptor = descriptor;
    it->slot = slot;
    connections[slot] = it;
    counts.connections++;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = it};
    epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &event);
  }
}

/// Sends the answers whose latency is over and returns the milliseconds until the next one, -1 where none waits.
static int release_due(void) {
  if (!options.latency_ns) return -1;
  int64_t now = monotonic_ns(), next = INT64_MAX;
  for (int slot = 0; slot < connection_limit; slot++) {
    struct connection *it = connections[slot];
    if (!it || !it->answer_due) continue;
    if (it->answer_due > now) {
      if (it->answer_due < next) next = it->answer_due;
      continue;
    }
    it->answer_due = 0;
    if (flush(it)) watch(it);
    else drop(it);
  }
  return next == INT64_MAX ? -1 : (int)((next - now + 999999) / 1000000);
}

static void stop(int signal_number) {
  (void)signal_number;
  stopping = 1;
}

static unsigned long long number(const char *text, unsigned long long limit) {
  char *end;
  errno = 0;
  unsigned long long value = strtoull(text, &end, 10);
  if (*text < '0' || *text > '9' || *end || errno || value > limit) {
    fprintf(stderr, "nullsink: '%s' is no number from 0 to %llu\n", text, limit);
    exit(2);
  }
  return value;
}

int main(int argument_count, char **arguments) {
  static const struct option known[] = {
      {"port", required_argument, NULL, 'p'},     {"items", required_argument, NULL, 'i'},
      {"latency", required_argument, NULL, 'l'},  {"max-body", required_argument, NULL, 'b'},
      {"dump", required_argument, NULL, 'd'},     {"dump-max", required_argument, NULL, 'm'},
      {NULL, 0, NULL, 0}};
  unsigned port = 9200;
  int option;
  while ((option = getopt_long(argument_count, arguments, "", known, NULL)) != -1) switch (option) {
    case 'p': port = (unsigned)number(optarg, 65535); break;
    case 'l': options.latency_ns = (int64_t)number(optarg, 3600000) * 1000000; break;
    case 'b': options.body_limit = number(optarg, 1ull << 32); break;
    case 'm': options.dump_left = number(optarg, 1ull << 40); break;
    case 'd':
      options.dump = open(optarg, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
      if (options.dump < 0) fail(optarg);
      break;
    case 'i':
      if (!strcmp(optarg, "short")) options.items = items_short;
      else if (!strcmp(optarg, "full")) options.items = items_full;
      else if (!strcmp(optarg, "none")) options.items = items_none;
      else { fprintf(stderr, "nullsink: --items takes short, full or none\n"); return 2; }
      break;
    default: return 2;
    }
  if (optind != argument_count) { fprintf(stderr, "nullsink: it takes options only, not '%s'\n", arguments[optind]); return 2; }

  signal(SIGPIPE, SIG_IGN);
  struct sigaction action = {.sa_handler = stop};
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGINT, &action, NULL);
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
  if (listener < 0) fail("socket");
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 256)) fail("listen");
  if (getsockname(listener, (struct sockaddr *)&address, &length)) fail("getsockname");
  printf("listening 127.0.0.1:%u\n", ntohs(address.sin_port));
  fflush(stdout);

  poller = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event listening = {.events = EPOLLIN, .data.ptr = NULL}, ready[64];
  if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &listening)) fail("epoll");
  while (!stopping) {
    int count = epoll_wait(poller, ready, 64, release_due());
    for (int i = 0; i < count; i++) {
      struct connection *it = ready[i].data.ptr;
      if (!it) {
        accept_all(listener);
        continue;
      }
      bool lives = !(ready[i].events & EPOLLERR);
      if (lives && ready[i].events & EPOLLOUT) lives = flush(it);
      if (lives && ready[i].events & EPOLLIN && it->stage != answering) lives = receive(it);
      else if (lives && ready[i].events & EPOLLHUP && !(ready[i].events & EPOLLIN)) lives = false;
      if (lives) watch(it);
      else drop(it);
    }
  }
  return 0;
}
