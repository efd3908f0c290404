"""The Python client against a real Redis: what arrives, in which order, from threads and forks, and what fails how."""

from __future__ import annotations

import json
import os
import socket
import tracemalloc
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import BusyLoadingError

from bunce_attributes import (
    AttributeUpdates,
    EnqueueCounts,
    EnqueueFailed,
    InvalidRow,
    InvalidUpdate,
    UnusableRedisUrl,
)
from bunce_attributes.embedded_redis import EmbeddedRedis

ATTRIBUTE = "9f171295-6935-400c-af6b-fd628a46bc71"
QUEUE = "bunce-attributes"


def row(number: int, **changes: object) -> dict[str, object]:
    return {"attribute": ATTRIBUTE, "customer_id": str(number), "value": "x", **changes}


def queued_messages(client: Redis, queue: str = QUEUE) -> list[dict[str, Any]]:
    """In the order in which they are taken in."""
    raw = client.lrange(queue, 0, -1)
    assert isinstance(raw, list)
    return [json.loads(message) for message in reversed(raw)]


def queued_rows(client: Redis, queue: str = QUEUE) -> list[dict[str, Any]]:
    return [row for message in queued_messages(client, queue) for row in json.loads(b64decode(message["body"]))[0][0]]


def lanes(client: Redis) -> list[str]:
    return [json.loads(b64decode(message["body"]))[1]["lane"] for message in queued_messages(client)]


@pytest.fixture
def updates(redis_url: str) -> Iterator[AttributeUpdates]:
    with AttributeUpdates(redis_url) as client:
        yield client


def test_one_update_is_in_redis_when_the_call_returns(updates: AttributeUpdates, redis_client: Redis) -> None:
    updates.enqueue(
        attribute=ATTRIBUTE,
        customer_email="ada@example.com",
        value=datetime(2026, 1, 31, 12, tzinfo=UTC),
        occurred_at=datetime(2026, 1, 31, 12, 0, 1, tzinfo=UTC),
    )
    assert queued_rows(redis_client) == [
        {
            "id": ATTRIBUTE,
            "customer_email": "ada@example.com",
            "value": "2026-01-31T12:00:00Z",
            "occurred_at": 1769860801.0,
        }
    ]


def test_a_customer_is_sent_whole(updates: AttributeUpdates, redis_client: Redis) -> None:
    customer = {"email": "a@b.c", "devices": [{"device_type": "ios", "device_token": "t"}]}
    updates.enqueue(attribute=ATTRIBUTE, customer=customer, value=1)
    assert queued_rows(redis_client)[0]["customer"] == customer


def test_the_stamp_is_of_the_clock_of_redis(updates: AttributeUpdates, redis_client: Redis) -> None:
    """Producers whose clocks differ must agree on which value is newer."""
    before = redis_client.time()
    updates.enqueue(attribute=ATTRIBUTE, customer_id="1", value=1)
    after = redis_client.time()
    assert isinstance(before, tuple)
    assert isinstance(after, tuple)
    stamp = queued_rows(redis_client)[0]["occurred_at"]
    assert before[0] + before[1] / 1e6 - 0.001 <= stamp <= after[0] + after[1] / 1e6


def test_stamps_of_one_process_never_go_back(updates: AttributeUpdates, redis_client: Redis) -> None:
    updates.enqueue_many(row(number) for number in range(1000))
    stamps = [queued["occurred_at"] for queued in queued_rows(redis_client)]
    assert stamps == sorted(stamps)


def test_an_invalid_update_raises_at_the_caller_with_every_fault(
    updates: AttributeUpdates, redis_client: Redis
) -> None:
    with pytest.raises(InvalidUpdate) as raised:
        updates.enqueue(attribute="no-uuid", value=datetime(2026, 1, 31))  # noqa: DTZ001 - the point of this test
    assert [fault.field for fault in raised.value.faults] == ["attribute", "value", "row"]
    assert not redis_client.exists(QUEUE)


