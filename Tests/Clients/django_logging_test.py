#!/usr/bin/env python3
#  config/django_logging.py against a small HTTP server: what a line holds, and that batches survive a busy server, a fork
#  and the end of the process. Django is not needed. script/check runs it.

import http.server
import importlib.util
import json
import logging
import logging.config
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import unittest

MODULE = pathlib.Path(__file__).resolve().parents[2] / "config" / "django_logging.py"
specification = importlib.util.spec_from_file_location("django_logging", MODULE)
django_logging = importlib.util.module_from_spec(specification)
sys.modules["django_logging"] = django_logging
specification.loader.exec_module(django_logging)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        if status == 200:
            self.server.events += [json.loads(line) for line in body.splitlines()]
        self.server.requests.append(status)
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def __init__(self, *statuses):
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses, self.events, self.requests = list(statuses), [], []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        self.url = "http://127.0.0.1:%d/" % self.server_address[1]

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()


def logger_to(handler, name):
    logger = logging.getLogger(name)
    handler.setFormatter(django_logging.JSONFormatter())
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel("INFO")
    return logger


class FormatterTests(unittest.TestCase):
    def event(self, **details):
        record = logging.getLogger("aura.test").makeRecord("aura.test", logging.ERROR, __file__, 1, 'a "%s"', ("b",), **details)
        line = django_logging.JSONFormatter().format(record)
        self.assertNotIn("\n", line)
        return json.loads(line)

    def test_extra_fields_stand_under_their_own_names(self):
        event = self.event(exc_info=None, extra={"client_ip": "10.1.2.3", "request_duration": 0.25, "user_id": None})
        self.assertEqual((event["message"], event["levelname"], event["logger"]), ('a "b"', "ERROR", "aura.test"))
        self.assertEqual((event["client_ip"], event["request_duration"]), ("10.1.2.3", 0.25))
        self.assertNotIn("user_id", event)
        self.assertRegex(event["@timestamp"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")

    def test_an_exception_is_kept_and_strange_values_do_not_fail(self):
        try:
            raise KeyError("gone")
        except KeyError:
            event = self.event(exc_info=sys.exc_info(), extra={"thing": object(), "path_like": pathlib.Path("/a")})
        self.assertEqual(event["exception"]["type"], "KeyError")
        self.assertIn("Traceback", event["exception"]["stack_trace"])
        self.assertEqual(event["path_like"], "/a")


class HTTPHandlerTests(unittest.TestCase):
    def test_a_busy_server_gets_the_same_batch_again(self):
        with Server(429, 503) as server:
            handler = django_logging.SluiceHTTPHandler(server.url, batch_size=10, flush_interval=0.05)
            logger = logger_to(handler, "busy")
            for number in range(25):
                logger.info("n", extra={"number": number})
            while len(server.events) < 25 and handler.thread.is_alive():
                handler.thread.join(0.02)
            handler.close()
        self.assertEqual([event["number"] for event in server.events], list(range(25)))
        self.assertEqual(server.requests[:2], [429, 503])

    def test_close_sends_what_waits(self):
        with Server() as server:
            handler = django_logging.SluiceHTTPHandler(server.url, batch_size=1000, flush_interval=3600)
            logger_to(handler, "close").warning("last words")
            handler.close()
            self.assertEqual([event["message"] for event in server.events], ["last words"])

    def test_a_refused_batch_is_given_up_and_a_full_buffer_is_told(self):
        with Server(400) as server:
            handler = django_logging.SluiceHTTPHandler(server.url, batch_size=2, capacity=2, flush_interval=0.02)
            handler._start = lambda: None  # nobody takes from the buffer yet
            logger = logger_to(handler, "full")
            for number in range(5):
                logger.info("n", extra={"number": number})
            self.assertEqual(handler.dropped, 3)
            handler.dropped, told = 0, handler.dropped
            del handler._start
            handler._deliver(handler._take())  # 400: given up
            handler.dropped = told
            logger.info("n", extra={"number": 9})
            handler.close()
        self.assertEqual(server.requests, [400, 200])
        self.assertEqual([event.get("number") for event in server.events], [9, None])
        self.assertIn("3 log records were dropped", server.events[1]["message"])

    def test_a_forked_worker_sends_its_own_lines_once(self):
        with Server() as server:
            program = """
import importlib.util, logging, os, sys
specification = importlib.util.spec_from_file_location("django_logging", sys.argv[1])
module = importlib.util.module_from_spec(specification); specification.loader.exec_module(module)
handler = module.SluiceHTTPHandler(sys.argv[2], flush_interval=3600); handler.setFormatter(module.JSONFormatter())
logging.root.handlers = [handler]
logging.warning("parent")
if os.fork() == 0:
    logging.warning("child"); handler.close(); os._exit(0)
os.wait()
"""
            subprocess.run([sys.executable, "-c", program, str(MODULE), server.url], check=True, timeout=20)
            self.assertEqual(sorted(event["message"] for event in server.events), ["child", "parent"])


class SettingsTests(unittest.TestCase):
    def test_the_settings_load_and_write_lines_that_rotate(self):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["AURA_LOGS"] = folder
            logging.config.dictConfig(django_logging.logging_settings("file"))
            file = pathlib.Path(folder, "django.jsonl")
            logging.getLogger("aura.core").info("one", extra={"correlation_id": "abc"})
            file.rename(file.with_suffix(".old"))
            logging.getLogger("django.request").warning("two")
            logging.shutdown()
            self.assertEqual(json.loads(file.with_suffix(".old").read_text())["correlation_id"], "abc")
            self.assertEqual(json.loads(file.read_text())["message"], "two")

    def test_an_unknown_way_is_refused(self):
        with self.assertRaises(ValueError):
            django_logging.logging_settings("file,carrier-pigeon")


if __name__ == "__main__":
    unittest.main()
