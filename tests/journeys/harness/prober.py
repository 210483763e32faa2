"""Asks the apps all the time, on a new connection each time, as their users would, and remembers whatever went wrong."""

import threading
import time


class Prober:
    """`targets` maps a name to a URL; an answer is good if its status is one of `good`."""

    def __init__(self, client, targets, good, every=0.05):
        self._client = client
        self._targets = dict(targets)
        self._good = {name: set(statuses) for name, statuses in good.items()}
        self._every = every
        self._stop = threading.Event()
        self._paused = threading.Event()
        self._lock = threading.Lock()
        self._threads = []
        self.asked = {name: 0 for name in targets}
        self.failures = []

    def __enter__(self):
        for name in self._targets:
            thread = threading.Thread(target=self._probe, args=(name,), daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=15)

    def allow(self, name, *statuses):
        with self._lock:
            self._good[name] |= set(statuses)

    def demand(self, name, *statuses):
        with self._lock:
            self._good[name] = set(statuses)

    def pause(self):
        """Asks nothing until `resume`."""
        self._paused.set()

    def resume(self):
        self._paused.clear()

    def since(self, moment):
        with self._lock:
            return [failure for failure in self.failures if failure[0] >= moment]

    def summary(self):
        """The failures, those of one kind in a row told as one."""
        lines = []
        for moment, name, what in self.failures:
            kind = f"{name}: {what.split(': ', 1)[1]}"
            if lines and lines[-1][0] == kind:
                lines[-1][2:] = [moment, lines[-1][3] + 1]
            else:
                lines.append([kind, moment, moment, 1])
        told = [f"{time.strftime('%H:%M:%S', time.gmtime(first))} to {time.strftime('%H:%M:%S', time.gmtime(last))} UTC, {count} times: {kind}" for kind, first, last, count in lines]
        return f"{len(self.failures)} of {sum(self.asked.values())} requests failed\n" + "\n".join(told[:20])

    def _probe(self, name):
        while not self._stop.wait(self._every):
            if self._paused.is_set():
                continue
            began = time.time()
            try:
                answer = self._client(self._targets[name], timeout=10)
                with self._lock:
                    wrong = None if answer.status in self._good[name] else f"status {answer.status}: {answer.body[:200]!r}"
            except OSError as error:
                wrong = f"{type(error).__name__}: {error}"
            except Exception as error:  # noqa: BLE001 - half an answer is a failure like any other
                wrong = f"{type(error).__name__}: {error}"
            with self._lock:
                self.asked[name] += 1
                if wrong:
                    self.failures.append((began, name, f"after {time.time() - began:.2f} s: {wrong}"))