def test_many_rows_keep_their_order_over_messages(updates: AttributeUpdates, redis_client: Redis) -> None:
    counts = updates.enqueue_many((row(number) for number in range(5001)), chunk_rows=100)
    assert counts == EnqueueCounts(rows=5001, messages=51, invalid=0)
    assert [queued["customer_id"] for queued in queued_rows(redis_client)] == [str(number) for number in range(5001)]


def test_messages_stay_below_256_kb(updates: AttributeUpdates, redis_client: Redis) -> None:
    updates.enqueue_many((row(number, value="é" * 2000) for number in range(500)), chunk_rows=1000)
    raw = redis_client.lrange(QUEUE, 0, -1)
    assert isinstance(raw, list)
    assert max(len(message) for message in raw) < 256_000


def test_any_iterable_is_enqueued_in_constant_memory(updates: AttributeUpdates, redis_client: Redis) -> None:
    tracemalloc.start()
    try:
        updates.enqueue_many(row(number) for number in range(20_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # 20,000 rows take more than 3 MB as JSON alone.
    assert peak < 2_500_000
    assert redis_client.llen(QUEUE) == 80


def test_an_invalid_row_stops_with_its_number_and_what_is_queued(
    updates: AttributeUpdates, redis_client: Redis
) -> None:
    rows = [row(number) for number in range(2500)]
    rows[2400]["value"] = None
    with pytest.raises(InvalidRow) as raised:
        updates.enqueue_many(rows)
    assert raised.value.row_number == 2401
    assert raised.value.queued == EnqueueCounts(rows=2000, messages=8)
    assert str(raised.value).startswith("row 2401: value: must be a string, a number or a boolean")
    assert "2,000 rows before it are queued" in str(raised.value)
    assert len(queued_rows(redis_client)) == 2000


def test_a_short_list_with_an_invalid_row_is_not_queued_at_all(updates: AttributeUpdates, redis_client: Redis) -> None:
    with pytest.raises(InvalidRow):
        updates.enqueue_many([row(1), row(2), {"attribute": ATTRIBUTE}])
    assert not redis_client.exists(QUEUE)


def test_invalid_rows_can_be_left_out(updates: AttributeUpdates, redis_client: Redis) -> None:
    seen: list[tuple[int, object]] = []
    counts = updates.enqueue_many(
        [row(1), "no row", row(3)], on_invalid=lambda number, given, _error: seen.append((number, given))
    )
    assert counts == EnqueueCounts(rows=2, messages=1, invalid=1)
    assert seen == [(2, "no row")]
    assert [queued["customer_id"] for queued in queued_rows(redis_client)] == ["1", "3"]


def test_rows_go_in_the_lane_of_the_call_else_of_the_client(redis_url: str, redis_client: Redis) -> None:
    updates = AttributeUpdates(redis_url, lane="bulk")
    updates.enqueue(attribute=ATTRIBUTE, customer_id="1", value=1)
    updates.enqueue(attribute=ATTRIBUTE, customer_id="1", value=1, lane="live")
    updates.enqueue_many([row(1)])
    assert lanes(redis_client) == ["bulk", "live", "bulk"]


def test_a_lane_that_is_none_is_refused(redis_url: str) -> None:
    with pytest.raises(ValueError, match="lane must be live or bulk, not 'fast'"):
        AttributeUpdates(redis_url, lane="fast")


def test_the_namespace_is_the_name_of_the_queue(redis_url: str, redis_client: Redis) -> None:
    AttributeUpdates(redis_url, namespace="other").enqueue(attribute=ATTRIBUTE, customer_id="1", value=1)
    assert redis_client.keys("*") == [b"other"]


def test_an_unusable_address_is_refused_at_once() -> None:
    with pytest.raises(UnusableRedisUrl):
        AttributeUpdates("localhost:6379")


def test_threads_share_one_client(updates: AttributeUpdates, redis_client: Redis) -> None:
    def enqueue(thread: int) -> None:
        for number in range(50):
            updates.enqueue(attribute=ATTRIBUTE, customer_id=f"{thread}-{number}", value=1)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(enqueue, range(8)))
    by_thread: dict[str, list[int]] = {}
    for queued in queued_rows(redis_client):
        thread, number = queued["customer_id"].split("-")
        by_thread.setdefault(thread, []).append(int(number))
    assert set(by_thread) == {str(thread) for thread in range(8)}
    assert all(numbers == list(range(50)) for numbers in by_thread.values())


def test_a_fork_uses_connections_of_its_own(updates: AttributeUpdates, redis_client: Redis) -> None:
    """A web server opens the client and forks; answers on a shared connection would go to the wrong process."""
    updates.enqueue(attribute=ATTRIBUTE, customer_id="parent", value=1)
    children = []
    for child in range(3):
        pid = os.fork()
        if pid == 0:
            try:
                for number in range(50):
                    updates.enqueue(attribute=ATTRIBUTE, customer_id=f"{child}-{number}", value=1)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    for number in range(50):
        updates.enqueue(attribute=ATTRIBUTE, customer_id=f"parent-{number}", value=1)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0, 0]
    assert len({queued["customer_id"] for queued in queued_rows(redis_client)}) == 201


