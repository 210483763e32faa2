"""Processes that the bench starts: pinned to a core, measured by what the kernel counts, ended by their own ids."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

TICK = os.sysconf("SC_CLK_TCK")


class Processes:
    """Ends what it started, and nothing else."""

    def __enter__(self):
        self._running = []
        return self

    def start(self, command, core, environment=None, log=None):
        output = open(log, "wb") if log else subprocess.DEVNULL
        process = subprocess.Popen(["taskset", "-c", str(core), *map(str, command)], env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self._running.append(process)
        return process.pid

    def stop(self, pid):
        for process in [p for p in self._running if p.pid == pid]:
            self._running.remove(process)
            _end([process])

    def __exit__(self, *_):
        _end(reversed(self._running))


def _end(processes):
    processes = list(processes)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def family(pid):
    """A process and its descendants: nginx does its work in a child."""
    found = [pid]
    for parent in found:
        try:
            tasks = os.listdir(f"/proc/{parent}/task")
        except FileNotFoundError:
            continue
        for task in tasks:
            found += [int(child) for child in pathlib.Path(f"/proc/{parent}/task/{task}/children").read_text().split()]
    return found


def cpu_seconds(pid):
    """User and system time of the process and its children, by the scheduler's own account in nanoseconds."""
    total = 0
    for member in family(pid):
        for task in os.listdir(f"/proc/{member}/task"):
            total += int(pathlib.Path(f"/proc/{member}/task/{task}/schedstat").read_text().split()[0])
    return total / 1e9


def rss_mib(pid):
    total = 0
    for member in family(pid):
        total += int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{member}/status").read_text()).group(1))
    return total / 1024


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, what, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    sys.exit(f"bench: {what} does not listen on port {port}")
