"""``intake_accept.lua``: which value of a key waits, what it keeps of the older one, and what is superseded."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from redis import Redis
from tests.redis.world import ATTRIBUTE, OTHER_ATTRIBUTE, START_MS, Row, World, digest, message, row

from bunce_attributes.outcomes import Failed, Processed, RefusedCall

CUSTOMER = {"customer_id": "7", "email": "Ada@example.com", "first_name": 'A"d\\a}{', "devices": []}
SAVED = Processed(200, {})


@pytest.fixture
def world(redis_client: Redis) -> World:
    return World(redis_client)


def at(second: float) -> str:
    """A moment some seconds after the beginning, as producers write it."""
    return datetime.fromtimestamp(START_MS / 1000 + second, UTC).isoformat()


def deliver(world: World, outcome: Any = SAVED) -> list[Row]:
    """Wait until a call is due, make it."""
    world.ms += 60_000
    call = world.call(outcome)
    return [json.loads(r.body) for r in call.rows]


def value(world: World, update: Row) -> str:
    return str(world.waiting_row(update).body["value"])


# -- keys ---------------------------------------------------------------------------------------------------------


def test_one_value_of_a_key_waits_the_newest(world: World) -> None:
    world.enqueue(row(1, "a"), row(1, "b"))
    result = world.enqueue(row(1, "c"))
    assert (result.accepted, result.superseded) == (1, 0)
    assert value(world, row(1)) == "c"
    assert world.counts()["superseded"] == 2
    world.check()


def test_different_attributes_and_customers_are_different_keys(world: World) -> None:
    world.enqueue(
        row(1), row(2), {**row(1), "id": OTHER_ATTRIBUTE}, {"id": ATTRIBUTE, "value": "v", "customer_email": "a@b"}
    )
    assert len(world.waiting()) == 4


def test_an_identity_in_any_place_and_case_is_the_same_key(world: World) -> None:
    world.enqueue(
        {"id": ATTRIBUTE, "value": "1", "customer_email": "Ada@Example.com"},
        {"id": ATTRIBUTE.upper(), "value": "2", "customer": {"email": "ada@example.COM"}},
        {"id": ATTRIBUTE.replace("-", ""), "value": "3", "customer_email": "ada@example.com"},
    )
    (record,) = world.waiting().values()
    assert record.body["value"] == "3"


def test_an_id_that_looks_like_an_address_is_no_address(world: World) -> None:
    world.enqueue(row("a@b"), {"id": ATTRIBUTE, "value": "v", "customer_email": "a@b"})
    assert len(world.waiting()) == 2


# -- versions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "winner"),
    [
        ([(10, "a"), (20, "b")], "b"),
        ([(20, "a"), (10, "b")], "a"),
        ([(20, "a"), (20, "b")], "b"),
        ([(20, "a"), (None, "b")], "b"),
        ([(None, "a"), (20, "b")], "b"),
        ([(20, "a"), (None, "b"), (10, "c")], "b"),
        ([(20, "a"), (None, "b"), (30, "c")], "c"),
        ([(None, "a"), (None, "b")], "b"),
        ([(20, "a"), (10, "b"), (15, "c")], "a"),
        ([(10, "a"), (30, "b"), (None, "c"), (20, "d"), (30, "e")], "e"),
    ],
)
@pytest.mark.parametrize("together", [True, False])
def test_the_newest_version_waits(
    world: World, rows: list[tuple[int | None, str]], winner: str, together: bool
) -> None:
    updates = [row(1, text, **({} if moment is None else {"occurred_at": at(moment - 100)})) for moment, text in rows]
    if together:
        world.enqueue(*updates)
    else:
        for update in updates:
            world.enqueue(update)
    assert value(world, row(1)) == winner
    assert world.counts()["superseded"] == len(rows) - 1
    world.check()


def test_a_value_older_than_the_one_delivered_is_superseded(world: World) -> None:
    world.enqueue(row(1, "new", occurred_at=at(-10)))
    assert deliver(world)
    result = world.enqueue(row(1, "old", occurred_at=at(-20)))
    assert (result.accepted, result.superseded) == (0, 1)
    assert world.enqueue(row(1, "newer", occurred_at=at(-5))).accepted == 1
    world.check()


def test_what_was_delivered_is_remembered_for_the_whole_version_memory(world: World) -> None:
    memory_ms = 3_600_000
    for later in (0, 1, memory_ms // 4, memory_ms // 2, memory_ms - 61_000):
        world.client.flushall()
        world.ms = 0
        world.enqueue(row(1, "new", occurred_at=at(-10)))
        deliver(world)
        world.ms += later
        assert world.enqueue(row(1, "old", occurred_at=at(-20))).superseded == 1, later


def test_after_the_memory_an_old_value_is_taken_again(world: World) -> None:
    world.enqueue(row(1, "new", occurred_at=at(-10)))
    deliver(world)
    world.ms += 2 * 3_600_000
    assert world.enqueue(row(1, "old", occurred_at=at(-20))).accepted == 1


def test_the_memory_does_not_grow_for_ever(world: World) -> None:
    world.enqueue(row(1))
    deliver(world)
    (key,) = world.client.keys(world.key("seen:*"))
    assert 3_600_000 <= world.client.pttl(key) <= 4_600_000


def test_a_value_older_than_the_one_in_a_call_is_superseded(world: World) -> None:
    world.enqueue(row(1, "called", occurred_at=at(-10)))
    world.ms += 1_000
    world.must_claim()
    assert world.enqueue(row(1, "older", occurred_at=at(-20))).superseded == 1
    assert world.enqueue(row(1, "newer", occurred_at=at(-5))).accepted == 1
    assert world.waiting_row(row(1)).place == "parked"
    world.check()


def test_a_value_older_than_a_dead_letter_of_its_key_is_superseded(redis_client: Redis) -> None:
    world = World(redis_client, max_attempts=1, version_memory_seconds=0)
    world.enqueue(row(1, "dead", occurred_at=at(-10)))
    deliver(world, Processed(200, {0: "no"}))
    assert len(world.dead()) == 1
    world.ms += 10**9
    assert world.enqueue(row(1, "older", occurred_at=at(-20))).superseded == 1
    assert world.enqueue(row(1, "newer", occurred_at=at(-5))).accepted == 1
    world.check()


def test_order_survives_a_clock_that_is_set_back(world: World) -> None:
    world.enqueue(row(1, "first"))
    world.ms -= 3_600_000
    world.enqueue(row(1, "second"))
    assert value(world, row(1)) == "second"
    world.check()


def test_an_exported_dead_letter_never_revives_an_old_value(world: World) -> None:
    """``accepted_at`` says when the service took the value in the first time."""
    world.enqueue(row(1, "today"))
    assert world.enqueue(row(1, "exported", accepted_at=at(-86_400))).superseded == 1
    deliver(world)
    assert world.enqueue(row(1, "exported", accepted_at=at(-86_400))).superseded == 1
    assert world.enqueue(row(2, "exported", accepted_at=at(-86_400))).accepted == 1
    assert world.enqueue(row(2, "today")).accepted == 1
    assert value(world, row(2)) == "today"


# -- what a replacement keeps ---------------------------------------------------------------------------------------


def test_a_replacement_keeps_the_place_and_the_waiting_since(world: World) -> None:
    world.enqueue(row(1, "a"))
    world.ms += 900
    world.enqueue(row(1, "b"))
    record = world.waiting_row(row(1))
    assert record.since == START_MS
    world.ms += 100
    assert [r["value"] for r in deliver(world)] == ["b"], "due when the older one was"


def test_waiting_since_is_the_moment_of_enqueueing_but_never_in_the_future(world: World) -> None:
    world.queue(message([row(1)], enqueued_at=START_MS / 1000 - 7), message([row(2)], enqueued_at=START_MS / 1000 + 7))
    world.take_in()
    assert world.waiting_row(row(1)).since == START_MS - 7_000
    assert world.waiting_row(row(2)).since == START_MS


def test_a_replacement_starts_with_fresh_attempts_and_no_sooner_than_the_retry_base(world: World) -> None:
    world.enqueue(row(1, "bad"))
    deliver(world, Processed(200, {0: "no"}))
    refused_at = world.ms
    assert world.waiting_row(row(1)).attempts == 1
    world.ms += 10_000
    world.enqueue(row(1, "better"))
    record = world.waiting_row(row(1))
    assert (record.attempts, record.history, record.place) == (0, [], "later")
    calls = world.run(lambda rows: SAVED, until_ms=refused_at + 59_999)
    assert calls == []
    calls = world.run(lambda rows: SAVED, until_ms=refused_at + 62_000)
    assert calls == [[row(1, "better")]]


def test_a_replacement_of_a_row_that_waits_long_is_due_after_the_retry_base(world: World) -> None:
    """The older value had been refused four times and would wait for an hour; the newer one has done nothing."""
    world.enqueue(row(1, "bad"))
    for _ in range(4):
        world.ms += 3_700_000
        world.call(Processed(200, {0: "no"}))
    refused_at = world.ms
    world.ms += 1_000
    world.enqueue(row(1, "better"))
    assert world.run(lambda rows: SAVED, until_ms=refused_at + 62_000) == [[row(1, "better")]]
    world.check()


def test_a_new_value_of_a_key_that_died_is_due_no_sooner_than_the_retry_base(redis_client: Redis) -> None:
    world = World(redis_client, max_attempts=1)
    world.enqueue(row(1, "bad"))
    deliver(world, Processed(200, {0: "no"}))
    died_at = world.ms
    world.enqueue(row(1, "better"))
    assert world.run(lambda rows: SAVED, until_ms=died_at + 59_000) == []
    assert world.run(lambda rows: SAVED, until_ms=died_at + 62_000) == [[row(1, "better")]]


def test_a_value_that_follows_a_delivery_at_once_waits_for_a_full_wait(world: World) -> None:
    """A key that changes a hundred times a second must not make a hundred calls."""
    world.enqueue(row(1, "a"))
    world.ms += 1_000
    world.call(SAVED)
    world.enqueue(row(1, "b"))
    assert world.waiting_row(row(1)).place == "later"


# -- customer details -----------------------------------------------------------------------------------------------


def test_details_of_the_older_row_survive_a_newer_one_without(world: World) -> None:
    world.enqueue({"id": ATTRIBUTE, "value": "a", "customer": CUSTOMER})
    world.enqueue(row(7, 'b"}'))
    assert world.waiting_row(row(7)).body == {**row(7, 'b"}'), "customer": CUSTOMER}
    world.enqueue(row(7, "c"))
    assert world.waiting_row(row(7)).body == {**row(7, "c"), "customer": CUSTOMER}, "and once more"


def test_own_details_replace_older_ones(world: World) -> None:
    world.enqueue({"id": ATTRIBUTE, "value": "a", "customer": CUSTOMER})
    mine = {"customer_id": "7", "last_name": "ü" * 50}
    world.enqueue({"id": ATTRIBUTE, "value": "b", "customer": mine})
    assert world.waiting_row(row(7)).body == {"id": ATTRIBUTE, "value": "b", "customer": mine}


def test_details_taken_over_are_dropped_after_a_refusal(world: World) -> None:
    world.enqueue({"id": ATTRIBUTE, "value": "a", "customer": CUSTOMER})
    world.enqueue(row(7, "b"))
    deliver(world, Processed(200, {0: "no"}))
    assert world.waiting_row(row(7)).body == row(7, "b")


def test_own_details_stay_after_a_refusal(world: World) -> None:
    mine = {"id": ATTRIBUTE, "value": "a", "customer": CUSTOMER}
    world.enqueue(mine)
    deliver(world, Processed(200, {0: "no"}))
    assert world.waiting_row(row(7)).body == mine


def test_details_of_a_refused_row_are_not_taken_over(world: World) -> None:
    world.enqueue({"id": ATTRIBUTE, "value": "a", "customer": CUSTOMER})
    deliver(world, Processed(200, {0: "the device token is invalid"}))
    world.enqueue(row(7, "b"))
    assert world.waiting_row(row(7)).body == row(7, "b")


@pytest.mark.parametrize(
    ("outcome", "survives"), [(Failed(0, "no connection", unknown=False), True), (RefusedCall(422, "no"), False)]
)
def test_details_of_a_row_in_a_call_survive_unless_it_is_refused(world: World, outcome: Any, survives: bool) -> None:
    world.enqueue({"id": ATTRIBUTE, "value": "a", "customer": CUSTOMER})
    world.ms += 1_000
    call = world.must_claim()
    world.enqueue(row(7, "b"))
    world.settle(call, outcome)
    assert ("customer" in world.waiting_row(row(7)).body) is survives
    world.check()


def test_details_that_would_make_a_row_too_large_are_not_sent(redis_client: Redis) -> None:
    """Each of the two fits into a call; the newer one with the details of the older one does not."""
    world = World(redis_client, batch_max_bytes=2_000)
    customer = {"customer_id": "7", "first_name": "x" * 1_200}
    world.enqueue({"id": ATTRIBUTE, "value": "a", "customer": customer})
    world.enqueue(row(7, "y" * 1_200))
    assert deliver(world) == [row(7, "y" * 1_200)]
    world.check()


# -- lanes ----------------------------------------------------------------------------------------------------------


def test_a_live_row_lifts_its_waiting_bulk_row_into_the_live_lane(world: World) -> None:
    world.enqueue(*(row(n) for n in range(300)), lane="bulk")
    world.enqueue(row(299, "live"))
    world.ms += 1_000
    assert any(r["value"] == "live" for r in world.sent_by(world.must_claim()))
    world.check()


def test_a_bulk_row_does_not_push_its_waiting_live_row_into_the_bulk_lane(world: World) -> None:
    world.enqueue(row(1, "live"))
    world.enqueue(row(1, "bulk"), lane="bulk")
    status = world.outbox.status()
    assert (status["ready_live"], status["ready_bulk"]) == (1, 0)
    assert value(world, row(1)) == "bulk"


# -- size -----------------------------------------------------------------------------------------------------------


def test_twenty_thousand_rows_in_one_message(world: World) -> None:
    world.enqueue(*(row(n % 15_000, n) for n in range(20_000)))
    status = world.outbox.status()
    assert (status["waiting"], status["counts"]["superseded"]) == (15_000, 5_000)


def test_a_thousand_rows_of_one_key_in_one_slice(world: World) -> None:
    world.enqueue(*(row(1, n) for n in range(1_000)))
    assert value(world, row(1)) == "999"
    assert world.outbox.status()["ready_live"] == 1
    world.check()


def test_a_row_written_by_a_later_release_is_not_touched(world: World) -> None:
    """Two releases run side by side during every deployment; the older one must not misread what the newer wrote."""
    world.enqueue(row(1, "a"))
    text = world.client.hget(world.key("rows"), digest(row(1)))
    later = b"\x02" + text[1:]
    world.client.hset(world.key("rows"), digest(row(1)), later)
    with pytest.raises(Exception, match="later release"):
        world.enqueue(row(1, "b"))
    assert world.client.hget(world.key("rows"), digest(row(1))) == later
    assert world.client.llen("bunce-attributes") == 1


def test_waiting_rows_are_small_in_redis(world: World) -> None:
    """450 bytes for each of 100,000 is the limit; a tenth of them shows it too."""
    before = world.client.info("memory")["used_memory"]
    world.enqueue(*(row(f"customer-{n:08}", "a value of some length") for n in range(10_000)))
    used = world.client.info("memory")["used_memory"] - before
    assert used / 10_000 < 450
