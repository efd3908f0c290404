"""Bringing chunks of rows into the producers' queue, over our own connection to Redis."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from redis.exceptions import BusyLoadingError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from bunce_attributes.celery_message import update_message
from bunce_attributes.connections import connect, explain
from bunce_attributes.updates import Lane

CLOCK_SECONDS = 60.0
"""How long a reading of Redis' clock holds: two clocks drift apart by some milliseconds in it."""
JUMP_SECONDS = 0.5
"""A wall clock that moved so much against the monotonic one was set, or the machine slept: read again."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """The rows of one message, each a JSON object already."""

    rows_json: tuple[str, ...]
    lane: Lane


class PublishFailed(Exception):  # noqa: N818 - what happened; the error of the public interface is EnqueueFailed
    """Some chunks are not in the queue: `sent` surely are, the next `unknown` may be, those after are not."""

    def __init__(self, reason: str, *, sent: int = 0, unknown: int = 0) -> None:
        super().__init__(reason)
        self.sent = sent
        self.unknown = unknown


class Publisher(Protocol):
    """A way into the queue. Safe in threads."""

    def now(self) -> float:
        """Unix seconds on Redis' clock.

        Raises:
            PublishFailed: Redis does not say.
        """

    def publish(self, chunks: Sequence[Chunk]) -> None:
        """One message a chunk, in order.

        Raises:
            PublishFailed: with what is known about each chunk.
        """

    def close(self) -> None:
        """Give the connections back; the next use makes new ones."""


@dataclass(frozen=True, slots=True)
class ClockReading:
    """What Redis' clock said, and what ours did at that moment."""

    redis_seconds: float
    monotonic_seconds: float
    wall_seconds: float

    def now(self, monotonic_seconds: float, wall_seconds: float) -> float | None:
        """Redis' clock at a later moment; None when the reading no longer holds."""
        passed = monotonic_seconds - self.monotonic_seconds
        jumped = abs(wall_seconds - self.wall_seconds - passed) > JUMP_SECONDS
        return None if jumped or passed > CLOCK_SECONDS else self.redis_seconds + passed


class NeverBack:
    """Keeps moments from going back by the little that two clocks drift apart: a later value is never the older."""

    def __init__(self) -> None:
        # No lock: one that another thread held would stay locked in a forked child.
        self._latest = 0.0

    def moment(self, now: float) -> float:
        """``now``, or the latest moment so far; a clock that was really set back is followed."""
        latest = self._latest
        self._latest = now = now if now > latest or latest - now > JUMP_SECONDS else latest
        return now


class RedisPublisher:
    """Our own messages through redis-py: several with one command, which Redis takes whole or not at all."""

    def __init__(self, url: str, *, queue: str, timeout_seconds: float) -> None:
        self._url = url
        self._queue = queue
        # redis-py's pool is safe in threads and starts afresh after a fork.
        self._client = connect(url, timeout_seconds=timeout_seconds, client_name="bunce-attributes-producer")
        self._reading: ClockReading | None = None
        self._never_back = NeverBack()

    def now(self) -> float:
        return self._never_back.moment(self._now())

    def _now(self) -> float:
        if self._reading is not None:
            now = self._reading.now(time.monotonic(), time.time())
            if now is not None:
                return now
        try:
            seconds, microseconds = self._client.time()
        except RedisError as error:
            raise PublishFailed(explain(error, self._url)) from None
        # After the answer, so that a slow network makes our time late, never ahead of Redis'.
        self._reading = ClockReading(seconds + microseconds / 1_000_000, time.monotonic(), time.time())
        return self._reading.redis_seconds

    def publish(self, chunks: Sequence[Chunk]) -> None:
        wall = time.time()
        messages = [
            update_message(chunk.rows_json, queue=self._queue, lane=chunk.lane, enqueued_at=wall) for chunk in chunks
        ]
        try:
            # A connection first: whatever fails before there is one has surely queued nothing.
            pool = self._client.connection_pool
            pool.release(pool.get_connection())
        except RedisError as error:
            raise PublishFailed(explain(error, self._url)) from None
        try:
            self._client.lpush(self._queue, *messages)
        except BusyLoadingError as error:
            # An answer, though redis-py counts it among the lost connections.
            raise PublishFailed(explain(error, self._url)) from None
        except (RedisTimeoutError, RedisConnectionError) as error:
            raise PublishFailed(explain(error, self._url), unknown=len(chunks)) from None
        except RedisError as error:
            raise PublishFailed(explain(error, self._url)) from None

    def close(self) -> None:
        self._client.close()
