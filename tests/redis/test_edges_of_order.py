"""The order of values where it is easily lost: dead letters that come back, clocks that go back, what is forgotten."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import OutOfMemoryError
from tests.redis.test_edges_of_the_guarantees import (
    AT_ONCE,
    UNKNOWN,
    die_of_unknown_outcomes,
    next_call_ms,
    take_in_one_slice,
)
from tests.redis.world import START_MS, World, all_saved, message, row

from bunce_attributes import intake as intake_module
from bunce_attributes import publishing
from bunce_attributes.dead_letters import DeadLetters
from bunce_attributes.dead_letters.filters import Filter
from bunce_attributes.forgetting import forget
from bunce_attributes.identifiers import Identifiers
from bunce_attributes.outbox.outbox import ClaimedCall, ClaimedMessages
from bunce_attributes.outcomes import Failed, Processed, RateLimited
from bunce_attributes.publishing import RedisPublisher


def letters_of(world: World) -> DeadLetters:
    return DeadLetters(world.outbox, world.settings.remembered_seconds)


def test_retention_ends_in_a_full_redis(redis_client: Redis) -> None:
    world = World(redis_client)
    world.queue(b"garbage")
    world.take_in()
    world.ms += 2 * 86_400_000
    letters = letters_of(world)
    assert len(letters) == 1
    redis_client.config_set("maxmemory", "1")
    try:
        with pytest.raises(OutOfMemoryError):
            redis_client.set("x", "y")
        assert letters.purge_expired(1.0) == 1
    finally:
        redis_client.config_set("maxmemory", "0")
    world.check()


@pytest.mark.parametrize("what", ["invalid", "expired"])
def test_what_was_never_valid_is_newer_than_what_came_before_it(redis_client: Redis, what: str) -> None:
    world = World(redis_client, **AT_ONCE, batch_max_bytes=1_000)
    long = "x" * 1_000
    if what == "invalid":
        world.queue(message([row("b"), row("a", "old"), row("a", long)]))
    else:
        world.queue(
            message([row("b"), row("a", "old")]), message([row("a", long)], expires="2020-01-01T00:00:00+00:00")
        )
    world.take_in()
    wide = World(redis_client, **AT_ONCE, batch_max_bytes=100_000)
    letters = letters_of(wide)
    replayed = letters.replay(letters.find(Filter()))
    assert replayed.requeued == 1
    wide.run(all_saved, until_ms=60_000)
    assert wide.sent[-1][-1]["value"] == long


def test_a_new_value_after_forgetting_waits_for_the_hold(redis_client: Redis) -> None:
    world = World(redis_client, **AT_ONCE, unknown_hold_seconds=10)
    world.enqueue(row("a", "old"))
    world.call(UNKNOWN)
    forget(world.outbox, world.settings, Identifiers.of(["a"]))
    world.enqueue(row("a", "new"))
    assert next_call_ms(world) >= 10_000


def test_a_row_that_waits_is_sent_when_the_clock_was_set_back(redis_client: Redis) -> None:
    world = World(redis_client)
    world.ms = 86_400_000
    world.enqueue(row("a"))
    world.ms = 0
    world.run(all_saved, until_ms=60_000)
    assert len(world.sent) == 1


def test_a_change_of_the_version_memory_does_not_forget(redis_client: Redis) -> None:
    world = World(redis_client, **AT_ONCE, version_memory_seconds=3600)
    now = START_MS / 1000
    world.enqueue(row("a", "new", occurred_at=now - 10))
    world.call(Processed(200, {}))
    longer = World(redis_client, **AT_ONCE, version_memory_seconds=7200)
    longer.ms = 60_000
    longer.enqueue(row("a", "old", occurred_at=now - 20))
    assert longer.counts().get("superseded", 0) == 1


@pytest.mark.parametrize("memory", [0, 5, 20])
def test_a_purge_keeps_the_hold_whatever_the_memory(redis_client: Redis, memory: float) -> None:
    world = World(
        redis_client,
        **AT_ONCE,
        max_attempts=1,
        retry_base_seconds=0,
        unknown_hold_seconds=10,
        version_memory_seconds=memory,
    )
    die_of_unknown_outcomes(world)
    (letter,) = world.dead()
    assert letters_of(world).purge([letter["id"]]) == 1
    world.ms += 9_000
    world.enqueue(row("a", "new"))
    assert not isinstance(world.claim(), ClaimedCall)


def test_rows_that_were_never_valid_keep_their_order_when_they_are_replayed(redis_client: Redis) -> None:
    """Ids of dead letters sort as text: 10 before 9."""
    world = World(redis_client, **AT_ONCE, batch_max_bytes=1_000)
    values = [f"{n:02}" + "x" * 1_000 for n in range(12)]
    world.queue(message([row("a", value) for value in values]))
    world.take_in()
    wide = World(redis_client, **AT_ONCE, batch_max_bytes=100_000)
    letters = letters_of(wide)
    for one in letters.find(Filter()):
        letters.replay([one])
        wide.run(all_saved, until_ms=wide.ms + 60_000)
    landed = [sent["value"][:2] for call in wide.sent for sent in call]
    assert landed == sorted(landed)
    assert landed[-1] == "11"


def test_a_new_reading_of_the_clock_never_makes_a_later_value_older(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clocks drift apart by some milliseconds a minute: this host's runs a little fast."""
    publisher = RedisPublisher(redis_url, queue="q", timeout_seconds=5)
    moment = [1_800_000_000.0]
    monkeypatch.setattr(publishing.time, "monotonic", lambda: moment[0] * 1.0001)
    monkeypatch.setattr(publishing.time, "time", lambda: moment[0] * 1.0001)
    monkeypatch.setattr(publisher._client, "time", lambda: (int(moment[0]), round(moment[0] % 1 * 1_000_000)))
    stamps = []
    for _ in range(70_000):
        stamps.append(publisher.now())
        moment[0] += 0.001
    assert stamps == sorted(stamps)


