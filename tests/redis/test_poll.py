"""``poll.lua``: what there is to do, when there may be more, and slots for the wake-ups it asks for."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from tests.redis.world import START_MS, World, message, row

from bunce_attributes.embedded_redis import EmbeddedRedis
from bunce_attributes.outbox.keys import work_queue
from bunce_attributes.outbox.outbox import ClaimedCall
from bunce_attributes.outcomes import Failed, Processed, RefusedCall

TOKENS = [f"t{n}" for n in range(20)]
SAVED = Processed(200, {})


@pytest.fixture
def world(redis_client: Redis) -> World:
    return World(redis_client, batch_max_rows=10)


def test_nothing_to_do(world: World) -> None:
    work = world.outbox.poll(TOKENS)
    assert (work.intake, work.call_tokens, work.next_seconds) == (False, (), 60.0)


def test_messages_want_one_reader(world: World) -> None:
    world.queue(message([row(1)]))
    assert world.outbox.poll(TOKENS).intake
    again = world.outbox.poll(TOKENS)
    assert (again.intake, again.next_seconds) == (False, 10.0), "one was asked for; it is asked again if it was lost"
    world.ms += 10_000
    assert world.outbox.poll(TOKENS).intake


def test_while_a_reader_holds_the_queue_no_other_is_wanted(world: World) -> None:
    world.queue(message([row(1)]))
    world.outbox.claim_messages("a", lease_ms=15_000, most_messages=1, most_bytes=1_000, largest=1_000)
    work = world.outbox.poll(TOKENS)
    assert (work.intake, work.next_seconds) == (False, 15.0)


def test_messages_of_any_priority_and_due_eta_want_a_reader(world: World) -> None:
    world.queue(message([row(1)]), priority="\x06\x169")
    assert world.outbox.poll(TOKENS).intake
    world.take_in()
    world.client.zadd(world.key("scheduled"), {"id": START_MS + 30_000})
    assert world.outbox.poll(TOKENS, intake=True).next_seconds <= 30.0


@pytest.mark.parametrize(("rows", "calls"), [(0, 0), (1, 0), (10, 1), (19, 1), (20, 2), (95, 9), (500, 10)])
def test_as_many_calls_as_are_full(redis_client: Redis, rows: int, calls: int) -> None:
    world = World(redis_client, batch_max_rows=10)
    world.enqueue(*(row(n) for n in range(rows)))
    work = world.outbox.poll(TOKENS)
    assert len(work.call_tokens) == calls
    if 0 < rows < 10:
        assert work.next_seconds == 1.0


def test_rows_that_waited_long_enough_are_a_call(world: World) -> None:
    world.enqueue(*(row(n) for n in range(13)))
    assert len(world.outbox.poll(TOKENS).call_tokens) == 1
    world.ms += 1_000
    assert len(world.outbox.poll(TOKENS).call_tokens) == 1, "one was reserved before"
    world.ms += 10_000
    assert len(world.outbox.poll(TOKENS).call_tokens) == 2


def test_reservations_of_all_workers_together_never_exceed_the_calls_allowed(redis_client: Redis) -> None:
    world = World(redis_client, batch_max_rows=1, max_concurrent_calls=4)
    world.enqueue(*(row(n) for n in range(50)))
    first, second = world.outbox.poll(["a", "b", "c"]), world.outbox.poll(["d", "e", "f"])
    assert (first.call_tokens, second.call_tokens) == (("a", "b", "c"), ("d",))
    assert isinstance(world.claim(token="a"), ClaimedCall)
    assert world.outbox.poll(TOKENS).call_tokens == ()
    world.outbox.give_up_wakeup("b")
    assert world.outbox.poll(TOKENS).call_tokens == ("t0",)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.sampled_from(["poll", "poll few", "claim", "stray", "settle", "second", "lose"]), max_size=40))
def test_running_and_reserved_calls_never_exceed_the_limit(redis_server: EmbeddedRedis, steps: list[str]) -> None:
    with redis_server.client() as client:
        client.flushall()
        world = World(client, batch_max_rows=1, max_concurrent_calls=3)
        world.enqueue(*(row(n) for n in range(200)))
        tokens: list[str] = []
        calls: list[ClaimedCall] = []
        for number, step in enumerate(steps):
            if step.startswith("poll"):
                asked = [f"{number}-{n}" for n in range(1 if step == "poll few" else 9)]
                tokens += world.outbox.poll(asked).call_tokens
            elif step in {"claim", "stray"}:
                token = tokens.pop() if tokens and step == "claim" else "stray"
                claim = world.claim(token=token)
                if isinstance(claim, ClaimedCall):
                    calls.append(claim)
            elif step == "settle" and calls:
                world.settle(calls.pop(), SAVED)
            else:
                world.ms += 1_000 if step == "second" else 30_000
            running = client.zcard(world.key("calls"))
            reserved = client.zcount(world.key("wakeups"), f"({world.outbox.now_ms}", "+inf")
            assert running <= 3
            assert running + reserved <= 3


def test_a_work_queue_that_nobody_empties_is_told_to_the_caller(world: World) -> None:
    """Wake-ups would pile up without bound: the caller does the work itself."""
    world.enqueue(*(row(n) for n in range(100)))
    assert not world.outbox.poll([]).piled_up
    world.client.lpush(work_queue("bunce-attributes"), *(b"x" for _ in range(12)))
    assert world.outbox.poll([]).piled_up


def test_a_paused_gate_wants_no_calls(world: World) -> None:
    world.enqueue(*(row(n) for n in range(100)))
    world.outbox.pause()
    assert world.outbox.poll(TOKENS).call_tokens == ()


def test_retries_wake_the_dispatcher_when_they_are_due(world: World) -> None:
    world.enqueue(row(1))
    world.ms += 1_000
    world.call(Processed(200, {0: "no"}))
    assert world.outbox.poll(TOKENS).next_seconds == 60.0
    world.ms += 45_000
    assert world.outbox.poll(TOKENS).next_seconds == 15.0


def test_a_running_call_wakes_the_dispatcher_when_its_lease_ends(world: World) -> None:
    world.enqueue(*(row(n) for n in range(10)))
    world.must_claim()
    assert world.outbox.poll(TOKENS).next_seconds == 25.0


def test_pacing_wakes_the_dispatcher_when_the_next_permit_is_free(redis_client: Redis) -> None:
    world = World(redis_client, batch_max_rows=1, requests_per_minute=60, max_concurrent_calls=1)
    world.enqueue(*(row(n) for n in range(9)))
    for _ in range(2):
        world.call(SAVED)
    work = world.outbox.poll(TOKENS)
    assert (work.call_tokens, work.next_seconds) == ((), 1.0)


def test_groups_without_a_token_for_splitting_wake_nobody_before_there_is_one(redis_client: Redis) -> None:
    """Else every look reserves a slot and sends a wake-up that finds nothing to do, forty times a second."""
    world = World(redis_client, batch_max_rows=64, requests_per_minute=10_000, split_calls_share=0.001)
    world.enqueue(*(row(n) for n in range(64)))
    refused = 0
    while isinstance(claim := world.claim(), ClaimedCall):
        world.settle(claim, RefusedCall(422, "no"))
        refused += 1
        world.ms += 1
    assert refused > 10
    wait = world.outbox.poll(TOKENS)
    assert wait.call_tokens == ()
    assert 3.0 < wait.next_seconds < 6.0
    world.ms += round(wait.next_seconds * 1000) + 1
    assert len(world.outbox.poll(TOKENS).call_tokens) == 1


def test_a_group_that_failed_is_looked_at_when_it_is_due(world: World) -> None:
    world.enqueue(row(1))
    world.ms += 1_000
    world.call(Failed(0, "no connection", unknown=False))
    work = world.outbox.poll(TOKENS)
    assert (work.call_tokens, work.next_seconds) == ((), 1.0)
    world.ms += 1_000
    assert len(world.outbox.poll(TOKENS).call_tokens) == 1


def test_no_more_wake_ups_are_sent_than_there_are_permits(redis_client: Redis) -> None:
    """A wake-up that finds the gate pacing is noise in Flower, and there would be five for each call."""
    world = World(redis_client, max_concurrent_calls=10, requests_per_minute=60, batch_max_rows=1)
    world.enqueue(*[row(f"c{number}") for number in range(100)])
    for _ in range(18):
        world.call(SAVED)
    assert len(world.outbox.poll(TOKENS).call_tokens) == 2
