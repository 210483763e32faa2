"""What is measured. Each function measures every proxy in turn, round by round, so that a noisy moment meets all of them."""

import statistics
import time

from .authority import unknown_tokens
from .load import percentile, waiting_connections
from .peers import Sidecar, started
from .process import cpu_seconds, free_port, rss_mib

MANY = 10_000
RATE = 2_000
# wrk ends no earlier, though it stops asking when every token was sent; the slowest do not get through all of them.
ONCE_SECONDS = 5


def cpu(world, title, drive, proxies, fresh=False):
    """Microseconds of the proxy's CPU per request: a median over the rounds for each proxy, and that of the ratios to nginx as a plain proxy."""
    per_round = {peer.name: [] for peer in proxies}
    running = {}
    for round_number in range(world.rounds):
        for peer in proxies:
            if fresh or peer.name not in running:
                running[peer.name] = started(peer, world.processes)
                if not fresh:
                    drive(peer, running[peer.name], 1)  # to warm it up
            pid = running[peer.name][0]
            before = cpu_seconds(pid)
            count = drive(peer, running[peer.name], world.seconds)
            per_round[peer.name].append((cpu_seconds(pid) - before) / count * 1e6)
            world.say(f"{title}, round {round_number + 1}: {peer.title} {per_round[peer.name][-1]:.1f} µs")
            if fresh:
                world.processes.stop(pid)
    for pid, _, _ in () if fresh else running.values():
        world.processes.stop(pid)
    return per_round


def hot_token(world, proxies):
    return cpu(world, "hot token", lambda _, at, seconds: world.load.hot(at[1], world.token, seconds), proxies)


def http2(world, proxies):
    return cpu(world, "HTTP/2", lambda _, at, seconds: world.load.http2(at[2], world.token, seconds), [peer for peer in proxies if peer.http2])


def many_tokens(world, proxies):
    tokens = world.tokens[:MANY]
    return cpu(world, "10,000 tokens", lambda _, at, seconds: world.load.turns(at[1], tokens, seconds), _gates(proxies))


def every_token_new(world, proxies):
    """A proxy that has seen none of them, and each of them once."""
    return _once(world, "new tokens", _paced_alike(_gates(proxies)))


def every_token_new_real(world, proxies):
    """The same, for those who can ask the real auth service: what a proxy does for an answer depends on how long it waits for it."""
    return _once(world, "new tokens, real auth service", [peer for peer in proxies if peer.asks_real])


def _once(world, title, proxies):
    return cpu(world, title, lambda _, at, seconds: world.load.turns(at[1], world.tokens, ONCE_SECONDS, once=True), proxies, fresh=True)


def refused_tokens(world, proxies):
    tokens = unknown_tokens(MANY)
    return cpu(world, "refused", lambda _, at, seconds: world.load.turns(at[1], tokens, seconds, refused=True), _paced_alike(_gates(proxies)))


def body_64k(world, proxies):
    return cpu(world, "64 KB", lambda _, at, seconds: world.load.hot(at[1], world.token, seconds, "/body/64k"), proxies)


def body_1m(world, proxies):
    return cpu(world, "1 MB", lambda _, at, seconds: world.load.hot(at[1], world.token, seconds, "/body/1m"), proxies)


def _gates(proxies):
    return [peer for peer in proxies if peer.authenticates]


def _paced_alike(proxies):
    """Where asking is most of the work nobody waits longer for an answer than the others, or is woken more often."""
    return [peer.asking_quick() if isinstance(peer, Sidecar) else peer for peer in proxies]


def latency(world, proxies):
    """(p50, p99, p99.9) in µs over a direct connection to the app, at 2,000 requests/s."""
    direct, found = [], {peer.name: [] for peer in proxies}
    running = {peer.name: started(peer, world.processes) for peer in proxies}
    for _ in range(world.rounds):
        direct.append(_percentiles(world, world.app_port))
        for peer in proxies:
            _, port, _ = running[peer.name]
            base, seen = direct[-1], _percentiles(world, port)
            found[peer.name].append([own - without for own, without in zip(seen, base, strict=True)])
            world.say(f"latency: {peer.title} +{found[peer.name][-1][0]:.0f} µs")
    for pid, _, _ in running.values():
        world.processes.stop(pid)
    return {name: [statistics.median(column) for column in zip(*rounds, strict=True)] for name, rounds in found.items()}


def _percentiles(world, port):
    values = world.load.latencies(port, world.token, world.seconds, RATE)
    return [percentile(values, share) for share in (0.5, 0.99, 0.999)]


def memory(world, proxies):
    """MiB of resident memory: idle, and with 1,000 and 10,000 connections that wait."""
    found = {}
    for peer in proxies:
        pid, port, _ = started(peer, world.processes)
        for connection in waiting_connections(port, world.token, 1):
            connection.close()
        time.sleep(1)
        row, open_connections = [rss_mib(pid)], []
        for count in (1_000, 10_000):
            open_connections += waiting_connections(port, world.token, count - len(open_connections))
            time.sleep(1)
            row.append(rss_mib(pid))
        found[peer.name] = row
        world.say(f"memory: {peer.title} {' / '.join(f'{figure:.1f}' for figure in row)} MiB")
        for connection in open_connections:
            connection.close()
        world.processes.stop(pid)
    return found


def first_request(world, sidecar):
    """Seconds from the sidecar's start to the first request that reached the app: a median of seven."""
    times = []
    for _ in range(7):
        port = free_port()
        pid = sidecar.start(port)
        times.append(sidecar.until_first_answer(port, world.token))
        world.processes.stop(pid)
    return statistics.median(times)


CPU = {
    "hot token": hot_token,
    "HTTP/2": http2,
    "10,000 tokens": many_tokens,
    "every token new": every_token_new,
    "every token new, real auth service": every_token_new_real,
    "refused": refused_tokens,
    "64 KB": body_64k,
    "1 MB": body_1m,
}
