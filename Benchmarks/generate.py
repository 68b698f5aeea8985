#!/usr/bin/env python3
#  Makes the lines that the benchmarks send: `access.log` (combined log format, about 220 bytes a line) and `django.jsonl`
#  (Aura's JSON log lines, about 670 bytes). The same seed and count give the same bytes on every machine that has the same
#  user agents: Debian's uap-core where it is installed, else a smaller list made here.
"""usage: generate.py FOLDER [--events N] [--seed N]"""

import argparse
import bisect
import datetime
import glob
import ipaddress
import itertools
import json
import pathlib
import random
import re

UAP_TESTS = "/usr/share/uap-core/t*/*.yaml"
AGENT_LINE = re.compile(r"^\s*-?\s*user_agent_string:\s*(?P<quote>['\"])(?P<text>[ -~]{12,150})(?P=quote)\s*$")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

#  Networks that MaxMind's freely published City test database knows, so that half of the look-ups find something.
KNOWN_NETWORKS = ("67.43.156.0/24", "81.2.69.160/27", "81.2.69.192/28", "89.160.20.112/28", "89.160.20.128/25",
                  "175.16.199.0/24", "202.196.224.0/20", "216.160.83.56/29")


class Skewed:
    """Draws from a list so that its k-th entry comes with weight 1 / k^exponent, as clients and pages do."""

    def __init__(self, source, items, exponent):
        self.source, self.items = source, items
        self.bounds = list(itertools.accumulate((rank + 1) ** -exponent for rank in range(len(items))))

    def draw(self):
        return self.items[bisect.bisect(self.bounds, self.source.random() * self.bounds[-1])]


def made_agents():
    """User agents for machines without uap-core: browsers by system by version, and the usual programs."""
    systems = ("Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7", "X11; Linux x86_64",
               "Linux; Android 14; Pixel 8", "Linux; Android 13; SM-G991B", "iPhone; CPU iPhone OS 17_4 like Mac OS X")
    webkit = "Mozilla/5.0 (%s) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/%d.0.%d.%d Safari/537.36%s"
    agents = [webkit % (system, version, 5000 + version * 11, minor, tail)
              for system in systems for version in range(80, 125) for minor in (0, 87)
              for tail in ("", " Edg/%d.0" % version, " OPR/%d.0" % (version - 14))]
    agents += ["Mozilla/5.0 (%s; rv:%d.0) Gecko/20100101 Firefox/%d.0" % (system, version, version)
               for system in systems[:3] for version in range(78, 126)]
    agents += ["curl/7.%d.1" % minor for minor in range(50, 89)] + ["python-requests/2.%d.0" % n for n in range(20, 32)]
    return agents + ["Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", "kube-probe/1.29"]


