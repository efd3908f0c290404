"""Rare courses of events in which a guarantee would be easy to lose."""

from __future__ import annotations

import json
from typing import Any

import pytest
from redis import ConnectionError as RedisConnectionError
from redis import Redis
from tests.redis.world import ATTRIBUTE, World, all_saved, digest, message, row

from bunce_attributes.dead_letters import DeadLetters
from bunce_attributes.outbox.outbox import ClaimedCall, Outbox
from bunce_attributes.outbox.scripts import Script, source
from bunce_attributes.outcomes import Failed, Processed, RefusedCall, Unreadable

UNKNOWN = Failed(0, "no answer", unknown=True)
AT_ONCE: dict[str, Any] = {"batch_max_wait_seconds": 0.0}


def next_call_ms(world: World) -> int:
    """How long until the next call is claimed."""
    began = world.ms
    while not isinstance(world.claim(), ClaimedCall):
        world.ms += 100
        assert world.ms <= began + 70_000
    return world.ms - began


def take_in_one_slice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader dies after its first step."""
    accept = Outbox.accept
    done: list[bool] = []

    def once(*args: Any, **more: Any) -> Any:
        if done:
            raise RedisConnectionError
        done.append(True)
        return accept(*args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(Outbox, "accept", once)
        with pytest.raises(RedisConnectionError):
            world.take_in()


def die_of_unknown_outcomes(world: World) -> None:
    """A value that two calls were lost with, while another call passed: the last attempt of one that has but one."""
    world.enqueue(row("a", "old"))
    world.call(UNKNOWN)
    world.enqueue(row("b"))
    world.call(Processed(200, {}))
    world.ms += 11_000
    world.call(UNKNOWN)


def test_the_hold_after_an_unknown_outcome_outlives_the_row_that_died_of_it(redis_client: Redis) -> None:
    world = World(redis_client, **AT_ONCE, max_attempts=1, retry_base_seconds=1, unknown_hold_seconds=10)
    die_of_unknown_outcomes(world)
    assert [letter["row"]["value"] for letter in world.dead()] == ["old"]
    world.enqueue(row("a", "new"))
    assert next_call_ms(world) >= 10_000


def test_a_row_in_the_place_of_an_erased_one_has_its_own_hold(redis_client: Redis) -> None:
    world = World(redis_client, **AT_ONCE, unknown_hold_seconds=10)
    world.enqueue(row("a", "erased"))
    world.call(Failed(0, "no connection", unknown=False))
    redis_client.register_script(source(Script.ERASE))(
        keys=[world.settings.namespace], args=[world.outbox.now_ms, world.outbox.memory_ms, digest(row("a"))]
    )
    world.enqueue(row("a", "new"))
    world.call(UNKNOWN)
    assert next_call_ms(world) >= 10_000
    world.check()


def test_rows_of_a_resumed_attribute_go_on_when_the_command_dies_in_the_middle(redis_client: Redis) -> None:
    world = World(redis_client, **AT_ONCE)
    world.outbox.pause(ATTRIBUTE)
    world.enqueue(*[row(n) for n in range(2_500)])
    _, _, left = world.outbox.run(Script.RESUME, ATTRIBUTE, 0)
    assert left == world.outbox.status()["braked"] == 1_500
    world.run(all_saved, until_ms=60_000)
    assert world.counts()["saved"] == 2_500
    world.check()


def test_a_brake_that_is_pulled_again_keeps_what_a_resume_had_not_moved_yet(redis_client: Redis) -> None:
    world = World(redis_client, **AT_ONCE)
    world.outbox.pause(ATTRIBUTE)
    world.enqueue(*[row(n) for n in range(2_500)])
    world.outbox.run(Script.RESUME, ATTRIBUTE, 0)
    world.outbox.pause(ATTRIBUTE)
    world.run(all_saved, until_ms=60_000)
    assert world.outbox.status()["braked"] == 2_500
    world.check()
    world.outbox.resume(ATTRIBUTE)
    world.run(all_saved, until_ms=120_000)
    assert world.counts()["saved"] == 2_500


def test_a_queue_that_was_emptied_in_the_middle_of_a_message_costs_the_next_one_no_row(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(redis_client)
    world.queue(message([row(n) for n in range(2_500)]))
    take_in_one_slice(world, monkeypatch)
    redis_client.delete(world.settings.namespace)
    assert world.enqueue(*[row(f"n{n}") for n in range(1_200)]).accepted == 1_200


def test_a_message_put_in_front_of_one_that_is_half_read_costs_neither_a_row(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(redis_client)
    world.queue(message([row(n) for n in range(2_500)]))
    take_in_one_slice(world, monkeypatch)
    redis_client.rpush(world.settings.namespace, message([row(f"n{n}") for n in range(900)]))
    world.ms += 20_000
    world.take_in()
    assert len(world.waiting()) == 2_500 + 900
    world.check()


def test_a_newer_value_of_a_suspect_goes_alone_even_without_a_retry_delay(redis_client: Redis) -> None:
    world = World(redis_client, **AT_ONCE, retry_base_seconds=0, retry_max_seconds=0, unknown_hold_seconds=0)
    world.enqueue(row("a", "old"))
    call = world.must_claim()
    world.enqueue(row("a", "new"), row("b"))
    world.settle(call, RefusedCall(422, "no"))
    world.run(all_saved, until_ms=1_000)
    assert sorted(len(rows) for rows in world.sent[1:]) == [1, 1]


def test_a_short_call_of_a_neighbour_does_not_shorten_the_memory_of_a_long_one(redis_client: Redis) -> None:
    slow = World(redis_client, **AT_ONCE, request_timeout_seconds=300)
    quick = World(redis_client, "other", **AT_ONCE, request_timeout_seconds=1)
    for world in (slow, quick):
        world.enqueue(row("a"))
        world.must_claim()
    permits = f"bunce-attributes-limit:{slow.settings.limit_group}:permits"
    assert redis_client.pttl(permits) > slow.settings.lease_seconds * 1_000 + 60_000


def test_opening_again_is_gradual_where_calls_are_many_and_the_limit_is_low(redis_client: Redis) -> None:
    world = World(redis_client, **AT_ONCE, requests_per_minute=20, max_concurrent_calls=100, batch_max_rows=1)
    world.enqueue(*[row(n) for n in range(40)])
    for _ in range(3):
        world.call(Failed(503, "busy", unknown=False))
    world.ms += world.outbox.status()["gate"]["wait_ms"] + 1
    world.call(Processed(200, {}))
    at_once = 0
    while isinstance(world.claim(), ClaimedCall):
        at_once += 1
    assert at_once == 1


def test_a_refusal_that_can_be_read_does_not_hurry_the_probes_after_answers_that_could_not(
    redis_client: Redis,
) -> None:
    world = World(redis_client, **AT_ONCE, batch_max_rows=8)
    world.enqueue(*[row(n) for n in range(64)])
    for _ in range(3):
        world.call(Unreadable(200, "no JSON"))
    world.ms += 60_001
    world.call(RefusedCall(422, "no"))
    assert not isinstance(world.claim(), ClaimedCall)
    assert next_call_ms(world) >= 60_000


def test_a_number_that_would_fill_the_memory_is_one_invalid_row(redis_client: Redis) -> None:
    world = World(redis_client)
    huge = {**row("a"), "value": {"__type__": "decimal", "__value__": "1E+999999999"}}
    result = world.enqueue(huge, row("b"))
    assert (result.invalid, result.accepted) == (1, 1)


def test_a_row_of_a_hundred_thousand_faults_makes_a_small_dead_letter(redis_client: Redis) -> None:
    world = World(redis_client)
    bad = {**row("a"), **{f"k{n}": n for n in range(100_000)}}
    assert world.enqueue(bad, row("b")).invalid == 1
    (letter,) = world.dead()
    assert len(json.dumps(letter["faults"])) < 1_000
    assert "100000 faults" in letter["reason"]


@pytest.mark.parametrize("rows", [1_001, 9_000])
def test_calls_of_thousands_of_rows_pass_every_script(redis_client: Redis, rows: int) -> None:
    world = World(redis_client, **AT_ONCE, batch_max_rows=10_000, batch_max_bytes=100_000_000, unknown_hold_seconds=0)
    world.enqueue(*[row(n, "old") for n in range(rows)])
    call = world.must_claim()
    assert len(call.rows) == rows
    world.enqueue(*[row(n, "new") for n in range(0, rows, 2)])
    world.settle(call, UNKNOWN)
    world.check()
    world.ms += 2_000
    world.must_claim()
    world.ms += 60_000
    world.outbox.poll([])
    world.check()
    again = world.must_claim()
    world.settle(again, Processed(200, dict.fromkeys(range(len(again.rows)), "no")))
    world.check()
    world.outbox.resume(ATTRIBUTE, bury=True)
    world.run(all_saved, until_ms=world.ms + 600_000)
    assert world.outbox.status()["waiting"] == 0
    world.check()


def test_a_purged_dead_letter_leaves_its_version_and_its_hold(redis_client: Redis) -> None:
    """Purging is about the letter; what the API may hold of the key does not change with it."""
    world = World(redis_client, **AT_ONCE, max_attempts=1, retry_base_seconds=0, unknown_hold_seconds=10)
    world.enqueue(row("a", "old", occurred_at=world.outbox.now_ms / 1000 - 10))
    world.call(UNKNOWN)
    world.enqueue(row("b"))
    world.call(Processed(200, {}))
    world.ms += 11_000
    world.call(UNKNOWN)
    (letter,) = world.dead()
    assert DeadLetters(world.outbox, 3600.0).purge([letter["id"]]) == 1
    world.enqueue(row("a", "older", occurred_at=world.outbox.now_ms / 1000 - 100))
    assert world.counts()["superseded"] == 1
    world.enqueue(row("a", "new"))
    assert next_call_ms(world) >= 10_000
