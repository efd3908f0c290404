"""Rows on their way: how they are put together, stamped, and accounted for when Redis fails in between."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from bunce_attributes import row_batches
from bunce_attributes.publishing import Chunk, ClockReading, PublishFailed
from bunce_attributes.row_batches import Batch, EnqueueCounts, EnqueueFailed, parse_producer_row
from bunce_attributes.updates import InvalidUpdate, Lane, parse_update

ATTRIBUTE = "9f171295-6935-400c-af6b-fd628a46bc71"
NOW = 1795559753.25


class FakePublisher:
    """Keeps what it is given; `failure` is raised instead."""

    def __init__(self) -> None:
        self.pushes: list[list[Chunk]] = []
        self.failure: PublishFailed | None = None
        self.clock_failure: PublishFailed | None = None

    def now(self) -> float:
        if self.clock_failure is not None:
            raise self.clock_failure
        return NOW

    def publish(self, chunks: Sequence[Chunk]) -> None:
        if self.failure is not None:
            raise self.failure
        self.pushes.append(list(chunks))

    def close(self) -> None:
        pass

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(row) for push in self.pushes for chunk in push for row in chunk.rows_json]


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


def row(number: int = 0, **changes: object) -> dict[str, object]:
    return {"id": ATTRIBUTE, "customer_id": str(number), "value": "x", **changes}


def test_a_row_is_stamped_with_the_time_of_redis(publisher: FakePublisher) -> None:
    batch = Batch(publisher, lane=Lane.LIVE)
    batch.add(row())
    batch.flush()
    assert publisher.rows == [{**row(), "occurred_at": NOW}]


def test_the_moment_that_a_row_brings_is_kept_to_the_microsecond(publisher: FakePublisher) -> None:
    batch = Batch(publisher, lane=Lane.LIVE)
    batch.add(row(occurred_at="2026-01-31T12:00:00.123457+00:00"))
    batch.add(row(occurred_at=-0.000001))
    batch.flush()
    assert [parse_update(sent).occurred_at for sent in publisher.rows] == [1769860800123457, -1]


def test_a_row_that_was_taken_in_before_is_not_stamped(publisher: FakePublisher) -> None:
    """A stamp would make the old value of an exported dead letter the newest."""
    batch = Batch(publisher, lane=Lane.LIVE)
    batch.add(row(accepted_at=1769860800.5))
    batch.flush()
    assert publisher.rows == [{**row(), "accepted_at": 1769860800.5}]


def test_stamps_can_be_switched_off(publisher: FakePublisher) -> None:
    batch = Batch(publisher, lane=Lane.LIVE, stamp=False)
    batch.add(row())
    batch.flush()
    assert publisher.rows == [row()]


def test_rows_are_put_together_by_count(publisher: FakePublisher) -> None:
    batch = Batch(publisher, lane=Lane.BULK, chunk_rows=2)
    for number in range(5):
        batch.add(row(number))
    batch.flush()
    assert [len(chunk.rows_json) for chunk in publisher.pushes[0]] == [2, 2, 1]
    assert {chunk.lane for chunk in publisher.pushes[0]} == {Lane.BULK}
    assert batch.counts == EnqueueCounts(rows=5, messages=3)
    assert [sent["customer_id"] for sent in publisher.rows] == ["0", "1", "2", "3", "4"]


def test_rows_are_put_together_by_bytes_of_utf_8(publisher: FakePublisher) -> None:
    batch = Batch(publisher, lane=Lane.LIVE)
    for number in range(3):
        batch.add(row(number, value="🎈" * (row_batches.CHUNK_BYTES // 10)))
    batch.flush()
    assert [len(chunk.rows_json) for chunk in publisher.pushes[0]] == [2, 1]


def test_a_row_larger_than_a_message_goes_alone(publisher: FakePublisher) -> None:
    batch = Batch(publisher, lane=Lane.LIVE)
    for value in ("a", "b" * row_batches.CHUNK_BYTES, "c"):
        batch.add(row(value=value))
    batch.flush()
    assert [len(chunk.rows_json) for chunk in publisher.pushes[0]] == [1, 1, 1]


def test_it_is_full_when_there_is_enough_for_one_push(publisher: FakePublisher) -> None:
    batch = Batch(publisher, lane=Lane.LIVE, chunk_rows=1)
    for number in range(row_batches.PUSH_CHUNKS):
        assert not batch.full
        batch.add(row(number))
    assert batch.full
    batch.flush()
    assert not batch.full


def test_it_is_full_when_a_row_has_waited_for_a_second(
    publisher: FakePublisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(row_batches.time, "monotonic", lambda: now)
    batch = Batch(publisher, lane=Lane.LIVE)
    batch.add(row())
    assert not batch.full
    now += row_batches.HELD_SECONDS + 0.1
    assert batch.full


def test_nothing_is_sent_of_an_empty_batch(publisher: FakePublisher) -> None:
    batch = Batch(publisher, lane=Lane.LIVE)
    batch.flush()
    assert publisher.pushes == []


@pytest.mark.parametrize("chunk_rows", [0, 1001])
def test_a_senseless_size_of_a_message_is_refused(publisher: FakePublisher, chunk_rows: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 1000"):
        Batch(publisher, lane=Lane.LIVE, chunk_rows=chunk_rows)


def test_a_failure_tells_sent_unknown_and_unsent_rows_apart(publisher: FakePublisher) -> None:
    batch = Batch(publisher, lane=Lane.LIVE, chunk_rows=2)
    for number in range(2):
        batch.add(row(number))
    batch.flush()
    for number in range(6):
        batch.add(row(number))
    publisher.failure = PublishFailed("Redis is away", sent=1, unknown=1)
    with pytest.raises(EnqueueFailed) as raised:
        batch.flush()
    assert raised.value.queued == EnqueueCounts(rows=4, messages=2)
    assert raised.value.unknown_rows == 2
    assert str(raised.value) == ("Redis is away (4 rows are queued; 2 more may be: enqueueing them again is harmless)")


def test_a_failure_with_certainty_says_that_nothing_was_queued(publisher: FakePublisher) -> None:
    batch = Batch(publisher, lane=Lane.LIVE)
    batch.add(row())
    publisher.failure = PublishFailed("Redis is full")
    with pytest.raises(EnqueueFailed, match=r"Redis is full \(nothing was queued\)"):
        batch.flush()


def test_a_clock_that_does_not_answer_is_a_failure_to_enqueue(publisher: FakePublisher) -> None:
    publisher.clock_failure = PublishFailed("Redis is away")
    with pytest.raises(EnqueueFailed, match=r"Redis is away \(nothing was queued\)"):
        Batch(publisher, lane=Lane.LIVE).add(row())


def test_an_attribute_may_be_called_attribute() -> None:
    assert parse_producer_row({"attribute": ATTRIBUTE, "customer_id": "1", "value": "x"}).id == ATTRIBUTE


def test_a_fault_of_the_attribute_bears_the_name_it_was_given() -> None:
    with pytest.raises(InvalidUpdate) as raised:
        parse_producer_row({"attribute": "no-uuid", "customer_id": "1", "value": "x"})
    assert [fault.field for fault in raised.value.faults] == ["attribute"]


def test_two_names_of_the_attribute_are_one_too_many() -> None:
    with pytest.raises(InvalidUpdate, match="give one of the two"):
        parse_producer_row({**row(), "attribute": ATTRIBUTE})


def test_a_reading_of_the_clock_moves_on_with_the_monotonic_clock() -> None:
    reading = ClockReading(redis_seconds=1000.0, monotonic_seconds=50.0, wall_seconds=9000.0)
    assert reading.now(monotonic_seconds=51.5, wall_seconds=9001.5) == 1001.5


def test_a_reading_of_the_clock_ends_after_a_minute_or_when_the_machine_slept() -> None:
    reading = ClockReading(redis_seconds=1000.0, monotonic_seconds=50.0, wall_seconds=9000.0)
    assert reading.now(monotonic_seconds=111.0, wall_seconds=9061.0) is None
    assert reading.now(monotonic_seconds=51.0, wall_seconds=12_600.0) is None
    assert reading.now(monotonic_seconds=51.0, wall_seconds=8990.0) is None