def user_agents(source, wanted=2000):
    found = set()
    for name in sorted(glob.glob(UAP_TESTS)):
        with open(name, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                match = AGENT_LINE.match(line)
                if match and not set(match["text"]) & set("\"\\") and "''" not in match["text"]:
                    found.add(match["text"])
    if len(found) < wanted:
        return made_agents(), "made here (Debian's uap-core is missing)"
    browsers = sorted(agent for agent in found if agent.startswith("Mozilla/5.0"))
    others = sorted(found.difference(browsers))
    chosen = source.sample(browsers, min(len(browsers), wanted * 3 // 4))
    chosen += source.sample(others, min(len(others), wanted - len(chosen)))
    source.shuffle(chosen)
    return chosen, "Debian's uap-core"


def client_addresses(source, wanted=2000):
    networks = [ipaddress.ip_network(text) for text in KNOWN_NETWORKS]
    known, other = set(), set()
    while len(known) < wanted // 2:
        network = source.choice(networks)
        known.add(str(network[source.randrange(network.num_addresses)]))
    while len(other) < wanted - len(known):
        address = ipaddress.ip_address(source.randrange(0x01000000, 0xDF000000))
        if address.is_global:
            other.add(str(address))
    addresses = sorted(known | other)
    source.shuffle(addresses)
    return addresses


def request_paths(source, wanted=20000):
    words = ("patients appointments records doctors clinics prescriptions lab results billing invoices claims messages "
             "users sessions login logout profile settings reports export search dashboard admin api v1 v2 static css js "
             "images uploads notifications consents audit").split()
    paths = []
    for _ in range(wanted):
        path = "/" + "/".join(source.choices(words, k=source.choice((1, 1, 2, 2, 3))))
        kind = source.random()
        if kind < 0.35:
            path += "/%d" % source.randrange(1, 500000)
        elif kind > 0.8:
            path += "?page=%d&order=%s" % (source.randrange(1, 90), source.choice(("name", "date", "-date", "status")))
        elif kind > 0.7:
            path += source.choice((".html", ".css", ".js", ".png", ".svg"))
        paths.append(path)
    return paths


class Lines:
    """One request after another, told as an access line and as a Django line."""

    def __init__(self, seed):
        self.source = source = random.Random(seed)
        agents, self.origin = user_agents(source)
        self.agents, self.addresses = Skewed(source, agents, 0.8), Skewed(source, client_addresses(source), 0.6)
        self.paths = request_paths(source)
        self.referrers = ["-"] * 200 + ["https://aura.example" + path for path in source.sample(self.paths, 300)]
        self.referrers += ["https://www.google.com/", "https://duckduckgo.com/"]
        self.methods = ["GET"] * 78 + ["POST"] * 14 + ["PUT"] * 4 + ["DELETE"] * 2 + ["HEAD"] * 2
        self.statuses = [200] * 80 + [304] * 5 + [302] * 4 + [404] * 5 + [201] * 2 + [401, 403, 500, 503]
        self.users = ["-"] * 95 + ["amelie", "bjorn", "svc-export", "chidi", "dr.okafor"]
        self.loggers = ("aura.core.middleware", "django.request", "aura.users.views", "aura.security",
                        "aura.performance", "aura.billing.services", "celery.task")
        self.time = datetime.datetime(2026, 3, 2, 6, 0, 0)

    def pair(self):
        draw = self.source
        self.time += datetime.timedelta(milliseconds=draw.randrange(1, 46))
        time, method, status, path = self.time, draw.choice(self.methods), draw.choice(self.statuses), draw.choice(self.paths)
        address, agent = self.addresses.draw(), self.agents.draw()
        access = '%s - %s [%02d/%s/%d:%s +0000] "%s %s HTTP/%s" %d %s "%s" "%s"\n' % (
            address, draw.choice(self.users), time.day, MONTHS[time.month - 1], time.year, time.strftime("%H:%M:%S"),
            method, path, draw.choice(("1.1", "1.1", "2.0")), status,
            "-" if status == 304 else draw.randrange(120, 90000), draw.choice(self.referrers), agent)
        return access, json.dumps(self.django(time, method, path, status, address, agent)) + "\n"

    def django(self, time, method, path, status, address, agent):
        draw = self.source
        duration = round(draw.lognormvariate(-2.6, 1.0), 4)
        if status >= 500:
            level, message = "ERROR", 'Internal error in %s %s: OperationalError: server closed "the connection"' % (method, path)
        else:
            level = "WARNING" if status >= 400 or duration > 1 else "INFO"
            message = "%s %s answered %d in %.1f ms" % (method, path, status, duration * 1000)
        bits = "%032x" % draw.getrandbits(128)
        return {
            "@timestamp": time.strftime("%Y-%m-%dT%H:%M:%S.") + "%03dZ" % (time.microsecond // 1000),
            "levelname": level, "logger": draw.choice(self.loggers), "message": message,
            "correlation_id": "-".join((bits[:8], bits[8:12], bits[12:16], bits[16:20], bits[20:])),
            "user_id": None if draw.random() < 0.3 else draw.randrange(1, 60000),
            "session_id": "%032x" % draw.getrandbits(128), "method": method, "path": path, "status_code": status,
            "request_duration": duration, "client_ip": address, "user_agent": agent,
            "db_queries": draw.randrange(0, 40), "db_time": round(duration * draw.random(), 5),
            "hostname": "web-%02d" % draw.randrange(1, 7), "environment": "production", "service": "aura-django",
            "process": draw.randrange(900, 990), "tags": ["web", "slow"] if duration > 0.5 else ["web"]}


def main():
    parser = argparse.ArgumentParser(description="Makes access.log and django.jsonl for the benchmarks.")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--events", type=int, default=200_000, help="lines of each file (200000)")
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    lines = Lines(options.seed)
    sizes = [0, 0]
    with open(options.folder / "access.log", "w") as access, open(options.folder / "django.jsonl", "w") as django:
        for _ in range(options.events):
            pair = lines.pair()
            access.write(pair[0])
            django.write(pair[1])
            sizes = [sizes[0] + len(pair[0]), sizes[1] + len(pair[1])]
    print("%d lines each; access.log %.0f bytes a line, django.jsonl %.0f; user agents: %s" % (
        options.events, sizes[0] / options.events, sizes[1] / options.events, lines.origin))


if __name__ == "__main__":
    main()
