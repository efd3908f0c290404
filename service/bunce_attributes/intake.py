"""From the producers' queue into the outbox: claim messages in bulk, judge every row, write and forget in one step.

A reader that dies leaves the messages where they are; a reader whose lease was given away writes nothing.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from uuid import uuid4

import redis

from bunce_attributes.messages import Rows, Unreadable, message_id, read_message
from bunce_attributes.outbox.outbox import (
    Accepted,
    ClaimedMessages,
    IntakeBatch,
    IntakeBusy,
    LeaseLost,
    Outbox,
    QueueEmpty,
)
from bunce_attributes.outcomes import TakenMessage
from bunce_attributes.updates import AttributeUpdate, Fault, InvalidUpdate, Lane, parse_update

LEASE_MS = 15_000
MOST_MESSAGES = 500
MOST_BYTES = 4 * 1024 * 1024
LARGEST_MESSAGE_BYTES = 16 * 1024 * 1024
SLICE_ROWS = 1_000
TIGHT_MESSAGES = 100
TIGHT_BYTES = 256 * 1024
FULL_PAUSE_SECONDS = 1.0
SLICE_BYTES = 1024 * 1024
FUTURE_TOLERANCE_US = 300 * 1_000_000
"""``occurred_at`` may be this far ahead of Redis' clock: producers' clocks differ, and a version from next year
would lock its key until then."""
_BULK_FLAG = 1
_pack_row = struct.Struct(">BIddd")


@dataclass(frozen=True, slots=True)
class IntakeResult:
    """What one run took in: messages forgotten; rows received = accepted + superseded + invalid."""

    messages: int = 0
    received: int = 0
    accepted: int = 0
    superseded: int = 0
    invalid: int = 0
    more: bool = False
    """Whether the queue had more when the run's time was over."""
    refused: str = ""
    """Why nothing could be read: another reader holds the lease, or Redis is too full. Empty if neither."""


@dataclass(frozen=True, slots=True)
class MemoryState:
    """How full Redis is: ``full`` says why intake should wait, empty if it need not.

    ``overfull``: Redis is so far above its limit that intake must wait whatever the outbox holds.
    """

    full: str = ""
    overfull: bool = False


@dataclass(slots=True)
class _Tally:
    messages: int = 0
    received: int = 0
    accepted: int = 0
    superseded: int = 0
    invalid: int = 0

    def result(self, *, more: bool, refused: str = "") -> IntakeResult:
        return IntakeResult(
            self.messages, self.received, self.accepted, self.superseded, self.invalid, more=more, refused=refused
        )


