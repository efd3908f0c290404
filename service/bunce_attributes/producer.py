"""The Python client for applications that enqueue: validation at the call, chunks, pipelining, ``occurred_at``.

Errors::

    InvalidUpdate(ValueError)       a row is no update; every fault is named
    └── InvalidRow                  the same from enqueue_many: which row, and what is queued by then
    EnqueueFailed(Exception)        Redis cannot be reached, is full, …; says whether rows may be queued
    UnusableRedisUrl(ValueError)    the URL names no usable Redis
    UnusableCeleryApp(ValueError)   the Celery app would put messages where no worker of ours looks
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from bunce_attributes.publishing import Publisher, RedisPublisher
from bunce_attributes.row_batches import CHUNK_ROWS, Batch, EnqueueCounts, EnqueueFailed
from bunce_attributes.updates import AttributeUpdate, Customer, Fault, InvalidUpdate, Lane

__all__ = ["AttributeUpdates", "Batch", "EnqueueCounts", "EnqueueFailed", "InvalidRow"]

DEFAULT_NAMESPACE = "bunce-attributes"
InvalidHandler = Callable[[int, object, InvalidUpdate], object]


class InvalidRow(InvalidUpdate):
    """A row of ``enqueue_many`` is no update.

    ``row_number`` counts from 1. ``queued`` says what is in the queue: the first ``queued.rows`` rows (without
    those refused before), nothing of the rest.
    """

    def __init__(self, row_number: int, faults: tuple[Fault, ...], queued: EnqueueCounts) -> None:
        super().__init__(faults)
        self.row_number = row_number
        self.queued = queued

    def __str__(self) -> str:
        return f"row {self.row_number}: {super().__str__()} ({self.queued.rows:,} rows before it are queued)"


class AttributeUpdates:
    """Enqueues attribute updates. One for a process is enough: safe in threads and after a fork.

    Args:
        redis_url: the workers' ``REDIS_URL``. With `celery_app` it may be left out; if given, both must name the
            same place.
        celery_app: publish through this Celery application's own broker connections instead.
        namespace: the workers' ``BUNCE_NAMESPACE``: the name of the queue.
        lane: for rows that do not say; ``live`` goes before ``bulk``.
        stamp: give rows without ``occurred_at`` the time of the call, on Redis' clock, so that hosts whose clocks
            differ agree. Without stamps such rows are ordered by their place in the queue.
        timeout_seconds: the longest wait for Redis in one command; unused with `celery_app`.

    Raises:
        UnusableRedisUrl: the URL names no usable Redis.
        UnusableCeleryApp: messages of that app would lie where no worker of ours looks.
    """

    def __init__(
        self,
        redis_url: str | None = None,
        *,
        celery_app: Any = None,
        namespace: str = DEFAULT_NAMESPACE,
        lane: Lane | str = Lane.LIVE,
        stamp: bool = True,
        timeout_seconds: float = 5.0,
    ) -> None:
        self._lane = _lane(lane)
        self._stamp = stamp
        self._publisher: Publisher
        if celery_app is not None:
            # Imported late: a producer without a Celery app has no Celery installed.
            from bunce_attributes.celery_app_publisher import CeleryAppPublisher  # noqa: PLC0415

            self._publisher = CeleryAppPublisher(celery_app, queue=namespace, redis_url=redis_url)
        elif redis_url is not None:
            self._publisher = RedisPublisher(redis_url, queue=namespace, timeout_seconds=timeout_seconds)
        else:
            raise TypeError("AttributeUpdates needs a Redis URL or celery_app=")

    def enqueue(
        self,
        *,
        attribute: str | UUID,
        value: str | float | bool | Decimal | datetime,
        customer_id: str | None = None,
        customer_email: str | None = None,
        customer: Mapping[str, Any] | Customer | None = None,
        occurred_at: datetime | str | float | None = None,
        lane: Lane | str | None = None,
    ) -> None:
        """Enqueue one update; when this returns, Redis has it.

        Args:
            attribute: the attribute's UUID.
            value: numbers are written as text, booleans as ``true``/``false``, a datetime (with a time zone) as
                ``YYYY-MM-DDTHH:MM:SSZ``.
            customer_id, customer_email, customer: at least one names the customer; ``customer`` also creates or
                edits it.
            occurred_at: when the value became true, if that is not now: a datetime with a time zone, ISO 8601 with
                an offset, or Unix seconds. An older moment never overwrites a newer one.

        Raises:
            InvalidUpdate: naming every fault; nothing is queued.
            EnqueueFailed: Redis did not take it.
        """
        row = {
            "attribute": attribute,
            "value": value,
            "customer_id": customer_id,
            "customer_email": customer_email,
            "customer": customer,
            "occurred_at": occurred_at,
        }
        batch = self.batch(lane=lane, chunk_rows=1)
        batch.add(row)
        batch.flush()

    def enqueue_many(
        self,
        rows: Iterable[Mapping[str, Any] | AttributeUpdate],
        *,
        lane: Lane | str | None = None,
        chunk_rows: int = CHUNK_ROWS,
        on_invalid: InvalidHandler | None = None,
    ) -> EnqueueCounts:
        """Enqueue any number of updates in constant memory.

        Rows are mappings with the names of the API (``attribute`` stands for ``id`` too), sent in order, many to a
        message and up to 2,000 at once; so a list of up to 2,000 rows is queued whole or not at all.

        Args:
            rows: a list, a generator, a cursor, …
            chunk_rows: rows in a message, at most 1,000.
            on_invalid: called with (row number from 1, row, error) for every row that is no update, which is then
                left out. Without it the first such row raises :class:`InvalidRow`.

        Raises:
            InvalidRow: a row is no update; its ``queued`` says what was sent before.
            EnqueueFailed: Redis did not take rows; its ``queued`` says what was sent before.
        """
        batch = self.batch(lane=lane, chunk_rows=chunk_rows)
        for number, row in enumerate(rows, 1):
            try:
                batch.add(row)
            except InvalidUpdate as error:
                if on_invalid is None:
                    raise InvalidRow(number, error.faults, batch.counts) from None
                batch.refuse()
                on_invalid(number, row, error)
            if batch.full:
                batch.flush()
        batch.flush()
        return batch.counts

    def batch(self, *, lane: Lane | str | None = None, chunk_rows: int = CHUNK_ROWS) -> Batch:
        """The same by hand, for callers that want to know after each row how far they are."""
        chosen = self._lane if lane is None else _lane(lane)
        return Batch(self._publisher, lane=chosen, chunk_rows=chunk_rows, stamp=self._stamp)

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        self._publisher.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _lane(lane: Lane | str) -> Lane:
    try:
        return Lane(lane)
    except ValueError:
        raise ValueError(f"lane must be live or bulk, not {lane!r}") from None
