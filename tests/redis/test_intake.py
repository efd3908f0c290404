"""Intake as a whole: whatever bytes lie in the queue end as rows or as dead letters, and stop nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from redis import Redis
from tests.redis.world import ATTRIBUTE, World, digest, message, row

from bunce_attributes import intake as intake_module
from bunce_attributes.intake import SLICE_ROWS, Intake, MemoryState
from bunce_attributes.outbox.outbox import ClaimedMessages
from bunce_attributes.updates import parse_update

LEASE_MS = 15_000


@pytest.fixture
def world(redis_client: Redis) -> World:
    return World(redis_client)


def moment(world: World, **ahead: float) -> str:
    return (datetime.fromtimestamp(world.outbox.now_ms / 1000, UTC) + timedelta(**ahead)).isoformat()


def test_a_bad_row_does_not_refuse_its_neighbours(world: World) -> None:
    result = world.enqueue(row(1), {"id": "x"}, row(2), "no row", row(3))
    assert (result.messages, result.received, result.accepted, result.invalid) == (1, 5, 3, 2)
    letters = world.dead()
    assert [letter["row"] for letter in letters] == [{"id": "x"}, "no row"]
    assert {fault["field"] for fault in letters[0]["faults"]} == {"id", "value", "row"}
    assert all(letter["reason_class"] == "invalid" for letter in letters)
    world.check()


def test_garbage_between_messages_stops_nothing(world: World) -> None:
    world.queue(b"\xff", message([row(1)]), b"[]", b"", message(None), message([row(2)]))
    result = world.take_in()
    assert (result.messages, result.accepted, result.invalid) == (6, 2, 4)
    raw = set(world.client.hvals(world.key("dead:raw")))
    assert raw == {b"\xff", b"[]", b""}, "unreadable messages are kept as they came"
    world.check()


def test_an_empty_list_of_rows_is_forgotten(world: World) -> None:
    assert world.enqueue().messages == 1
    assert world.client.llen("bunce-attributes") == 0
    world.check()


@pytest.mark.parametrize(
    "value",
    [
        "\ud800",
        {"a": {"b": "c"}},
        ["x"],
        None,
        float("nan"),
        float("inf"),
        "[" * 3_000,
        {"\ud800": 1},
        {"__type__": "datetime", "__value__": "0001-01-01T00:00:00+23:00"},
        {"__type__": "datetime", "__value__": "2026-01-01T00:00:00"},
    ],
)
@pytest.mark.parametrize("field", ["value", "customer_id", "id", "occurred_at", "customer", "\ud800"])
def test_no_value_in_any_field_stops_the_queue(world: World, field: str, value: Any) -> None:
    result = world.enqueue({**row(1), field: value}, row(2))
    assert (result.received, result.messages) == (2, 1)
    assert digest(row(2)) in world.waiting()
    world.check()


@pytest.mark.parametrize("depth", [50, 480, 900, *range(960, 1000, 3), 100_000])
def test_a_row_of_any_depth_is_a_dead_letter_and_stops_nothing(world: World, depth: int) -> None:
    deep = message([{**row(1), "value": "HERE"}]).replace(b"base64", b"utf-8")
    document = json.loads(deep)
    body = json.dumps([[[{**row(1), "value": "HERE"}]], {}, {}]).replace('"HERE"', "[" * depth + "]" * depth)
    document["body"] = body
    world.queue(json.dumps(document).encode(), message([row(2)]))
    result = world.take_in()
    assert (result.accepted, result.invalid) == (1, 1)
    world.check()


def test_a_number_of_five_thousand_digits_costs_nobody_anything(world: World) -> None:
    document = json.loads(message([]))
    document["properties"] = {}
    document["body"] = json.dumps([[[row(1), row(2, "HERE")]], {}, {}]).replace('"HERE"', "7" * 5000)
    world.queue(json.dumps(document).encode())
    assert world.take_in().accepted == 2
    assert world.waiting_row(row(2)).body["value"] == "7" * 5000


def test_a_row_larger_than_a_call_is_a_dead_letter_with_the_limit(redis_client: Redis) -> None:
    world = World(redis_client, batch_max_bytes=1_000)
    fits = 1_000 - 17 - len(json.dumps(row(1, ""), separators=(",", ":")))
    result = world.enqueue(row(1, "x" * fits), row(2, "x" * (fits + 1)))
    assert (result.accepted, result.invalid) == (1, 1)
    assert "BUNCE_BATCH_MAX_BYTES" in world.dead()[0]["reason"]
    world.ms += 1_000
    call = world.must_claim()
    assert len(b'{"attributes":[' + call.rows[0].body + b"]}") == 1_000


def test_occurred_at_too_far_ahead_of_redis_clock_is_invalid(world: World) -> None:
    result = world.enqueue(
        row(1, occurred_at=moment(world, minutes=4)),
        row(2, occurred_at=moment(world, minutes=6)),
        row(3, occurred_at=-5),
        row(4, occurred_at=0),
    )
    assert (result.accepted, result.invalid) == (1, 3)
    assert "5 minutes ahead" in world.dead()[0]["reason"]


def test_occurred_at_is_never_sent(world: World) -> None:
    world.enqueue(row(1, occurred_at=moment(world)))
    assert set(world.waiting_row(row(1)).body) == {"id", "value", "customer_id"}


def test_an_expired_message_is_a_dead_letter_verbatim(world: World) -> None:
    late = message([row(1)], expires=moment(world, seconds=-1))
    world.queue(late, message([row(2)], expires=moment(world, seconds=1)))
    result = world.take_in()
    assert (result.accepted, result.invalid) == (1, 1)
    (letter,) = world.dead()
    assert letter["reason_class"] == "expired"
    assert world.client.hget(world.key("dead:raw"), letter["id"]) == late
    world.check()


def test_a_message_that_expires_while_its_rows_are_taken_in_is_taken_in_whole(world: World) -> None:
    """Its end as a dead letter verbatim would hold rows that were accepted already."""
    count = SLICE_ROWS + 5
    world.queue(message([row(n) for n in range(count)], expires=moment(world, seconds=10)))
    claimed = world.outbox.claim_messages("a", lease_ms=LEASE_MS, most_messages=9, most_bytes=10**7, largest=10**7)
    assert isinstance(claimed, ClaimedMessages)
    first = next(iter(world.intake.batches(claimed)))
    world.outbox.accept("a", claimed.source, first, lease_ms=LEASE_MS)
    world.ms += LEASE_MS
    assert world.take_in().accepted == 5
    assert len(world.waiting()) == count
    assert world.dead() == []
    world.check()


def test_a_large_message_goes_in_slices_and_another_reader_resumes_where_one_died(world: World) -> None:
    count = 2 * SLICE_ROWS + 300
    world.queue(message([row(n) for n in range(count)]), message([row("after")]))
    accepted = []

    def dies_after_the_first_slice(point: str) -> None:
        if point == "intake_after_accept":
            accepted.append(len(world.waiting()))
            raise SystemExit

    mortal = Intake(world.outbox, row_limit_bytes=10**6, fault=dies_after_the_first_slice)
    release, world.outbox.release_messages = world.outbox.release_messages, lambda *a, **k: None  # type: ignore[method-assign]  # a killed process gives nothing back
    with pytest.raises(SystemExit):
        mortal.run()
    world.outbox.release_messages = release  # type: ignore[method-assign]  # as above
    assert accepted == [SLICE_ROWS]
    assert world.client.llen("bunce-attributes") == 2
    world.check()
    assert world.take_in().refused, "the lease still runs"
    world.ms += LEASE_MS
    result = world.take_in()
    assert (result.messages, result.received) == (2, count + 1 - SLICE_ROWS)
    assert len(world.waiting()) == count + 1
    world.check()


def test_slices_are_bounded_in_bytes(world: World) -> None:
    world.queue(message([row(n, "x" * 100_000) for n in range(25)]))
    claimed = world.outbox.claim_messages("a", lease_ms=LEASE_MS, most_messages=9, most_bytes=10**7, largest=10**7)
    assert isinstance(claimed, ClaimedMessages)
    sizes = [sum(map(len, batch.rows)) for batch in world.intake.batches(claimed)]
    assert len(sizes) == 3
    assert max(sizes) <= intake_module.SLICE_BYTES + 101_000


def test_a_slow_message_does_not_cost_those_read_before_it_the_lease(world: World) -> None:
    """500 decompression bombs take minutes to refuse; what was read is written before a lease can end."""
    now = [0.0]

    def clock() -> float:
        now[0] += 2.0
        return now[0]

    slow = Intake(world.outbox, row_limit_bytes=10**6, clock=clock)
    world.queue(*(b"garbage %d" % n for n in range(10)))
    claimed = world.outbox.claim_messages("a", lease_ms=LEASE_MS, most_messages=99, most_bytes=10**7, largest=10**7)
    assert isinstance(claimed, ClaimedMessages)
    batches = list(slow.batches(claimed))
    assert len(batches) > 2
    assert sum(batch.forget for batch in batches) == 10


def test_a_late_intake_writes_nothing(world: World) -> None:
    world.queue(message([row(1, "late")]))
    claimed = world.outbox.claim_messages("late", lease_ms=LEASE_MS, most_messages=9, most_bytes=10**6, largest=10**6)
    assert isinstance(claimed, ClaimedMessages)
    (batch,) = world.intake.batches(claimed)
    world.ms += LEASE_MS
    world.outbox.claim_messages("next", lease_ms=LEASE_MS, most_messages=9, most_bytes=10**6, largest=10**6)
    before = {k: world.client.dump(k) for k in world.client.keys("*")}
    world.outbox.accept("late", claimed.source, batch, lease_ms=LEASE_MS)
    assert {k: world.client.dump(k) for k in world.client.keys("*")} == before
    world.check()


def test_a_fault_of_our_own_over_a_message_does_not_stop_the_queue(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody foresaw counts as a lost lease, so that the third time the message is set aside."""
    real = parse_update

    def broken(update: Any) -> Any:
        if isinstance(update, dict) and update.get("value") == "poison":
            raise ZeroDivisionError
        return real(update)

    monkeypatch.setattr(intake_module, "parse_update", broken)
    poison = message([row(2, "poison")])
    world.queue(message([row(1)]), poison, message([row(3)]))
    for _ in range(8):
        try:
            world.take_in()
        except ZeroDivisionError:
            world.ms += LEASE_MS
    assert {digest(row(1)), digest(row(3))} == set(world.waiting())
    assert world.client.hvals(world.key("dead:raw")) == [poison]
    world.check()


