"""Django settings that ship Aura's logs to Sluice.

In ``settings/production.py``::

    from aura.django_logging import logging_settings

    LOGGING = logging_settings()

Three ways, chosen by ``AURA_LOG_SHIPPING``; several may be named, separated by commas:

``file``  (default) One JSON object a line into ``AURA_LOGS`` (``/var/log/aura``), which Filebeat ships. The safest way: a
          line is on disk before anything else happens, and Filebeat keeps its place while Sluice is away.
``tcp``   python-logstash-async to Sluice's TCP port (``SLUICE_TCP``, ``localhost:5001``), with its own file as buffer. For
          hosts without Filebeat. Needs ``pip install python-logstash-async``.
``http``  Batches of JSON to Sluice's HTTP port (``SLUICE_HTTP``, ``http://localhost:5000/``) from a background thread; a
          batch counts as sent when Sluice has it on its disk. Needs nothing but this file.

No handler talks to Elasticsearch: its address, user and password are Sluice's business, and the application neither waits
for the cluster nor knows of it. Sluice writes ``aura-logs-YYYY.MM.DD`` and the security and performance indices.
"""

import atexit
import datetime
import json
import logging
import os
import queue
import sys
import threading
import time
import traceback
import urllib.error
import urllib.request

#: What every log record carries anyway. All else came in by ``extra=`` and becomes a field of the event.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JSONFormatter(logging.Formatter):
    """One JSON object a line, with the field names that Aura's pipeline, templates and dashboards use.

    Whatever ``extra=`` gives (``correlation_id``, ``client_ip``, ``request_duration`` …) stands beside them, under its own
    name. A value that JSON has no form for is written as its text, so that no log call ever fails for it.
    """

    def __init__(self, service="aura-django", environment=None):
        super().__init__()
        self.constant = {"service": service, "environment": environment or os.environ.get("AURA_ENVIRONMENT", "production")}

    def fields(self, record):
        moment = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        event = {
            "@timestamp": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "levelname": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self.constant,
            "process": record.process,
            "module": record.module,
            "funcName": record.funcName,
            "lineno": record.lineno,
        }
        for name, value in vars(record).items():
            if name not in _STANDARD and not name.startswith("_") and value is not None:
                event[name] = value
        # django.request puts the request object here; its parts are of use, the object is not.
        request = event.pop("request", None)
        if hasattr(request, "META"):
            event.setdefault("method", request.method)
            event.setdefault("path", request.path)
        if record.exc_info and record.exc_info[0]:
            event["exception"] = {
                "type": record.exc_info[0].__name__,
                "message": str(record.exc_info[1]),
                "stack_trace": "".join(traceback.format_exception(*record.exc_info)),
            }
        return event

    def format(self, record):
        return json.dumps(self.fields(record), default=str, ensure_ascii=False, separators=(",", ":"))


