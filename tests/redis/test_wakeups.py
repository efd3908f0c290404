"""Wake-ups: written without Celery, read by Celery; one that is not sent gives its slot back."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from kombu import Connection
from redis import Redis
from redis.exceptions import OutOfMemoryError
from tests.redis.world import World, message, row

from bunce_attributes.outbox.keys import work_queue
from bunce_attributes.outbox.outbox import Settled, Work
from bunce_attributes.outcomes import Processed
from bunce_attributes.worker.wakeups import WakeUps, new_tokens

QUEUE = work_queue("bunce-attributes")
SAVED = Processed(200, {})


@pytest.fixture
def world(redis_client: Redis) -> World:
    return World(redis_client)


@pytest.fixture
def wakeups(world: World) -> WakeUps:
    return WakeUps(world.outbox)


def due(world: World) -> Work:
    """Work for several calls and for the intake, with its slots reserved."""
    world.client.lpush("bunce-attributes", message([row(number) for number in range(300)]))
    world.intake.run()
    world.client.lpush("bunce-attributes", message(row("one more")))
    work = world.outbox.poll(new_tokens(5))
    assert work.intake
    assert len(work.call_tokens) == 3
    return work


def reserved(world: World) -> int:
    return int(world.client.zcard(world.key("wakeups")))


def test_celery_reads_what_was_written(world: World, wakeups: WakeUps, redis_url: str) -> None:
    """The name of the task, its id and its arguments are all that a worker needs, and no expiry that it could miss."""
    work = due(world)
    assert wakeups.send(work)
    app = Celery(set_as_current=False)
    seen: list[tuple[str, str, Any]] = []
    with Connection(redis_url) as connection:
        for _ in range(4):
            got = connection.default_channel.basic_get(QUEUE, no_ack=True)
            assert got is not None
            args, kwargs, _ = got.decode()
            assert got.headers["expires"] is None
            assert (list(args), kwargs) == ([], {})
            seen.append((got.headers["task"], got.headers["id"], got.properties["correlation_id"]))
    app.close()
    assert [task for task, *_ in seen] == ["bunce_attributes.deliver"] * 3 + ["bunce_attributes.intake"]
    assert [task_id for _, task_id, _ in seen][:3] == list(work.call_tokens)
    assert all(task_id == correlation for _, task_id, correlation in seen)


def test_all_wake_ups_of_a_turn_take_one_command(world: World, wakeups: WakeUps) -> None:
    work = due(world)
    world.client.config_resetstat()
    wakeups.send(work)
    assert world.client.info("commandstats")["cmdstat_lpush"]["calls"] == 1
    assert world.client.llen(QUEUE) == 4


def test_nothing_to_do_sends_nothing(world: World, wakeups: WakeUps) -> None:
    assert wakeups.send(Work(intake=False, call_tokens=(), next_seconds=1.0))
    assert world.client.llen(QUEUE) == 0


def test_wake_ups_that_pile_up_get_no_company_and_their_slots_are_free(world: World, wakeups: WakeUps) -> None:
    """Who sees that nobody takes them does the work itself, for which it needs a slot."""
    work = due(world)
    assert reserved(world) == 3
    assert not wakeups.send(Work(work.intake, work.call_tokens, work.next_seconds, piled_up=True))
    assert world.client.llen(QUEUE) == 0
    assert reserved(world) == 0
    assert world.outbox.poll(new_tokens(5)).intake


def test_a_redis_that_takes_no_message_gets_the_slots_back(
    world: World, wakeups: WakeUps, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")

    work = due(world)
    monkeypatch.setattr(world.client, "lpush", full)
    assert not wakeups.send(work)
    assert reserved(world) == 0


def test_settling_and_looking_again_is_one_round_trip(world: World) -> None:
    """What a call costs Redis bounds how many calls there can be; asking whether it knows a script would be another."""
    world.enqueue(*(row(number) for number in range(300)))
    first, second = world.must_claim(), world.must_claim()
    world.settle(first, SAVED)
    world.client.config_resetstat()
    world.settle(second, SAVED)
    stats = world.client.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 2
    assert "cmdstat_script|exists" not in stats


def test_a_redis_that_forgot_its_scripts_is_taught_them_in_the_middle_of_a_call(world: World) -> None:
    world.enqueue(*(row(number) for number in range(300)))
    call = world.must_claim()
    world.client.script_flush()
    settled = world.settle(call, SAVED)
    assert isinstance(settled, Settled)
    assert settled.saved == 100
