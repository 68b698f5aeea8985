#  rsyslog and syslog-ng, the two log daemons that Debian ships with an Elasticsearch output, doing the same work in the same
#  run. As packages they exclude each other, so both are unpacked beside the system into .build/peers and run from there;
#  nothing is installed and no service is started.

import os
import pathlib
import subprocess

from harness import BENCHMARKS, ROOT, WORK, Process, Sink, Skip, free_port, lines, send

FOLDER = ROOT / ".build" / "peers"
PACKAGES = {
    "rsyslog": ["rsyslog", "rsyslog-elasticsearch", "libestr0", "libfastjson4", "liblognorm5"],
    "syslog-ng": ["syslog-ng-core", "syslog-ng-mod-http", "libivykis0", "libnet1", "libpcre3", "libwrap0", "libjson-c5"],
}
#  Libraries of the base system that a very small machine may lack, by the name that the loader misses.
SPARE_PACKAGES = {"libcurl.so.4": "libcurl4", "libglib-2.0.so.0": "libglib2.0-0", "libuuid.so.1": "libuuid1",
                  "libsystemd.so.0": "libsystemd0", "libnghttp2.so.14": "libnghttp2-14", "librtmp.so.1": "librtmp1",
                  "libssh2.so.1": "libssh2-1", "libpsl.so.5": "libpsl5", "libldap-2.5.so.0": "libldap-2.5-0",
                  "liblber-2.5.so.0": "libldap-2.5-0", "libbrotlidec.so.1": "libbrotli1", "libbrotlicommon.so.1": "libbrotli1",
                  "libsasl2.so.2": "libsasl2-2", "libpcre2-8.so.0": "libpcre2-8-0"}
PROGRAMS = {"rsyslog": "usr/sbin/rsyslogd", "syslog-ng": "usr/sbin/syslog-ng"}


def library_path(root):
    folders = [*root.glob("usr/lib/*-linux-gnu"), *root.glob("lib/*-linux-gnu"), root / "usr/lib/syslog-ng"]
    return {"LD_LIBRARY_PATH": ":".join(str(folder) for folder in folders)}


def download(peer, packages, root):
    archives = FOLDER / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    # As another user than root apt-get cannot be its own sandbox; as root it must be allowed to write here.
    result = subprocess.run(["apt-get", "-o", "APT::Sandbox::User=root", "download", *packages],
                            cwd=archives, capture_output=True, text=True)
    if result.returncode:
        raise Skip("apt-get download failed: " + (result.stderr.strip().splitlines() or ["no reason given"])[-1])
    for package in packages:
        for archive in archives.glob(package + "_*.deb"):
            subprocess.run(["dpkg-deb", "--extract", archive, root], check=True)


def missing_libraries(root):
    files = [*root.glob("usr/sbin/*"), *root.glob("usr/lib/**/*.so")]
    output = subprocess.run(["ldd", *files], capture_output=True, text=True, env={**os.environ, **library_path(root)}).stdout
    return {line.split()[0] for line in output.splitlines() if line.endswith("not found")}


def unpack(peer):
    """The folder that holds `peer`; fetched once."""
    root = FOLDER / peer
    if (root / "done").exists():
        return root
    try:
        download(peer, PACKAGES[peer], root)
        for _ in range(3):  # a spare library may itself need one
            spare = {SPARE_PACKAGES[name] for name in missing_libraries(root) if name in SPARE_PACKAGES}
            if not spare:
                break
            download(peer, sorted(spare), root)
    except FileNotFoundError as error:
        raise Skip("this machine has no %s, so Debian's packages cannot be fetched" % error.filename)
    (root / "done").touch()
    return root


def command(peer, work, port, sink_port):
    root = unpack(peer)
    text = (BENCHMARKS / "peers" / ("%s-%s.conf" % (peer, work))).read_text()
    folder = WORK / ("run-" + peer)
    folder.mkdir(exist_ok=True)
    for name, value in (("WORK", folder), ("FOLDER", BENCHMARKS / "peers"), ("PORT", port), ("SINK", sink_port)):
        text = text.replace("@%s@" % name, str(value))
    configuration = folder / (work + ".conf")
    configuration.write_text(text)
    if peer == "rsyslog":
        modules = next(root.glob("usr/lib/*/rsyslog"))
        arguments = [root / PROGRAMS[peer], "-n", "-f", configuration, "-i", folder / "pid", "-M", modules]
    else:
        modules = next(root.glob("usr/lib/syslog-ng/[0-9]*"))
        arguments = [root / PROGRAMS[peer], "-F", "--no-caps", "--module-path", modules, "-f", configuration,
                     "-R", folder / "persist", "-c", folder / "control", "--pidfile", folder / "pid"]
    return arguments, library_path(root)


def measure(peer, work, events):
    """CPU microseconds an event, events a second and peak MiB of `peer` for `work` (access or django)."""
    file = lines(events) / ("access.log" if work == "access" else "django.jsonl")
    port = free_port()
    with Sink("--items", "short") as sink:
        arguments, environment = command(peer, work, port, sink.port)
        with Process(arguments, WORK / ("%s-%s.log" % (peer, work)), environment) as daemon:
            daemon.await_port(port)
            warm = min(20000, events)
            send("tcp", port, file, "--connections", 4, "--limit", warm)
            sink.await_documents(warm)
            cpu = daemon.cpu_seconds()
            sent = send("tcp", port, file, "--connections", 4)
            last = sink.await_documents(warm + events)
            cpu = daemon.cpu_seconds() - cpu
            return {"cpu_us": cpu / events * 1e6, "rate": events / (last - sent["start_ns"] / 1e9), "peak_mib": daemon.memory_mib(peak=True)}