def test_a_lost_connection_does_not_count_against_the_messages(world: World) -> None:
    world.queue(message([row(1)]))

    def lost(point: str) -> None:
        if point == "intake_before_accept":
            raise redis.ConnectionError

    for _ in range(5):
        with pytest.raises(redis.ConnectionError):
            Intake(world.outbox, row_limit_bytes=10**6, fault=lost).run()
    assert world.take_in().accepted == 1


def test_a_full_redis_makes_intake_wait_and_tells_why(world: World) -> None:
    world.queue(message([row(1)]))
    waits = Intake(world.outbox, row_limit_bytes=10**6, memory=lambda: MemoryState("Redis is full", overfull=True))
    assert waits.run().refused == "Redis is full"
    assert world.outbox.status()["intake_waits_because"] == "Redis is full"
    assert not world.outbox.poll([]).intake, "not asked again at once"
    world.ms += 1_000
    assert world.outbox.poll([]).intake
    assert world.take_in().accepted == 1
    assert world.outbox.status()["intake_waits_because"] == ""


@pytest.mark.parametrize("what", ["nothing is left to read", "nobody has looked for long"])
def test_why_intake_waited_is_told_no_longer(world: World, what: str) -> None:
    waits = Intake(world.outbox, row_limit_bytes=10**6, memory=lambda: MemoryState("Redis is full", overfull=True))
    world.queue(message([row(1)]))
    waits.run()
    if what == "nothing is left to read":
        world.client.delete(world.settings.namespace)
    else:
        world.ms += 60_000
    assert world.outbox.status()["intake_waits_because"] == ""


def test_personal_data_is_in_no_name_in_redis(world: World) -> None:
    secret = "zora.lovelace@example.com"
    world.enqueue({"id": ATTRIBUTE, "value": "x", "customer_email": secret}, row("0019-zora"))
    names = [k for key in world.client.keys("*") for k in (key, *_fields(world.client, key))]
    assert not any(b"zora" in name for name in names)


def _fields(client: Any, key: bytes) -> list[bytes]:
    kind = client.type(key)
    return list(client.hkeys(key)) if kind == b"hash" else list(client.zrange(key, 0, -1)) if kind == b"zset" else []
