"""The producers' queue, its priorities and what is scheduled, rewritten without one customer.

The lease on the queue is held meanwhile, so that no reader works on what changes. Emptied messages keep their place:
positions stay true while producers add to the other end.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from bunce_attributes.forgetting.messages import Rewritten, attributes_in, without_customer
from bunce_attributes.identifiers import Identifiers
from bunce_attributes.messages import read_message
from bunce_attributes.outbox.keys import producer_lists
from bunce_attributes.outbox.outbox import Outbox
from bunce_attributes.outbox.scripts import Script, source

LEASE_MS = 15_000
PAGE_BYTES = 8 * 1024 * 1024
PAGE_MESSAGES = 200
ASK_AGAIN_SECONDS = 0.02


class QueueBusy(Exception):  # noqa: N818 - reads as what it is where it is caught
    """The queue could not be had for itself, or was lost; ``str()`` says what to do."""


@dataclass(slots=True)
class QueueChanges:
    """What left the queue."""

    rows: int = 0
    messages: int = 0
    """Messages that are empty now."""
    unreadable: int = 0
    """Of these, those that could not be taken apart and left whole."""
    attributes: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Change:
    at: bytes | int
    """Field of a hash, or index in a list from its end."""
    old: bytes
    new: Rewritten


class QueueEraser:
    """Takes the rows of one customer out of the queue of a namespace."""

    def __init__(
        self,
        outbox: Outbox,
        customer: Identifiers,
        *,
        longest_wait_seconds: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._outbox = outbox
        self._client: Any = outbox.client
        self._ns = outbox.namespace
        self._customer = customer
        self._token = f"forget-{uuid4().hex}"
        self._hold = outbox.client.register_script(source(Script.INTAKE_HOLD))
        self._rewrite = outbox.client.register_script(source(Script.REWRITE))
        self._longest_wait = longest_wait_seconds
        self._clock = clock
        self._sleep = sleep
        self.changes = QueueChanges()

    def run(self) -> QueueChanges:
        """Rewrite everything that waits.

        Raises:
            QueueBusy: a reader has the queue for too long, or took it over; what was done stays done.
        """
        self._take()
        try:
            for name in (f"{self._ns}:scheduled:due", *producer_lists(self._ns)):
                self._rewrite_list(name)
            self._rewrite_scheduled()
        finally:
            self._outbox.release_messages(self._token)
        return self.changes

    def _take(self) -> None:
        ends = self._clock() + self._longest_wait
        while self._lease() > 0:
            if self._clock() >= ends:
                raise QueueBusy(
                    f"Workers read the queue without a pause of {ASK_AGAIN_SECONDS:g} s for {self._longest_wait:g} s: "
                    "try again, or stop the workers for a moment."
                )
            self._sleep(ASK_AGAIN_SECONDS)

    def _lease(self) -> int:
        return int(self._hold(keys=[self._ns], args=[self._outbox.now_ms, self._token, LEASE_MS]))

    def _rewrite_list(self, name: str) -> None:
        cursor = int(self._client.hget(f"{self._ns}:intake", f"cursor:{name}") or 0)
        for first, page in self._pages(name):
            changes = []
            new_cursor = ""
            for offset, raw in enumerate(page):
                at = first - offset
                message = read_message(raw)
                self.changes.attributes |= attributes_in(message)
                new = without_customer(raw, message, self._customer, cursor if at == -1 else 0)
                if new is None:
                    continue
                changes.append(_Change(at, raw, new))
                if at == -1 and cursor:
                    new_cursor = str(new.cursor)
            self._apply(name, changes, new_cursor)

    def _pages(self, name: str) -> Iterator[tuple[int, list[bytes]]]:
        """Index of the first message, counted from the end, and messages, oldest first. Bounded in bytes."""
        at, ask = -1, 1
        while True:
            found: list[bytes] = self._client.lrange(name, at - ask + 1, at)[::-1]
            if not found:
                return
            yield at, found
            at -= len(found)
            size = sum(len(raw) for raw in found)
            ask = max(1, min(ask * 4, PAGE_MESSAGES, PAGE_BYTES * len(found) // max(size, 1)))

    def _rewrite_scheduled(self) -> None:
        name = f"{self._ns}:scheduled:messages"
        for message_id, raw in self._client.hscan_iter(name, count=20):
            message = read_message(raw)
            self.changes.attributes |= attributes_in(message)
            new = without_customer(raw, message, self._customer)
            self._apply(name, [] if new is None else [_Change(message_id, raw, new)], "")

    def _apply(self, name: str, changes: list[_Change], cursor: str) -> None:
        if not changes:
            if self._lease() > 0:
                raise QueueBusy(_LOST)
            return
        args: list[str | bytes | int] = [self._outbox.now_ms, self._token, LEASE_MS, name, cursor]
        for change in changes:
            args += [change.at, hashlib.sha1(change.old, usedforsecurity=False).hexdigest()]
            args += [change.new.message, change.new.removed]
        if self._rewrite(keys=[self._ns], args=args)[0] == b"lost":
            raise QueueBusy(_LOST)
        self.changes.rows += sum(change.new.removed for change in changes)
        self.changes.messages += sum(change.new.empty for change in changes)
        self.changes.unreadable += sum(change.new.whole for change in changes)


_LOST = "A worker took the queue over in the middle, because this took too long: run it again for the rest."
