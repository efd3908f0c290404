"""The outbox without one customer: rows that wait leave at once, rows in a call when the call is over."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from bunce_attributes.identifiers import Identifiers
from bunce_attributes.outbox.outbox import Outbox
from bunce_attributes.outbox.scripts import Script, source

LAYOUT = 1
PAGE = 500
ASK_AGAIN_SECONDS = 0.1
_HEADER = struct.Struct(">BBBHHIIIdddd")
"""As in ``outbox/lua/_common.lua``; the length of the history is the eighth."""
_HISTORY = 7
_ATTRIBUTE = slice(7, 43)


class LaterLayout(Exception):  # noqa: N818 - reads as what it is where it is caught
    """A row was written by a later release; ``str()`` says what to do."""


def body_of(record: bytes) -> bytes:
    """The row's JSON in a record of the outbox.

    Raises:
        LaterLayout: a later release wrote it.
    """
    if record[:1] != bytes((LAYOUT,)):
        raise LaterLayout("An update was written by a later release of bunce-attributes; upgrade these commands.")
    return record[_HEADER.size + _HEADER.unpack_from(record)[_HISTORY] :]


@dataclass(frozen=True, slots=True)
class OutboxChanges:
    """What left the outbox, and how many rows are in a call still."""

    rows: int
    still_in_calls: int


class OutboxEraser:
    """Takes the rows of one customer out of the outbox of a namespace.

    ``attributes`` fills with the ids of all attributes that were seen.
    """

    def __init__(
        self,
        outbox: Outbox,
        customer: Identifiers,
        *,
        longest_wait_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._outbox = outbox
        self._client: Any = outbox.client
        self._ns = outbox.namespace
        self._customer = customer
        self._longest_wait = longest_wait_seconds
        self._clock = clock
        self._sleep = sleep
        self._erase = outbox.client.register_script(source(Script.ERASE))
        self._erased = 0
        self.attributes: set[str] = set()

    def run(self) -> OutboxChanges:
        """Erase what waits, and wait for what is in a call.

        Raises:
            LaterLayout: a row was written by a later release; nothing of it was changed.
        """
        # A row may come out of a call, or go into one, while the others are looked through: so before and after.
        in_calls = self._called()
        found = [
            digest
            for digest, record in self._client.hscan_iter(f"{self._ns}:rows", count=PAGE)
            if self._is_ours(record)
        ]
        keys = {*in_calls, *found, *self._called()}
        ends = self._clock() + self._longest_wait
        while True:
            held = self._erase_rows(keys)
            if not held or self._clock() >= ends:
                return OutboxChanges(self._erased, len(held))
            self._sleep(ASK_AGAIN_SECONDS)

    def _called(self) -> set[bytes]:
        calls: list[bytes] = self._client.zrange(f"{self._ns}:calls", 0, -1)
        return {
            digest
            for call in calls
            for digest, record in self._client.hgetall(f"{self._ns}:call:{call.decode()}").items()
            if self._is_ours(record)
        }

    def _is_ours(self, record: bytes) -> bool:
        body = body_of(record)
        self.attributes.add(body[_ATTRIBUTE].decode())
        return self._customer.named_in(json.loads(body))

    def _erase_rows(self, digests: Iterable[bytes]) -> list[bytes]:
        held: list[bytes] = []
        rest = iter(digests)
        while page := list(islice(rest, PAGE)):
            erased, *in_calls = self._erase(keys=[self._ns], args=[self._outbox.now_ms, self._outbox.memory_ms, *page])
            self._erased += int(erased)
            held += in_calls
        return held