def test_a_used_up_limit_opens_again_a_minute_after_the_clock_was_set_back(redis_client: Redis) -> None:
    world = World(redis_client, **AT_ONCE, requests_per_minute=10, batch_max_rows=1)
    world.ms = 86_400_000
    world.enqueue(*[row(n) for n in range(12)])
    for _ in range(10):
        world.call(Processed(200, {}))
    world.ms = 0
    assert not isinstance(world.claim(), ClaimedCall)
    world.ms = 90_000
    assert isinstance(world.claim(), ClaimedCall)


@pytest.mark.parametrize(
    "outcome", [RateLimited(429, 60.0), Failed(503, "busy", unknown=True, retry_after_seconds=60.0)]
)
def test_a_pause_ends_within_its_length_when_the_clock_was_set_back(redis_client: Redis, outcome: Any) -> None:
    world = World(redis_client, **AT_ONCE)
    world.ms = 86_400_000
    world.enqueue(row("a"))
    world.call(outcome)
    world.ms = 0
    world.enqueue(row("b"))
    world.run(all_saved, until_ms=120_000)
    assert world.sent[1:]
    world.ms = 200_000
    world.enqueue(row("c"))
    world.call(RateLimited(429, 60.0))
    assert not isinstance(world.claim(), ClaimedCall)


def test_a_purged_moment_is_remembered_beyond_the_next_delivery(redis_client: Redis) -> None:
    world = World(redis_client, **AT_ONCE, max_attempts=1, retry_base_seconds=0)
    now = START_MS / 1000
    world.enqueue(row("a", "newest moment", occurred_at=now - 10))
    world.call(Processed(200, {0: "no"}))
    world.enqueue(row("a", "without a moment"))
    (letter,) = world.dead()
    letters_of(world).purge([letter["id"]])
    world.ms += 10
    world.call(Processed(200, {}))
    world.enqueue(row("a", "older moment", occurred_at=now - 20))
    assert world.counts()["superseded"] == 1
    assert not world.waiting()


def test_a_message_that_was_half_read_is_replayed_no_newer_than_its_first_rows(
    redis_client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake_module, "SLICE_ROWS", 2)
    world = World(redis_client, **AT_ONCE)
    eta = datetime.fromtimestamp((START_MS + 10_000) / 1000, UTC).isoformat()
    world.queue(message([row("a", "new")], eta=eta))
    world.take_in()
    world.queue(message([row("a", "old"), row("b"), row("c"), row("d")]))
    take_in_one_slice(world, monkeypatch)
    world.call(Processed(200, {}))
    for reader in range(5):
        world.ms += 20_000
        claim = world.outbox.claim_messages(
            f"reader {reader}", lease_ms=15_000, most_messages=9, most_bytes=10**6, largest=10**6
        )
        if reader == 0:  # it takes in what was scheduled, and dies over the next message
            assert isinstance(claim, ClaimedMessages)
            (batch,) = world.intake.batches(claim)
            world.outbox.accept("reader 0", claim.source, batch, lease_ms=15_000)
            world.run(all_saved, until_ms=world.ms + 1_000)
            world.outbox.claim_messages("reader 0", lease_ms=15_000, most_messages=9, most_bytes=10**6, largest=10**6)
    (letter,) = world.dead()
    assert letter["kind"] == "message"
    letters = letters_of(world)
    assert letters.replay([letter["id"]]).requeued == 1
    world.run(all_saved, until_ms=world.ms + 60_000)
    values = [sent["value"] for call in world.sent for sent in call if sent["customer_id"] == "a"]
    assert values == ["old", "new"]


def test_messages_for_the_same_moment_keep_their_order(redis_client: Redis) -> None:
    world = World(redis_client, **AT_ONCE)
    eta = datetime.fromtimestamp((START_MS + 10_000) / 1000, UTC).isoformat()
    world.queue(*[message([row("a", f"{n:02}")], eta=eta) for n in range(12)])
    world.take_in()
    world.ms = 11_000
    world.run(all_saved, until_ms=30_000)
    assert world.sent[-1][-1]["value"] == "11"


def test_a_new_value_does_not_pay_for_the_failures_of_a_forgotten_one(redis_client: Redis) -> None:
    fails = Failed(503, "busy", unknown=False)
    world = World(redis_client, **AT_ONCE, max_attempts=1)
    world.enqueue(row("a", "forgotten"))
    for ms in (0, 1_000, 2_000, 4_000):
        world.ms += ms
        world.call(fails)
    forget(world.outbox, world.settings, Identifiers.of(["a"]))
    world.enqueue(row("b"))
    world.call(Processed(200, {}))
    world.ms += 7_500
    world.enqueue(row("a", "new"))
    world.call(fails)
    world.ms += 600
    while isinstance(claim := world.claim(), ClaimedCall):
        world.settle(claim, fails)
    assert not world.dead()
    assert world.waiting_row(row("a")).attempts == 0
    world.check()
