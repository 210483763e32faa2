"""A steady load on connections that are kept alive, as a proxy in front or a browser keeps them. A request is lost if it got no good answer."""

import http.client
import threading
import time


class Load:
    """`sessions` connections to `address`, a request every `every` seconds on each."""

    def __init__(self, address, path, headers, sessions=8, every=0.01):
        self._address, self._path, self._headers, self._every = address, path, dict(headers), every
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(sessions)]
        self.asked, self.lost = 0, []

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=15)

    def _run(self):
        connection = None
        while not self._stop.wait(self._every):
            wrong = None
            for attempt in (1, 2):
                reused = connection is not None
                connection = connection or http.client.HTTPConnection(*self._address, timeout=10)
                try:
                    connection.request("GET", self._path, headers=self._headers)
                    answer = connection.getresponse()
                    body = answer.read()
                    wrong = None if answer.status == 200 else f"status {answer.status}: {body[:200]!r}"
                    if answer.will_close:
                        connection.close()
                        connection = None
                    break
                except (http.client.HTTPException, OSError) as error:
                    connection.close()
                    connection = None
                    wrong = f"{type(error).__name__}: {error}"
                    # A kept connection may be closed just as it is used: every client asks again then, once (RFC 9112 section 9.3.1).
                    if not (reused and attempt == 1 and isinstance(error, (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError))):
                        break
            with self._lock:
                self.asked += 1
                if wrong:
                    self.lost.append((time.time(), wrong))
        if connection:
            connection.close()

    def summary(self):
        return f"{len(self.lost)} of {self.asked} requests were lost; the first: {self.lost[:5]}"


class Gaps:
    """How long nothing answered at an address: asked on a new connection each time, so that only a listener's absence is seen."""

    def __init__(self, address, path, host):
        self._address, self._path, self._host = address, path, host
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.longest = 0.0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(timeout=15)

    def _run(self):
        answered = time.monotonic()
        while not self._stop.wait(0.01):
            connection = http.client.HTTPConnection(*self._address, timeout=5)
            try:
                connection.request("GET", self._path, headers={"Host": self._host, "Connection": "close"})
                good = connection.getresponse().status == 200
            except (http.client.HTTPException, OSError):
                good = False
            finally:
                connection.close()
            now = time.monotonic()
            if good:
                self.longest = max(self.longest, now - answered)
                answered = now
        self.longest = max(self.longest, time.monotonic() - answered)
