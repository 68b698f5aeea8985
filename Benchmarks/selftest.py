#!/usr/bin/env python3
#  Checks the measuring tools against each other before anyone believes a figure: the sender against small servers written
#  here after the protocols, the null sink against requests made here. Takes a few seconds; script/check runs it.

import gzip
import http.server
import json
import pathlib
import socket
import socketserver
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import harness  # noqa: E402
from harness import WORK, Sink, Skip, fetch, send  # noqa: E402


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, handler):
        self.payloads, self.faults, self.lock = [], [], threading.Lock()
        super().__init__(("127.0.0.1", 0), handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def __exit__(self, *details):
        self.shutdown()
        self.server_close()

    @property
    def port(self):
        return self.server_address[1]

    def keep(self, payloads):
        with self.lock:
            self.payloads += payloads


class LumberjackHandler(socketserver.StreamRequestHandler):
    """Takes windows to pieces, and acknowledges each with a keep-alive and a partial acknowledgement before the last one."""

    def frames(self, read):
        kind = read(2)
        if kind == b"2C":
            yield from self.inflated(read(struct.unpack(">I", read(4))[0]))
        elif kind == b"2J":
            sequence, size = struct.unpack(">II", read(8))
            yield sequence, read(size)
        else:
            raise ValueError("frame %r" % kind)

    def inflated(self, packed):
        data, at = zlib.decompress(packed), 0

        def read(count):
            nonlocal at
            at += count
            return data[at - count:at]

        while at < len(data):
            yield from self.frames(read)

    def handle(self):
        while head := self.rfile.read(6):
            count = struct.unpack(">I", head[2:])[0]
            window = []
            while head[:2] == b"2W" and len(window) < count:
                window += self.frames(self.rfile.read)
            if [sequence for sequence, _ in window] != list(range(1, count + 1)):
                self.server.faults.append(head)
                return
            self.server.keep([payload for _, payload in window])
            for sequence in (0, count // 2, count):
                self.wfile.write(b"2A" + struct.pack(">I", sequence))


class SilentHandler(socketserver.StreamRequestHandler):
    """Reads a little and goes away without an acknowledgement."""

    def handle(self):
        self.rfile.read(6)


class LineHandler(socketserver.StreamRequestHandler):
    def handle(self):
        self.server.keep([line.rstrip(b"\n") for line in self.rfile])


class HTTPHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    status = 200

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if self.headers["Content-Type"] == "application/json":
            self.server.keep([json.dumps(item).encode() for item in json.loads(body)])
        else:
            self.server.keep(body.splitlines())
        self.send_response(self.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


class BusyHandler(HTTPHandler):
    status = 429


class SenderTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.file = tempfile.NamedTemporaryFile(dir=WORK, suffix=".jsonl")
        cls.lines = [json.dumps({"n": n, "text": 'a "b" \\ \u00e9 \t' * (n % 7)}, ensure_ascii=False).encode() for n in range(5003)]
        cls.file.write(b"\n".join(cls.lines) + b"\n")
        cls.file.flush()

    @classmethod
    def tearDownClass(cls):
        cls.file.close()

    def check(self, handler, *arguments, as_json=False):
        with Server(handler) as server:
            result = send(arguments[0], server.port, self.file.name, "--timeout", 30, *arguments[1:])
            self.assertEqual(server.faults, [])
            self.assertEqual(result["events"], len(self.lines))
            if arguments[0] != "tcp":
                self.assertEqual(result["acknowledged"], len(self.lines))
            key = (lambda line: json.dumps(json.loads(line), sort_keys=True)) if as_json else bytes
            self.assertEqual(sorted(map(key, server.payloads)), sorted(map(key, self.lines)))
            return result

    def test_every_line_arrives_over_tcp(self):
        self.check(LineHandler, "tcp", "--connections", 3)

    def test_every_window_arrives_plain_and_compressed(self):
        self.check(LumberjackHandler, "beats", "--payload", "raw", "--window", 100)
        self.check(LumberjackHandler, "beats", "--payload", "raw", "--window", 512, "--compress", 3, "--in-flight", 4, "--connections", 3)

    def test_filebeat_events_are_json_with_the_line_as_message(self):
        with Server(LumberjackHandler) as server:
            send("beats", server.port, self.file.name, "--payload", "filebeat", "--compress", 1)
            events = [json.loads(payload) for payload in server.payloads]
            self.assertEqual([event["message"].encode() for event in events], self.lines)

    def test_http_bodies_arrive_in_every_form(self):
        self.check(HTTPHandler, "http", "--batch", 300)
        self.check(HTTPHandler, "http", "--batch", 300, "--gzip", "--connections", 2)
        self.check(HTTPHandler, "http", "--batch", 300, "--array", as_json=True)

    def test_a_peer_that_leaves_or_refuses_is_an_error(self):
        for handler, arguments in ((SilentHandler, ["beats", "--window", 10]), (BusyHandler, ["http"])):
            with Server(handler) as server, self.assertRaises(Skip):
                send(arguments[0], server.port, self.file.name, "--timeout", 30, *arguments[1:])

    def test_a_peer_that_never_answers_ends_with_the_timeout(self):
        with socket.create_server(("127.0.0.1", 0)) as listener, self.assertRaises(Skip) as failure:
            send("beats", listener.getsockname()[1], self.file.name, "--limit", 10, "--timeout", 1)
        self.assertIn("--timeout", str(failure.exception))


class SinkTests(unittest.TestCase):
    def request(self, port, body, *headers, path="/_bulk"):
        head = ["POST %s HTTP/1.1" % path, "Host: x", "Connection: close", *headers]
        if not any(header.startswith("Transfer-Encoding") for header in headers):
            head.append("Content-Length: %d" % len(body))
        with socket.create_connection(("127.0.0.1", port), 10) as peer:
            peer.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
            answer = b""
            while part := peer.recv(65536):
                answer += part
        head, _, rest = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(rest)

    BODY = (b'{"create":{"_index":"aura-logs-2026.03.02","_id":"a\\"1"}}\n{"x":1}\n'
            b'{ "index" : {"_index":"b"} }\n{"create":2}\n{"delete":{"_index":"b","_id":"9"}}\n{"update":{"_id":"7"}}\n{"doc":{}}\n')

    def test_each_action_has_its_item(self):
        with Sink("--items", "full") as sink:
            status, answer = self.request(sink.port, self.BODY)
            self.assertEqual((status, answer["errors"]), (200, False))
            self.assertEqual([list(item) for item in answer["items"]], [["create"], ["index"], ["delete"], ["update"]])
            self.assertEqual(answer["items"][0]["create"]["_id"], 'a"1')
            self.assertEqual(answer["items"][0]["create"]["_index"], "aura-logs-2026.03.02")
            self.assertEqual([list(item.values())[0]["status"] for item in answer["items"]], [201, 201, 200, 200])
            self.assertEqual(sink.documents(), 4)

    def test_compressed_and_chunked_bodies_count_the_same(self):
        with Sink() as sink:
            self.assertEqual(len(self.request(sink.port, gzip.compress(self.BODY), "Content-Encoding: gzip")[1]["items"]), 4)
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (self.BODY[:7], self.BODY[7:90], self.BODY[90:])) + b"0\r\n\r\n"
            self.assertEqual(len(self.request(sink.port, chunks, "Transfer-Encoding: chunked")[1]["items"]), 4)
            stats = fetch(sink.port, "/_stats")
            self.assertEqual((stats["documents"], stats["requests"], stats["body_bytes"]), (8, 2, 2 * len(self.BODY)))
            fetch(sink.port, "/_reset", "POST")
            self.assertEqual(sink.documents(), 0)

    def test_bad_bodies_are_refused_and_not_counted(self):
        with Sink("--max-body", "1000") as sink:
            self.assertEqual(self.request(sink.port, self.BODY[:-1])[0], 400)
            self.assertEqual(self.request(sink.port, b"hello\n")[0], 400)
            self.assertEqual(self.request(sink.port, b'{"index":{}}\n')[0], 400)
            self.assertEqual(self.request(sink.port, b"")[0], 400)
            self.assertEqual(self.request(sink.port, b"no gzip at all", "Content-Encoding: gzip")[0], 400)
            self.assertEqual(self.request(sink.port, gzip.compress(self.BODY * 10), "Content-Encoding: gzip")[0], 413)
            self.assertEqual(self.request(sink.port, b"", "Content-Encoding: br")[0], 415)
            self.assertEqual((sink.documents(), fetch(sink.port, "/_stats")["refused"]), (0, 7))

    def test_the_root_names_an_elasticsearch(self):
        with Sink() as sink:
            self.assertTrue(fetch(sink.port, "/")["version"]["number"].startswith("8."))

    def test_latency_holds_answers_back_and_the_dump_keeps_the_bodies(self):
        with tempfile.NamedTemporaryFile(dir=WORK) as dump, Sink("--latency", "80", "--dump", dump.name) as sink:
            lines = WORK / "selftest.ndjson"
            lines.write_bytes(b'{"index":{}}\n{"a":1}\n' * 10)
            result = send("http", sink.port, lines, "--path", "/_bulk", "--batch", 10)
            self.assertGreaterEqual(result["answer_ms_median"], 79)
            self.assertEqual(sink.documents(), 10)
            self.assertEqual(pathlib.Path(dump.name).read_bytes(), lines.read_bytes())


class GeneratorTests(unittest.TestCase):
    def test_the_lines_have_their_sizes_and_parse(self):
        with tempfile.TemporaryDirectory(dir=WORK) as folder:
            subprocess.run([sys.executable, harness.BENCHMARKS / "generate.py", folder, "--events", "3000"], check=True, stdout=subprocess.DEVNULL)
            access = pathlib.Path(folder, "access.log").read_bytes().splitlines()
            django = pathlib.Path(folder, "django.jsonl").read_bytes().splitlines()
        self.assertEqual((len(access), len(django)), (3000, 3000))
        self.assertTrue(190 < sum(map(len, access)) / 3000 < 250, "access.log lines are about 220 bytes")
        self.assertTrue(620 < sum(map(len, django)) / 3000 < 720, "django.jsonl lines are about 670 bytes")
        pattern = rb'^[0-9.]+ - \S+ \[[^]]+\] "[A-Z]+ \S+ HTTP/[12]\.[01]" \d{3} (\d+|-) "[^"]*" "[^"]+"$'
        for line in access:
            self.assertRegex(line, pattern)
        self.assertEqual({len(json.loads(line)) for line in django}, {20})


if __name__ == "__main__":
    harness.build_tools()
    unittest.main()