def test_a_full_redis_is_said_and_nothing_is_queued() -> None:
    with EmbeddedRedis(appendfsync="no", config={"maxmemory": "3mb"}) as server:
        updates = AttributeUpdates(server.url)
        with pytest.raises(EnqueueFailed) as raised:
            updates.enqueue_many(row(number) for number in range(1_000_000))
        queued = len(queued_rows(server.client()))
    assert "is full" in raised.value.reason
    assert raised.value.unknown_rows == 0
    assert raised.value.queued.rows == queued > 0


def test_a_redis_out_of_reach_is_said_without_the_password() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(EnqueueFailed) as raised:
        AttributeUpdates(f"redis://:s3cr3t@127.0.0.1:{port}/0").enqueue(attribute=ATTRIBUTE, customer_id="1", value=1)
    assert "connection refused" in str(raised.value)
    assert "nothing was queued" in str(raised.value)
    assert "s3cr3t" not in str(raised.value)


def test_a_redis_that_came_back_is_used_again() -> None:
    with EmbeddedRedis(appendfsync="always") as server:
        updates = AttributeUpdates(server.url)
        updates.enqueue(attribute=ATTRIBUTE, customer_id="1", value=1)
        server.stop()
        with pytest.raises(EnqueueFailed) as raised:
            updates.enqueue(attribute=ATTRIBUTE, customer_id="2", value=1)
        assert raised.value.unknown_rows == 0
        server.start()
        updates.enqueue(attribute=ATTRIBUTE, customer_id="3", value=1)
        assert [queued["customer_id"] for queued in queued_rows(server.client())] == ["1", "3"]


def test_a_redis_that_falls_silent_in_between_leaves_a_doubt_that_is_said() -> None:
    with EmbeddedRedis(appendfsync="no") as server:
        updates = AttributeUpdates(server.url, timeout_seconds=0.3)
        updates.enqueue(attribute=ATTRIBUTE, customer_id="1", value=1)
        server.client().execute_command("CLIENT", "PAUSE", 1500, "WRITE")
        with pytest.raises(EnqueueFailed) as raised:
            updates.enqueue_many([row(1), row(2)])
        assert "does not answer in time" in raised.value.reason
        assert raised.value.unknown_rows == 2
        assert "2 more may be" in str(raised.value)


def test_another_use_of_the_queues_name_is_said(updates: AttributeUpdates, redis_client: Redis) -> None:
    redis_client.set(QUEUE, "a string")
    with pytest.raises(EnqueueFailed, match="another application shares this database"):
        updates.enqueue(attribute=ATTRIBUTE, customer_id="1", value=1)


def test_a_redis_that_is_loading_has_surely_queued_nothing(
    redis_url: str, redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py counts this answer among the lost connections, after which nobody knows."""

    def loading(*_: object) -> None:
        raise BusyLoadingError("Redis is loading the dataset in memory")

    monkeypatch.setattr(Redis, "lpush", loading)
    with AttributeUpdates(redis_url) as updates, pytest.raises(EnqueueFailed, match="still loading") as failed:
        updates.enqueue_many([row(1), row(2)])
    assert (failed.value.queued.rows, failed.value.unknown_rows) == (0, 0)
    assert redis_client.llen(QUEUE) == 0
