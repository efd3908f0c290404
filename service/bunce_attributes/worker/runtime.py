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
from bunce_attributes.intake import Intake
from bunce_attributes.outbox.outbox import Outbox
from bunce_attributes.settings import Settings

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
        self.api = BunceApi(settings.base_url, settings.key, connections=settings.max_concurrent_calls)
        self.delivery = Delivery(self.outbox, self.api, settings, fault=fault)
        self.intake = Intake(
            self.outbox,
            row_limit_bytes=settings.batch_max_bytes,
            memory_full=self.memory_full,
            stopping=self.stopping.is_set,
            fault=fault,
        )

    def memory_full(self) -> str:
        """Why intake must wait for memory in Redis; empty if it need not."""
        return memory_full(self.client, self.settings.redis_high_water)


def memory_full(client: redis.Redis, high_water: float) -> str:
    """Why intake must wait: Redis uses more than ``high_water`` (a share of its maxmemory). Empty if it need not."""
    memory = client.info("memory")
    assert isinstance(memory, dict)
    limit, used = int(memory.get("maxmemory", 0)), int(memory.get("used_memory", 0))
    if limit and used > limit * high_water:
        return f"Redis uses {used * 100 // limit} % of its maxmemory; intake waits until calls have made room"
    return ""


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