class SluiceHTTPHandler(logging.Handler):
    """Sends records to Sluice's HTTP input in batches, from one background thread.

    :param url: Sluice's HTTP input.
    :param batch_size: Most records of one request.
    :param flush_interval: Seconds after which a smaller batch goes.
    :param capacity: Records that wait while Sluice is away. When it is full, new ones are dropped and counted, because a
        web worker must not stop for its log; the count is sent as a warning as soon as Sluice answers again.
    :param authorization: The ``Authorization`` header, for an input with user and password.

    Sluice answers 200 once the batch is synced to its queue. 429 and 5xx, and no answer at all, are tried again with a
    growing pause. Any other 4xx would be refused for ever: the batch is dropped, and one line goes to standard error.
    """

    def __init__(self, url="http://localhost:5000/", batch_size=100, flush_interval=5.0, capacity=10000, timeout=10.0,
                 authorization=None):
        super().__init__()
        self.url, self.batch_size, self.flush_interval, self.timeout = url, batch_size, flush_interval, timeout
        self.headers = {"Content-Type": "application/x-ndjson"}
        if authorization:
            self.headers["Authorization"] = authorization
        self.waiting = queue.Queue(capacity)
        self.dropped = 0
        self.stopping = threading.Event()
        self.thread, self.process, self.start_lock = None, None, threading.Lock()
        atexit.register(self.close)

    def createLock(self):
        # logging calls this again in a forked child; the parent's thread does not exist there.
        super().createLock()
        self.start_lock = threading.Lock()

    def emit(self, record):
        try:
            line = self.format(record).encode()
        except Exception:
            self.handleError(record)
            return
        self._start()
        try:
            self.waiting.put_nowait(line)
        except queue.Full:
            self.dropped += 1

    def _start(self):
        if self.process == os.getpid():
            return
        with self.start_lock:
            if self.process != os.getpid():
                if self.process is not None:  # forked: what waits is the parent's to send
                    self.waiting, self.dropped = queue.Queue(self.waiting.maxsize), 0
                self.thread = threading.Thread(target=self._run, name="sluice-http", daemon=True)
                self.thread.start()
                self.process = os.getpid()

    def _run(self):
        while not (self.stopping.is_set() and self.waiting.empty()):
            batch = self._take()
            if batch:
                self._deliver(batch)

    def _take(self):
        batch, deadline = [], time.monotonic() + self.flush_interval
        while len(batch) < self.batch_size:
            try:
                wait = 0.0 if self.stopping.is_set() else min(0.25, deadline - time.monotonic())
                batch.append(self.waiting.get(timeout=wait) if wait > 0 else self.waiting.get_nowait())
            except queue.Empty:
                if self.stopping.is_set() or time.monotonic() >= deadline:
                    break
        return batch

    def _deliver(self, batch):
        pause = 0.5
        while True:
            dropped, body = self.dropped, b"\n".join(batch) + b"\n"
            if dropped:
                record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, "%d log records were dropped while Sluice was away",
                                           (dropped,), None)
                body += self.format(record).encode() + b"\n"
            try:
                request = urllib.request.Request(self.url, data=body, headers=self.headers, method="POST")
                with urllib.request.urlopen(request, timeout=self.timeout):
                    self.dropped -= dropped
                    return
            except urllib.error.HTTPError as error:
                with error:
                    if error.code != 429 and error.code < 500:
                        sys.stderr.write("sluice-http: %s refused %d log records with status %d\n" % (self.url, len(batch), error.code))
                        return
            except OSError:
                pass
            if self.stopping.wait(pause) and pause > 1:
                return  # at exit: two tries, then the process may end
            pause = min(pause * 2, 30)

    def close(self):
        self.stopping.set()
        if self.thread and self.process == os.getpid():
            self.thread.join(self.timeout)
        super().close()


def logging_settings(shipping=None, level="INFO"):
    """The value for Django's ``LOGGING``. ``shipping`` beats the environment's ``AURA_LOG_SHIPPING``."""
    chosen = [name.strip() for name in (shipping or os.environ.get("AURA_LOG_SHIPPING", "file")).split(",") if name.strip()]
    unknown = set(chosen) - {"file", "tcp", "http"}
    if unknown or not chosen:
        raise ValueError("AURA_LOG_SHIPPING takes file, tcp and http, not %r" % ", ".join(sorted(unknown)))
    handlers = {"console": {"class": "logging.StreamHandler", "formatter": "json", "level": "WARNING"}}
    if "file" in chosen:
        handlers["file"] = {
            # Several web workers write one file: each line is one append, and logrotate renames the file beneath them.
            "class": "logging.handlers.WatchedFileHandler",
            "filename": os.path.join(os.environ.get("AURA_LOGS", "/var/log/aura"), "django.jsonl"),
            "formatter": "json",
            "encoding": "utf-8",
            "delay": True,
        }
    if "tcp" in chosen:
        host, _, port = os.environ.get("SLUICE_TCP", "localhost:5001").rpartition(":")
        handlers["tcp"] = {
            "class": "logstash_async.handler.AsynchronousLogstashHandler",
            "transport": "logstash_async.transport.TcpTransport",
            "formatter": "json",
            "host": host,
            "port": int(port),
            # Records that could not be sent survive a restart of the application here.
            "database_path": os.environ.get("AURA_LOG_BUFFER", "/var/lib/aura/log-buffer.sqlite"),
        }
    if "http" in chosen:
        handlers["http"] = {
            "()": SluiceHTTPHandler,
            "url": os.environ.get("SLUICE_HTTP", "http://localhost:5000/"),
            "authorization": os.environ.get("SLUICE_HTTP_AUTHORIZATION"),
            "formatter": "json",
        }
    names = list(handlers)
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JSONFormatter}},
        "handlers": handlers,
        "root": {"handlers": names, "level": level},
        "loggers": {
            # Django gives this logger handlers of its own; without them its records go to the root's alone.
            "django": {"handlers": [], "level": level, "propagate": True},
            "django.server": {"handlers": [], "level": level, "propagate": True},
            # Debug lines of the shippers would be shipped and so breed more of them.
            "urllib3": {"level": "WARNING"},
            "logstash_async": {"level": "WARNING"},
        },
    }
