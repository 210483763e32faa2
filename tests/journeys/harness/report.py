"""A sentence per check, the count at the end, and what helps when one fails."""

import sys
import time
import traceback
from contextlib import contextmanager


class Failed(AssertionError):
    """A check that did not hold, with what was seen instead."""


class Stop(Exception):
    """What follows cannot work any more."""


class Report:
    def __init__(self, diagnose):
        self.passed = 0
        self.failed = 0
        self._diagnose = diagnose
        self._diagnosed = False
        self._began = time.monotonic()

    def part(self, title):
        print(f"\n# {title}  ({time.monotonic() - self._began:.0f} s)", flush=True)

    @contextmanager
    def check(self, sentence, vital=False):
        """Everything in the block has to hold. After a failed `vital` check the journey ends."""
        began = time.monotonic()
        try:
            yield
        except Exception as error:  # whatever goes wrong inside is this check's failure
            self.failed += 1
            print(f"FAILED  {sentence}", flush=True)
            if isinstance(error, Failed):
                print(indent(str(error)), flush=True)
            else:
                print(indent("".join(traceback.format_exception(error)[-3:])), flush=True)
            if not self._diagnosed:
                self._diagnosed = True
                self._diagnose()
            if vital:
                raise Stop(sentence) from error
        else:
            self.passed += 1
            took = time.monotonic() - began
            print(f"ok      {sentence}" + (f"  ({took:.1f} s)" if took >= 1 else ""), flush=True)

    def finish(self):
        print(f"\n{time.monotonic() - self._began:.0f} s", flush=True)
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 1 if self.failed else 0


def expect(condition, otherwise):
    if not condition:
        raise Failed(otherwise() if callable(otherwise) else str(otherwise))


def equal(seen, wanted, what="value"):
    expect(seen == wanted, lambda: f"{what}: wanted {wanted!r}, saw {seen!r}")


def eventually(seconds, attempt, what, every=0.1):
    """Until `attempt` neither raises nor returns None or False; its value."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            value = attempt()
            seen = repr(value)
            if value is not None and value is not False:
                return value
        except Exception as error:  # noqa: BLE001 - the last one is shown
            seen = f"{type(error).__name__}: {error}"
        if time.monotonic() > deadline:
            raise Failed(f"{what}: not within {seconds} s; last seen: {seen[:2000]}")
        time.sleep(every)


def indent(text):
    return "\n".join("        " + line for line in text.strip().splitlines())


def note(text):
    print(indent(text), file=sys.stdout, flush=True)
