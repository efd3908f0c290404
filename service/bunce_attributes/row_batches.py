"""Rows on their way into the queue: judged, stamped, and put together to messages, in constant memory."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bunce_attributes.publishing import Chunk, Publisher, PublishFailed
from bunce_attributes.updates import AttributeUpdate, Fault, InvalidUpdate, Lane, parse_update

CHUNK_ROWS = 250
MAX_CHUNK_ROWS = 1_000
CHUNK_BYTES = 180_000
"""Of rows in a message, so that it stays below 256 kB: base64 makes four bytes of three."""
PUSH_CHUNKS = 8
"""Messages pushed with one command: 2,000 rows a round trip, so that a distant Redis costs little."""
PUSH_BYTES = 1_000_000
HELD_SECONDS = 1.0
"""How long a row of a slow iterable waits for company, counted when the next row comes."""


@dataclass(frozen=True, slots=True)
class EnqueueCounts:
    """What an ``enqueue_many`` did: rows and messages that are in the queue, rows that were refused."""

    rows: int = 0
    messages: int = 0
    invalid: int = 0


class EnqueueFailed(Exception):  # noqa: N818 - reads as what happened where it is caught
    """Redis did not take rows.

    ``queued`` counts what surely is in the queue, ``unknown_rows`` the rows after those of which nobody knows (the
    connection broke in between); the others are not queued. Enqueueing rows a second time is harmless.
    """

    def __init__(self, reason: str, queued: EnqueueCounts, unknown_rows: int) -> None:
        known = f"{queued.rows:,} rows are queued" if queued.rows else "nothing was queued"
        doubt = f"; {unknown_rows:,} more may be: enqueueing them again is harmless" if unknown_rows else ""
        super().__init__(f"{reason} ({known}{doubt})")
        self.reason = reason
        self.queued = queued
        self.unknown_rows = unknown_rows


class Batch:
    """Rows on their way into the queue, in constant memory. For one thread.

    :meth:`add` judges and keeps a row; once :attr:`full` is true it is time for :meth:`flush`, which sends all.
    """

    def __init__(self, publisher: Publisher, *, lane: Lane, chunk_rows: int = CHUNK_ROWS, stamp: bool = True) -> None:
        if not 1 <= chunk_rows <= MAX_CHUNK_ROWS:
            raise ValueError(f"chunk_rows must be from 1 to {MAX_CHUNK_ROWS}, not {chunk_rows}")
        self._publisher = publisher
        self._lane = lane
        self._chunk_rows = chunk_rows
        self._stamp = stamp
        self._rows: list[str] = []
        self._bytes = 0
        self._chunks: list[Chunk] = []
        self._chunks_bytes = 0
        self._since = 0.0
        self.counts = EnqueueCounts()

    @property
    def full(self) -> bool:
        """Whether :meth:`flush` is due: enough for one push, or a row has been kept for a second."""
        if not self._rows and not self._chunks:
            return False
        return (
            len(self._chunks) >= PUSH_CHUNKS
            or self._chunks_bytes >= PUSH_BYTES
            or time.monotonic() - self._since > HELD_SECONDS
        )

    def add(self, row: Mapping[str, Any] | AttributeUpdate) -> None:
        """Keep a row for the next flush.

        Raises:
            InvalidUpdate: the row is none; nothing is kept of it.
            EnqueueFailed: Redis does not tell its time.
        """
        update = row if isinstance(row, AttributeUpdate) else parse_producer_row(row)
        text = update.row_json()[:-1]
        if update.occurred_at is not None:
            text += f',"occurred_at":{_seconds(update.occurred_at)}'
        elif update.accepted_at is None and self._stamp:
            # A row with accepted_at was taken in before: a stamp would make its old value the newest.
            text += f',"occurred_at":{self._now():.6f}'
        if update.accepted_at is not None:
            text += f',"accepted_at":{_seconds(update.accepted_at)}'
        text += "}"
        size = len(text) if text.isascii() else len(text.encode())
        if self._rows and self._bytes + size > CHUNK_BYTES:
            self._seal()
        if not self._rows and not self._chunks:
            self._since = time.monotonic()
        self._rows.append(text)
        self._bytes += size + 1
        if len(self._rows) >= self._chunk_rows:
            self._seal()

    def refuse(self) -> None:
        """Count a row that :meth:`add` refused and that is left out."""
        self.counts = replace(self.counts, invalid=self.counts.invalid + 1)

    def flush(self) -> None:
        """Send whatever is kept.

        Raises:
            EnqueueFailed: with what is known; the batch then keeps nothing.
        """
        self._seal()
        chunks, self._chunks, self._chunks_bytes = self._chunks, [], 0
        if not chunks:
            return
        sent, unknown, failure = len(chunks), 0, None
        try:
            self._publisher.publish(chunks)
        except PublishFailed as error:
            sent, unknown, failure = error.sent, error.unknown, error
        self.counts = replace(
            self.counts, rows=self.counts.rows + _rows_of(chunks[:sent]), messages=self.counts.messages + sent
        )
        if failure is not None:
            raise EnqueueFailed(str(failure), self.counts, _rows_of(chunks[sent : sent + unknown])) from None

    def _seal(self) -> None:
        if self._rows:
            self._chunks.append(Chunk(tuple(self._rows), self._lane))
            self._chunks_bytes += self._bytes
            self._rows, self._bytes = [], 0

    def _now(self) -> float:
        try:
            return self._publisher.now()
        except PublishFailed as error:
            raise EnqueueFailed(str(error), self.counts, 0) from None


def _rows_of(chunks: list[Chunk]) -> int:
    return sum(len(chunk.rows_json) for chunk in chunks)


def _seconds(moment_us: int) -> str:
    sign = "-" if moment_us < 0 else ""
    return f"{sign}{abs(moment_us) // 1_000_000}.{abs(moment_us) % 1_000_000:06d}"


def parse_producer_row(row: object) -> AttributeUpdate:
    """Judge a row in which the attribute may be called ``attribute`` instead of ``id``.

    Raises:
        InvalidUpdate: with every fault.
    """
    if not isinstance(row, Mapping) or "attribute" not in row:
        return parse_update(row)
    if "id" in row:
        raise InvalidUpdate((Fault("attribute", "is another name of id: give one of the two"),))
    try:
        return parse_update({"id" if name == "attribute" else name: value for name, value in row.items()})
    except InvalidUpdate as error:
        faults = tuple(replace(fault, field="attribute") if fault.field == "id" else fault for fault in error.faults)
        raise InvalidUpdate(faults) from None
