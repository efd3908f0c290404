"""``claim.lua``: permit, slot and rows of one call in one step."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis
from tests.redis.world import ATTRIBUTE, World, row

from bunce_attributes.outbox.outbox import ClaimedCall, GateClosed, NoSlot, NothingDue
from bunce_attributes.outcomes import Processed


def world_of(client: Redis, **settings: Any) -> World:
    return World(client, **settings)


@pytest.fixture
def world(redis_client: Redis) -> World:
    return World(redis_client, batch_max_rows=10)


def test_nothing_waits(world: World) -> None:
    assert world.claim() == NothingDue(-0.001)


def test_a_call_that_is_not_full_waits_for_more_rows(world: World) -> None:
    world.enqueue(row(1))
    assert world.claim() == NothingDue(1.0)
    world.ms += 400
    assert world.claim() == NothingDue(0.6)
    world.ms += 600
    assert isinstance(world.claim(), ClaimedCall)


def test_a_full_call_waits_for_nothing(world: World) -> None:
    world.enqueue(*(row(n) for n in range(11)))
    assert len(world.must_claim().rows) == 10
    assert isinstance(world.claim(), NothingDue)


def test_rows_of_a_call_are_the_oldest(world: World) -> None:
    world.enqueue(*(row(n) for n in range(25)))
    ids = [[r["customer_id"] for r in world.sent_by(world.must_claim())] for _ in range(2)]
    assert ids == [[str(n) for n in range(10)], [str(n) for n in range(10, 20)]]


def test_a_key_is_in_at_most_one_call(world: World) -> None:
    world.enqueue(*(row(n, "a") for n in range(10)))
    world.must_claim()
    world.enqueue(*(row(n, "b") for n in range(10)))
    world.ms += 5_000
    assert isinstance(world.claim(), NothingDue)
    world.check()


def test_a_call_is_bounded_in_encoded_bytes(redis_client: Redis) -> None:
    world = World(redis_client, batch_max_bytes=5_000)
    world.enqueue(*(row(n, "ü\n" * 250) for n in range(20)))
    seen = 0
    while seen < 20:
        world.ms += 1_000
        call = world.must_claim()
        size = len(b'{"attributes":[' + b",".join(r.body for r in call.rows) + b"]}")
        assert size <= 5_000
        assert len(call.rows) == 4, "as many as fit"
        seen += len(call.rows)
        world.settle(call, Processed(200, {}))
    world.check()


def test_a_row_that_does_not_fit_keeps_its_place_in_front(redis_client: Redis) -> None:
    world = World(redis_client, batch_max_bytes=2_000)
    world.enqueue(row("a", "x" * 900), row("b", "x" * 1_500), row("c"))
    world.ms += 1_000
    assert [[r["customer_id"] for r in world.sent_by(world.must_claim())] for _ in range(2)] == [["a"], ["b", "c"]]


def test_the_same_call_id_gets_the_same_rows_and_costs_one_permit(world: World) -> None:
    """A client that lost the connection does not know whether the script ran."""
    world.enqueue(*(row(n) for n in range(20)))
    first = world.claim("one")
    again = world.claim("one")
    assert isinstance(first, ClaimedCall)
    assert isinstance(again, ClaimedCall)
    assert sorted(r.digest for r in again.rows) == sorted(r.digest for r in first.rows)
    assert (again.history, again.probe) == (first.history, first.probe)
    status = world.outbox.status()
    assert (status["calls_running"], status["gate"]["permits_used"], status["ready_live"]) == (1, 1, 10)
    world.check()


def test_no_more_calls_run_than_allowed(redis_client: Redis) -> None:
    world = World(redis_client, batch_max_rows=1, max_concurrent_calls=3)
    world.enqueue(*(row(n) for n in range(9)))
    running = [world.must_claim() for _ in range(3)]
    assert world.claim() == NoSlot()
    world.settle(running[0], Processed(200, {}))
    world.must_claim()
    assert world.claim() == NoSlot()


def test_a_reserved_slot_is_kept_for_its_token(redis_client: Redis) -> None:
    world = World(redis_client, batch_max_rows=1, max_concurrent_calls=2)
    world.enqueue(*(row(n) for n in range(9)))
    assert world.outbox.poll(["a", "b", "c"]).call_tokens == ("a", "b")
    assert world.claim(token="stranger") == NoSlot()
    assert isinstance(world.claim(token="a"), ClaimedCall)
    assert world.claim(token="a") == NoSlot(), "a wake-up that arrives twice has one slot"
    assert isinstance(world.claim(token="b"), ClaimedCall)


def test_a_lost_wake_up_frees_its_slot_after_seconds(redis_client: Redis) -> None:
    world = World(redis_client, batch_max_rows=1, max_concurrent_calls=1)
    world.enqueue(row(1))
    assert world.outbox.poll(["lost"]).call_tokens == ("lost",)
    assert world.outbox.poll(["next"]).call_tokens == ()
    world.ms += 10_000
    assert world.outbox.poll(["next"]).call_tokens == ("next",)


def test_a_late_wake_up_takes_a_free_slot(redis_client: Redis) -> None:
    world = World(redis_client, batch_max_rows=1, max_concurrent_calls=1)
    world.enqueue(row(1))
    world.outbox.poll(["late"])
    world.ms += 11_000
    assert isinstance(world.claim(token="late"), ClaimedCall)


def test_a_wake_up_for_nothing_gives_its_slot_back(redis_client: Redis) -> None:
    world = World(redis_client, max_concurrent_calls=1)
    world.enqueue(row(1))
    world.ms += 1_000
    assert world.outbox.poll(["a"]).call_tokens == ("a",)
    world.outbox.pause()
    assert isinstance(world.claim(token="a"), GateClosed)
    assert world.outbox.status()["wakeups"] == 0


def test_the_header_of_the_body_is_as_the_scripts_cut_it(world: World) -> None:
    """Brake and dead letters read the attribute's id out of the row's text by position."""
    world.enqueue({"id": ATTRIBUTE.upper(), "value": "v", "customer_id": "1"})
    world.ms += 1_000
    assert world.must_claim().rows[0].body.startswith(b'{"id":"' + ATTRIBUTE.encode() + b'"')
