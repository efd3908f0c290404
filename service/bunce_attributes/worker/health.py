"""Whether a worker is stuck: it notes its beats in a small file, which a cheap check reads.

The check is ``python -m bunce_attributes.worker.health``. Two threads must go on turning, however busy the worker
is: the dispatcher, and the loop in which Celery consumes. The loop rests while Redis is away, which no restart would
mend, so it is not judged then. The check imports nothing but the standard library: it costs 20 ms of processor time,
where asking through Celery costs seconds.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

VARIABLE = "BUNCE_HEALTH_FILE"
BEAT_SECONDS = 2.0
MARGIN_SECONDS = 30.0
"""On top of a lease, the longest that a turn of the dispatcher takes: a late restart is better than a needless one."""


def boot_clock() -> float:
    """Seconds since the machine started: the same in every process, and no change of the wall clock moves it."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Beats:
    """What a worker notes about itself. Without a file it does nothing.

    Args:
        file: where; a few hundred bytes, best in memory (a tmpfs).
        limit_seconds: how old a beat may be.
    """

    def __init__(self, file: Path | None, limit_seconds: float, clock: Callable[[], float] = boot_clock) -> None:
        self._file = file
        self._clock = clock
        self._lock = threading.Lock()
        self._told = {"limit": limit_seconds, "dispatcher": clock(), "loop": clock(), "redis_away": 0.0}
        self._next = 0.0

    @classmethod
    def from_environment(cls, lease_seconds: float) -> Beats:
        """The beats of this process, in the file that BUNCE_HEALTH_FILE names, if it names one."""
        name = os.environ.get(VARIABLE)
        return cls(Path(name) if name else None, lease_seconds + MARGIN_SECONDS)

    def dispatcher(self, *, redis_away: bool) -> None:
        """The dispatcher turns; called at every turn, it writes every two seconds."""
        now = self._clock()
        self._told["dispatcher"] = now
        if redis_away:
            self._told["redis_away"] = now
        if now >= self._next:
            self._next = now + BEAT_SECONDS
            self._write()

    def loop(self) -> None:
        """Celery's loop turns."""
        self._told["loop"] = self._clock()

    def _write(self) -> None:
        if self._file is None:
            return
        with self._lock:
            # Replaced whole, so that no reader sees half of it.
            draft = self._file.with_name(f"{self._file.name}.{os.getpid()}")
            try:
                draft.write_text(json.dumps(self._told), encoding="utf-8")
                draft.replace(self._file)
            except OSError:
                # The check then finds an old file, or none, and says so.
                return


def fault(told: Mapping[str, float], now: float) -> str:
    """What is wrong with a worker that noted this; empty if nothing is. ``now`` as :func:`boot_clock`."""
    limit = told["limit"]
    silent = now - told["dispatcher"]
    if silent > limit:
        return f"The dispatcher has not turned for {silent:.0f} s (limit {limit:.0f} s)."
    silent = now - max(told["loop"], told["redis_away"])
    if silent > limit:
        return f"Celery's loop has not turned for {silent:.0f} s (limit {limit:.0f} s), though Redis answers."
    return ""


def check(file: str) -> str:
    """What is wrong with the worker whose beats are in ``file``; empty if nothing is."""
    try:
        told = json.loads(Path(file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"No worker has written {file} yet; it begins a few seconds after its start."
    except (OSError, ValueError) as error:
        return f"Cannot read {file}: {error}"
    return fault(told, boot_clock())


def main() -> int:
    """The check as a command: 0 if the worker is well, 1 and a line if it is stuck or not started."""
    file = os.environ.get(VARIABLE)
    wrong = check(file) if file else f"{VARIABLE} is not set: name a file there for the worker and for this check."
    print(wrong or "ok")  # noqa: T201 - the answer of a command
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
