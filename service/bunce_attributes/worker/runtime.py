"""What a worker process has: one Redis client, one HTTP client, the outbox. Made where it is first used.

A prefork child must not share sockets or threads with its parent, so everything is keyed by the process id.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import redis

from bunce_attributes.bunce_api import BunceApi
from bunce_attributes.connections import connect
from bunce_attributes.delivery import Delivery
from bunce_attributes.intake import Intake, MemoryState
from bunce_attributes.outbox.outbox import Outbox
from bunce_attributes.settings import Settings
from bunce_attributes.worker.wakeups import WakeUps

REDIS_TIMEOUT_SECONDS = 5.0
"""The longest that a dead Redis holds up a thread for one command; nothing is repeated by the client."""


class Runtime:
    """The objects of one process."""

    def __init__(self, settings: Settings) -> None:
        fault = fault_hook()
        self.settings = settings
        self.stopping = threading.Event()
        self.client = connect(
            settings.redis_url, timeout_seconds=REDIS_TIMEOUT_SECONDS, client_name=f"{settings.namespace}-worker"
        )
        self.outbox = Outbox(self.client, settings)
        self.wakeups = WakeUps(self.outbox)
        self.api = BunceApi(settings.base_url, settings.key, connections=settings.max_concurrent_calls)
        self.delivery = Delivery(self.outbox, self.api, settings, fault=fault, stopping=self.stopping.is_set)
        self.intake = Intake(
            self.outbox,
            row_limit_bytes=settings.batch_max_bytes,
            memory=lambda: memory_state(self.client, settings.redis_high_water),
            stopping=self.stopping.is_set,
            fault=fault,
        )


OVERFULL_SHARE = 0.1
OVERFULL_LEAST_BYTES = 16 * 1024 * 1024
"""How far above maxmemory (the larger of the two) the scripts that drain a full Redis may go. Producers are refused
at maxmemory itself; a small Redis is above it by our scripts and its own buffers alone."""


def memory_state(client: redis.Redis, high_water: float) -> MemoryState:
    """How full Redis is: full above ``high_water``, a share of its maxmemory."""
    memory = client.info("memory")
    assert isinstance(memory, dict)
    limit, used = int(memory.get("maxmemory", 0)), int(memory.get("used_memory", 0))
    if limit and used > limit * high_water:
        return MemoryState(
            f"Redis uses {used * 100 // limit} % of its maxmemory; intake waits until calls have made room",
            overfull=used > limit + max(limit * OVERFULL_SHARE, OVERFULL_LEAST_BYTES),
        )
    return MemoryState()


def fault_hook() -> Callable[[str], None]:
    """Kills this process at the point that BUNCE_TEST_KILL_AT names, for the crash tests (NAME or NAME:n-th time)."""
    name, _, nth = os.environ.get("BUNCE_TEST_KILL_AT", "").partition(":")
    if not name:
        return lambda _: None
    left = int(nth or 1)

    def kill(point: str) -> None:
        nonlocal left
        if point == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), 9)

    return kill


_runtimes: dict[int, Runtime] = {}
_lock = threading.Lock()


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - a lock that some thread of the parent held would stay locked for ever
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


def runtime(settings: Settings) -> Runtime:
    """The runtime of this process."""
    with _lock:
        pid = os.getpid()
        if pid not in _runtimes:
            # After a fork the parent's entry holds sockets that are not ours to close.
            _runtimes.clear()
            _runtimes[pid] = Runtime(settings)
        return _runtimes[pid]
