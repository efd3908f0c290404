"""A worker that dies in a call: its rows are back when the lease ends, and a row that kills workers is found."""

from __future__ import annotations

import pytest
from redis import Redis
from tests.redis.world import World, row

from bunce_attributes.outbox.outbox import ClaimedCall
from bunce_attributes.outcomes import Failed, Processed

LEASE_MS = 25_000
HOLD_MS = 10_000
SAVED = Processed(200, {})


@pytest.fixture
def world(redis_client: Redis) -> World:
    return World(redis_client)


def die(world: World) -> list[str]:
    """Claim whatever is due next and never settle it; the customers of the call."""
    for _ in range(400):
        world.outbox.poll([])
        claim = world.claim()
        if isinstance(claim, ClaimedCall):
            world.ms += LEASE_MS
            world.outbox.poll([])
            return [r["customer_id"] for r in world.sent[-1]]
        world.ms += 1_000
    raise AssertionError("no call is due")


def test_rows_of_a_dead_worker_are_back_after_lease_and_hold_without_an_attempt(world: World) -> None:
    world.enqueue(*(row(n) for n in range(100)))
    world.must_claim()
    assert world.run(lambda rows: SAVED, until_ms=LEASE_MS + HOLD_MS - 1) == [], "the server may have got the call"
    calls = world.run(lambda rows: SAVED, until_ms=LEASE_MS + HOLD_MS + 2_000)
    assert [len(call) for call in calls] == [100], "they travel together again"
    assert world.counts()["calls_lost"] == 1
    assert world.counts()["saved"] == 100
    world.check()


def test_a_newer_value_takes_the_place_of_the_one_that_died_with_its_worker(world: World) -> None:
    world.enqueue(row(1, "a"))
    world.ms += 1_000
    world.must_claim()
    world.enqueue(row(1, "b"))
    world.ms += LEASE_MS
    world.outbox.poll([])
    world.check()
    assert world.counts()["superseded"] == 1
    assert world.run(lambda rows: SAVED, until_ms=world.ms + 60_000) == [[row(1, "b")]]


def test_a_row_that_kills_its_worker_is_found_by_halving(world: World) -> None:
    world.enqueue(*(row(n) for n in range(64)))
    sizes: list[int] = []
    while not (sizes and world.outbox.status()["waiting"] == 1 and sizes[-1] == 1):
        assert world.ms < 3_600_000
        world.outbox.poll([])
        claim = world.claim()
        if not isinstance(claim, ClaimedCall):
            world.ms += 5_000
            continue
        sizes.append(len(claim.rows))
        if any(r["customer_id"] == "13" for r in world.sent[-1]):
            world.ms += LEASE_MS
            world.outbox.poll([])
        else:
            world.settle(claim, SAVED)
    assert world.counts()["saved"] == 63
    assert len(sizes) <= 20
    (left,) = world.waiting().values()
    assert left.body["customer_id"] == "13"
    assert left.attempts == 0, "no API refused it"
    world.check()


def test_a_lost_call_is_no_failure_that_another_call_could_have_disproved(world: World) -> None:
    """The lone row is charged only if another call passed since its last failure: the lost call counts as one."""
    world.enqueue(row(0))
    world.ms += 1_000
    world.call(SAVED)
    world.enqueue(row(1))
    world.ms += 1_000
    die(world)
    world.ms += HOLD_MS
    world.call(Failed(500, "boom", unknown=True))
    assert world.waiting_row(row(1)).attempts == 0
    world.enqueue(row(2))
    world.ms += 1_000
    world.call(SAVED)
    world.ms += 20_000
    world.call(Failed(500, "boom", unknown=True))
    assert world.waiting_row(row(1)).attempts == 1


def test_a_dead_worker_frees_its_slot_and_its_probe(redis_client: Redis) -> None:
    world = World(redis_client, max_concurrent_calls=1, batch_max_rows=1)
    world.enqueue(row(1), row(2))
    world.must_claim()
    assert world.outbox.poll(["t"]).call_tokens == ()
    world.ms += LEASE_MS
    assert world.outbox.poll(["t"]).call_tokens == ("t",)


def test_a_probe_that_dies_does_not_keep_the_gate_closed(world: World) -> None:
    world.enqueue(*(row(n) for n in range(500)))
    for _ in range(3):
        world.call(Failed(0, "no connection", unknown=False))
    world.ms += 5_000
    probe = world.must_claim()
    assert probe.probe
    world.ms += LEASE_MS
    world.outbox.poll([])
    again = world.must_claim()
    assert again.probe
    world.settle(again, SAVED)
    assert world.outbox.status()["gate"]["state"] == "open"
    world.check()


def test_many_calls_lost_at_once_all_come_back(redis_client: Redis) -> None:
    world = World(redis_client, max_concurrent_calls=50, batch_max_rows=2, requests_per_minute=10_000)
    world.enqueue(*(row(n) for n in range(100)))
    for _ in range(50):
        world.must_claim()
    world.ms += LEASE_MS
    world.run(lambda rows: SAVED, until_ms=world.ms + 60_000)
    assert world.counts()["saved"] == 100
    assert world.counts()["calls_lost"] == 50
    world.check()