class Intake:
    """Reads the queue of one namespace.

    Args:
        row_limit_bytes: the largest row that a call can carry (BUNCE_BATCH_MAX_BYTES).
        memory: how full Redis is. When it is, a slice is taken in only while the outbox is nearly empty: the queue
            itself may be what fills Redis, and only rows that are sent make room.
        stopping: whether the worker is shutting down.
        fault: a hook for fault injection, called with the name of each point.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        row_limit_bytes: int,
        memory: Callable[[], MemoryState] = MemoryState,
        stopping: Callable[[], bool] = lambda: False,
        fault: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outbox = outbox
        self._row_limit = row_limit_bytes
        self._memory = memory
        self._stopping = stopping
        self._fault = fault
        self._clock = clock

    def run(self, seconds: float = 5.0, tell: Callable[[Sequence[TakenMessage]], None] | None = None) -> IntakeResult:
        """Read until the queue is empty or the time is over.

        Args:
            tell: hears what became of each message, in bulk, once it has left the queue.

        Raises:
            redis.exceptions.RedisError: the lease then ends by itself, and nothing is lost.
        """
        tally = _Tally()
        token = uuid4().hex
        full = ""
        ends = self._clock() + seconds
        gives_back = True
        try:
            while True:
                memory = self._memory()
                full = memory.full
                if full and (memory.overfull or self._outbox.waiting() >= SLICE_ROWS):
                    return tally.result(more=False, refused=full)
                claimed = self._outbox.claim_messages(
                    token,
                    lease_ms=LEASE_MS,
                    most_messages=TIGHT_MESSAGES if full else MOST_MESSAGES,
                    most_bytes=TIGHT_BYTES if full else MOST_BYTES,
                    largest=LARGEST_MESSAGE_BYTES,
                )
                match claimed:
                    case IntakeBusy():
                        return tally.result(more=False, refused="another worker reads the queue")
                    case QueueEmpty():
                        return tally.result(more=False)
                    case ClaimedMessages():
                        if not self._take_in(token, claimed, tally, tell):
                            return tally.result(more=False, refused="the lease was given away")
                if self._clock() >= ends or self._stopping():
                    return tally.result(more=True)
        except Exception as error:
            # A fault of ours over these messages is like a dead reader: the lease must count as lost, or the next
            # reader meets the same messages at once, for ever.
            gives_back = isinstance(error, redis.RedisError)
            raise
        finally:
            # A lost connection leaves the lease to its end; the queue is as it was.
            if gives_back:
                self._outbox.release_messages(token, wait_seconds=FULL_PAUSE_SECONDS if full else 0.0, why=full)

    def _take_in(
        self,
        token: str,
        claimed: ClaimedMessages,
        tally: _Tally,
        tell: Callable[[Sequence[TakenMessage]], None] | None,
    ) -> bool:
        for batch in self.batches(claimed, follow=tell is not None):
            self._fault("intake_before_accept")
            reply = self._outbox.accept(token, claimed.source, batch, lease_ms=LEASE_MS)
            self._fault("intake_after_accept")
            if isinstance(reply, LeaseLost):
                return False
            self._count(tally, batch, reply)
            if tell is not None:
                tell(batch.taken)
        return True

    @staticmethod
    def _count(tally: _Tally, batch: IntakeBatch, reply: Accepted) -> None:
        tally.messages += batch.forget - len(batch.scheduled)
        tally.received += len(batch.rows) + len(batch.invalid) + len(batch.dead_messages)
        tally.accepted += reply.accepted
        tally.superseded += reply.superseded
        tally.invalid += len(batch.invalid) + len(batch.dead_messages)

    def batches(self, claimed: ClaimedMessages, *, follow: bool = False) -> Iterator[IntakeBatch]:
        """The claimed messages as batches of at most 1,000 rows; a large message spans several.

        Args:
            follow: whether the batches tell what became of each message.
        """
        batch = IntakeBatch()
        size = 0
        now = claimed.now_us / 1_000_000
        skip = claimed.cursor
        began = self._clock()
        for raw in claimed.messages:
            message = read_message(raw)
            # A message whose first rows were taken in is taken in whole: its end may not die verbatim.
            if isinstance(message, Rows) and message.expires is not None and message.expires <= now and skip == 0:
                message = Unreadable("The message expired before it was read.")
            if isinstance(message, Unreadable):
                batch.forget += 1
                batch.dead_after.append(batch.length)
                batch.dead_messages.append((batch.forget, _dead_message(message)))
                if follow:
                    batch.taken.append(TakenMessage(message_id(raw), 1, 1, message.reason, now))
            elif message.eta is not None and message.eta > now and skip == 0:
                batch.forget += 1
                batch.scheduled.append((batch.forget, message.eta * 1000))
            else:
                invalid = 0
                for index in range(skip, len(message.rows)):
                    before = len(batch.invalid)
                    size += self._judge(message, index, claimed.now_us, batch)
                    invalid += len(batch.invalid) - before
                    done = index + 1 == len(message.rows)
                    if not done and (len(batch.rows) + len(batch.invalid) >= SLICE_ROWS or size >= SLICE_BYTES):
                        batch.cursor = index + 1
                        yield batch
                        batch, size, began = IntakeBatch(), 0, self._clock()
                batch.forget += 1
                if follow:
                    batch.taken.append(_taken(message, invalid, now))
            skip = 0
            late = self._clock() - began > LEASE_MS / 3000
            if len(batch.rows) + len(batch.invalid) >= SLICE_ROWS or size >= SLICE_BYTES or late:
                yield batch
                batch, size, began = IntakeBatch(), 0, self._clock()
        if batch.forget:
            yield batch

    def _judge(self, message: Rows, index: int, now_us: int, batch: IntakeBatch) -> int:
        row = message.rows[index]
        try:
            update = parse_update(row)
            encoded = self._encode(update, message, now_us)
        except InvalidUpdate as error:
            encoded = _dead_row(row, error, message.lane)
            batch.invalid_after.append(batch.length)
            batch.invalid.append(encoded)
        else:
            batch.rows.append(encoded)
        return len(encoded)

    def _encode(self, update: AttributeUpdate, message: Rows, now_us: int) -> bytes:
        body = update.row_json().encode()
        occurred, accepted = update.occurred_at, update.accepted_at
        faults = []
        if occurred is not None and not 0 < occurred <= now_us + FUTURE_TOLERANCE_US:
            faults.append(_moment_fault("occurred_at"))
        if accepted is not None and not 0 < accepted <= now_us + FUTURE_TOLERANCE_US:
            faults.append(_moment_fault("accepted_at"))
        # 17 bytes are the envelope of a call.
        if len(body) + 17 > self._row_limit:
            faults.append(_too_large(len(body), self._row_limit))
        if faults:
            raise InvalidUpdate(tuple(faults))
        details = len(update.details_json().encode()) if update.customer is not None else 0
        flags = _BULK_FLAG if message.lane is Lane.BULK else 0
        since = (message.enqueued_at or 0.0) * 1000
        return _pack_row.pack(flags, details, occurred or 0, accepted or 0, since) + update.key.digest() + body


def _taken(message: Rows, invalid: int, now: float) -> TakenMessage:
    rows = len(message.rows)
    none = "The row is invalid" if rows == 1 else f"All {rows} rows are invalid"
    reason = f"{none}; bunce-attributes dead list tells why." if rows and invalid == rows else ""
    return TakenMessage(message.task_id, rows, invalid, reason, now)


def _moment_fault(field: str) -> Fault:
    return Fault(field, "must lie after 1970 and at most 5 minutes ahead of Redis' clock")


def _too_large(size: int, limit: int) -> Fault:
    return Fault("row", f"has {size} bytes as JSON; a call carries at most {limit} (BUNCE_BATCH_MAX_BYTES)")


def _dead_message(message: Unreadable) -> bytes:
    reason_class = "expired" if "expired" in message.reason else "unreadable"
    members = {"reason_class": reason_class, "reason": message.reason, "attempts": []}
    return json.dumps(members)[1:-1].encode()


def _dead_row(row: object, error: InvalidUpdate, lane: Lane) -> bytes:
    members = {
        "reason_class": "invalid",
        "reason": error.summary,
        "faults": [{"field": f.field, "problem": f.problem, "value": f.value} for f in error.faults],
        "lane": lane.value,
        "attempts": [],
        "row": row,
    }
    # ASCII, because a row may hold half a surrogate pair; str, because kombu may have decoded a date.
    return json.dumps(members, default=str)[1:-1].encode()
