"""Two lanes: an import does not hold up today's changes, and today's changes do not starve an import."""

from __future__ import annotations

import pytest
from redis import Redis
from tests.redis.world import Row, World, row

from bunce_attributes.outcomes import CallOutcome, Processed, RefusedCall

SAVED = Processed(200, {})


@pytest.fixture
def world(redis_client: Redis) -> World:
    return World(redis_client, batch_max_rows=10, requests_per_minute=100_000)


def is_bulk(sent: Row) -> bool:
    return str(sent["customer_id"]).startswith("bulk")


def bulk(world: World, count: int, mark: str = "") -> None:
    world.enqueue(*(row(f"bulk {mark}{n}") for n in range(count)), lane="bulk")


def test_a_live_row_waits_for_at_most_two_calls_behind_an_import(world: World) -> None:
    bulk(world, 2_000)
    for n in range(40):
        world.enqueue(row(f"live {n}"))
        calls = [world.sent_by(world.call(SAVED)) for _ in range(2)]
        assert any(row(f"live {n}") in call for call in calls)
        world.ms += 50


def test_a_live_row_goes_with_the_next_call_and_bulk_rows_fill_it(world: World) -> None:
    bulk(world, 100)
    world.enqueue(row("live"))
    sent = world.sent_by(world.must_claim())
    assert (len(sent), sum(map(is_bulk, sent)), sent[0]) == (10, 9, row("live"))


def test_bulk_rows_get_at_least_a_tenth_of_the_calls_however_many_live_rows_wait(world: World) -> None:
    bulk(world, 500)
    world.enqueue(*(row(f"live {n}") for n in range(2_000)))
    calls = []
    for _ in range(100):
        calls.append(world.sent_by(world.call(SAVED)))
        world.ms += 3
    assert sum(all(map(is_bulk, call)) for call in calls) >= 10


def test_bulk_rows_get_their_tenth_while_splitting_goes_on_too(world: World) -> None:
    """Groups have every second turn: were the turn of the bulk rows one of these, they would never have one."""
    bulk(world, 500)
    world.enqueue(*(row(f"poison {n}") for n in range(160)))
    world.enqueue(*(row(f"live {n}") for n in range(3_000)))
    calls = []
    for _ in range(150):
        call = world.must_claim()
        sent = world.sent_by(call)
        calls.append(sent)
        outcome: CallOutcome = SAVED
        if any(str(r["customer_id"]).startswith("poison") for r in sent):
            outcome = RefusedCall(422, "no")
        world.settle(call, outcome)
        world.ms += 3
    assert sum(len(call) < 10 for call in calls) > 10, "there was splitting"
    assert sum(all(map(is_bulk, call)) for call in calls) >= 15


def test_a_bulk_row_alone_is_due_like_any_other(world: World) -> None:
    bulk(world, 1)
    assert world.run(lambda rows: SAVED, until_ms=1_500) == [[row("bulk 0")]]
    world.check()


def test_both_lanes_together_fill_a_call(world: World) -> None:
    bulk(world, 6)
    world.enqueue(*(row(f"live {n}") for n in range(4)))
    assert len(world.must_claim().rows) == 10


def test_retries_stay_in_their_lane(world: World) -> None:
    bulk(world, 10)
    world.call(Processed(200, {0: "no"}))
    world.ms += 61_000
    bulk(world, 100, "more ")
    world.enqueue(*(row(f"live {n}") for n in range(10)))
    assert not any(map(is_bulk, world.sent_by(world.must_claim())))
