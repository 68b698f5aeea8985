#  What every benchmark needs: building the tools, making the lines, starting a program and reading its CPU time and memory
#  from /proc. Everything is on 127.0.0.1 with ports that the system picks, and everything that is started is stopped again.

import contextlib
import datetime
import itertools
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "Benchmarks"
WORK = ROOT / ".build" / "bench"
SLUICE = pathlib.Path(os.environ.get("SLUICE_BINARY", ROOT / ".build" / "release" / "sluice"))
TICKS = os.sysconf("SC_CLK_TCK")


class Skip(Exception):
    """A case that cannot run here; its text says why and is printed in place of a figure."""


def build_tools():
    """Compiles sender.c and nullsink.c where they are newer than their programs."""
    WORK.mkdir(parents=True, exist_ok=True)
    compiler = shutil.which("cc") or shutil.which("clang") or shutil.which("gcc")
    for name, libraries in (("sender", ["-lz", "-lpthread"]), ("nullsink", ["-lz"])):
        source, program = BENCHMARKS / (name + ".c"), WORK / name
        if program.exists() and program.stat().st_mtime >= source.stat().st_mtime:
            continue
        if not compiler:
            sys.exit("Benchmarks: no C compiler; `apt-get install gcc libc6-dev zlib1g-dev` brings one.")
        subprocess.run([compiler, "-std=gnu17", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, source, *libraries], check=True)


def lines(events):
    """The folder with access.log and django.jsonl of `events` lines each; made once."""
    folder = WORK / ("lines-%d" % events)
    if not (folder / "done").exists():
        subprocess.run([sys.executable, BENCHMARKS / "generate.py", folder, "--events", str(events)], check=True, stdout=sys.stderr)
        (folder / "done").touch()
    return folder


def filter_lines(events):
    """Lines with a field for each step of cases/filters.yml; no user agent or address twice in a row."""
    file = lines(events) / "filters.jsonl"
    if not file.exists():
        found = []
        with open(lines(events) / "django.jsonl", encoding="utf-8") as django, open(lines(events) / "access.log", encoding="utf-8") as access:
            for line, plain in itertools.islice(zip(django, access), 20000):
                found.append((json.loads(line), plain.rstrip("\n")))
        agents = sorted({event["user_agent"] for event, _ in found})
        addresses = sorted({event["client_ip"] for event, _ in found})
        with open(file, "w", encoding="utf-8") as out:
            for i, (event, plain) in enumerate(found):
                values = [str(i * 7919 + k) for k in range(10)]
                out.write(json.dumps({
                    "access": plain, "agent": agents[i % len(agents)], "ip": addresses[i % len(addresses)], "iso": event["@timestamp"],
                    "clf": "%02d/Mar/2026:06:%02d:%02d +0100" % (1 + i % 28, i // 60 % 60, i % 60),
                    "line": "worker %d: job %s of ann%d@aura.example took %d.5 s, done" % (i % 16, event["correlation_id"], i, i % 90),
                    "pairs": " ".join("key%d=%s" % pair for pair in enumerate(values)), "columns": " ".join(values)}) + "\n")
    return file


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def fetch(port, path, method="GET", timeout=5):
    request = urllib.request.Request("http://127.0.0.1:%d%s" % (port, path), method=method)
    with urllib.request.urlopen(request, timeout=timeout) as response:
        return json.loads(response.read())


class Process:
    """A program that is measured or helps to measure. Leaving its `with` block stops it."""

    def __init__(self, arguments, log, environment=None, folder=None):
        self.name, self.log = pathlib.Path(arguments[0]).name, log
        self.started = time.monotonic()
        with open(log, "wb") as output:
            self.child = subprocess.Popen(
                [str(argument) for argument in arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env={**os.environ, **(environment or {})}, cwd=folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(40)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()

    def last_words(self):
        text = pathlib.Path(self.log).read_text(errors="replace").strip().splitlines()
        return text[-1][:200] if text else "it said nothing"

    def await_port(self, port, limit=30.0):
        """Seconds from the start until `port` accepts a connection."""
        while time.monotonic() - self.started < limit:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return time.monotonic() - self.started
            if self.child.poll() is not None:
                raise Skip("%s ended with status %d: %s" % (self.name, self.child.returncode, self.last_words()))
            time.sleep(0.0005)
        raise Skip("%s does not listen on port %d after %.0f s: %s" % (self.name, port, limit, self.last_words()))

    def cpu_seconds(self):
        """User and system time of all its threads, those that have ended included; exact to a clock tick (10 ms)."""
        fields = pathlib.Path("/proc/%d/stat" % self.child.pid).read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_mib(self, peak=False):
        name = "VmHWM:" if peak else "VmRSS:"
        for line in pathlib.Path("/proc/%d/status" % self.child.pid).read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) / 1024
        raise Skip("%s has ended: %s" % (self.name, self.last_words()))

    def reset_peak(self):
        with contextlib.suppress(OSError):
            pathlib.Path("/proc/%d/clear_refs" % self.child.pid).write_text("5")


class Sink(Process):
    """The null Elasticsearch."""

    def __init__(self, *options):
        super().__init__([WORK / "nullsink", "--port", "0", *options], WORK / "nullsink.log")
        while True:
            text = pathlib.Path(self.log).read_text()
            if text.endswith("\n"):
                break
            if self.child.poll() is not None:
                raise Skip("nullsink ended: " + self.last_words())
            time.sleep(0.001)
        self.port = int(text.rsplit(":", 1)[1])

    def documents(self):
        return fetch(self.port, "/_stats")["documents"]

    def await_documents(self, wanted, limit=300.0):
        """Waits until `wanted` documents are there; returns the monotonic time at which the last request was answered."""
        deadline, seen, changed = time.monotonic() + limit, -1, time.monotonic()
        while True:
            stats = fetch(self.port, "/_stats")
            if stats["documents"] >= wanted:
                return stats["last_ns"] / 1e9
            if stats["documents"] != seen:
                seen, changed = stats["documents"], time.monotonic()
            if time.monotonic() > deadline or time.monotonic() - changed > 30:
                raise Skip("only %d of %d documents arrived" % (seen, wanted))
            time.sleep(0.01)


def send(kind, port, file, *options):
    """Runs the sender to its end and returns its figures."""
    result = subprocess.run([WORK / "sender", kind, "--port", str(port), *[str(option) for option in options], file],
                            capture_output=True, text=True)
    if result.returncode:
        raise Skip(result.stderr.strip() or "the sender failed")
    return json.loads(result.stdout)


def machine():
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "unknown")
    return "%s, %d cores, Linux %s" % (model, os.cpu_count(), os.uname().release)


def commit():
    result = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return result.stdout.strip() or "no commit"


def today():
    return datetime.date.today().isoformat()
