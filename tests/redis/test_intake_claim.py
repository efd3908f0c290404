"""``intake_claim.lua``: which messages a reader gets, and what becomes of those that cost their readers the lease."""

from __future__ import annotations

import contextlib

import pytest
from redis import Redis
from tests.redis.world import World, all_saved, message, row

from bunce_attributes.outbox.outbox import ClaimedMessages, IntakeBatch, IntakeBusy, LeaseLost, QueueEmpty

LEASE_MS = 15_000


@pytest.fixture
def world(redis_client: Redis) -> World:
    return World(redis_client)


def claim(
    world: World, token: str, *, messages: int = 500, size: int = 10_000, largest: int = 5_000
) -> ClaimedMessages | IntakeBusy | QueueEmpty:
    return world.outbox.claim_messages(
        token, lease_ms=LEASE_MS, most_messages=messages, most_bytes=size, largest=largest
    )


def claimed(world: World, token: str, **limits: int) -> list[bytes]:
    reply = claim(world, token, **limits)
    assert isinstance(reply, ClaimedMessages), reply
    return list(reply.messages)


def forget(world: World, token: str, count: int) -> bool:
    """Forget messages as if they had held no rows."""
    reply = world.outbox.accept(token, b"bunce-attributes", IntakeBatch(forget=count), lease_ms=LEASE_MS)
    return not isinstance(reply, LeaseLost)


def test_an_empty_queue(world: World) -> None:
    assert claim(world, "a") == QueueEmpty()


def test_the_oldest_messages_come_first_and_stay_in_the_queue(world: World) -> None:
    world.queue(b"1", b"2", b"3")
    assert claimed(world, "a") == [b"1", b"2", b"3"]
    assert world.client.llen("bunce-attributes") == 3


def test_one_reader_at_a_time(world: World) -> None:
    world.queue(b"1")
    claimed(world, "a")
    world.ms += 5_000
    assert claim(world, "b") == IntakeBusy(10.0)
    assert claimed(world, "a") == [b"1"], "the holder may renew"


def test_a_lease_that_ends_gives_the_messages_back_in_their_order(world: World) -> None:
    world.queue(b"1", b"2", b"3")
    claimed(world, "a", messages=2)
    world.ms += LEASE_MS
    assert claimed(world, "b") == [b"1", b"2", b"3"]


def test_a_reader_that_gives_back_makes_room_at_once(world: World) -> None:
    world.queue(b"1")
    claimed(world, "a")
    world.outbox.release_messages("a")
    assert claimed(world, "b") == [b"1"]


def test_a_reader_cannot_give_back_what_is_anothers(world: World) -> None:
    world.queue(b"1")
    claimed(world, "a")
    world.outbox.release_messages("b")
    assert isinstance(claim(world, "c"), IntakeBusy)


def test_claims_are_bounded_in_messages(world: World) -> None:
    world.queue(*(b"%d" % n for n in range(40)))
    assert claimed(world, "a", messages=7) == [b"%d" % n for n in range(7)]


def test_claims_are_bounded_in_bytes_but_never_empty(world: World) -> None:
    world.queue(b"x" * 600, b"y" * 600, b"z" * 10)
    assert claimed(world, "a", size=1_000) == [b"x" * 600]
    world.outbox.release_messages("a")
    assert claimed(world, "a", size=100) == [b"x" * 600]


@pytest.mark.parametrize("count", [1, 2, 4, 5, 6, 17, 21, 100])
def test_every_message_is_claimed_once_and_in_order_whatever_the_page(world: World, count: int) -> None:
    messages = [b"%d" % n + b"." * (n % 7) * 50 for n in range(count)]
    world.queue(*messages)
    seen: list[bytes] = []
    while isinstance(reply := claim(world, "a", size=1_500, messages=30), ClaimedMessages):
        seen += reply.messages
        assert forget(world, "a", len(reply.messages))
    assert seen == messages


def test_priority_lists_are_read_highest_first(world: World) -> None:
    world.queue(b"low", priority="\x06\x169")
    world.queue(b"middle", priority="\x06\x163")
    world.queue(b"high")
    order: list[bytes] = []
    while isinstance(reply := claim(world, "a"), ClaimedMessages):
        order += reply.messages
        world.outbox.accept("a", reply.source, IntakeBatch(forget=1), lease_ms=LEASE_MS)
    assert order == [b"high", b"middle", b"low"]


def test_a_message_that_is_too_large_is_a_dead_letter_verbatim(world: World) -> None:
    world.queue(b"1", b"x" * 5_001, b"2")
    assert claimed(world, "a") == [b"1"]
    assert forget(world, "a", 1)
    assert claimed(world, "a") == [b"2"]
    (letter,) = world.dead()
    assert "larger than 5000 bytes" in letter["reason"]
    assert world.client.hget(world.key("dead:raw"), letter["id"]) == b"x" * 5_001
    world.check()


def test_a_message_that_costs_its_reader_the_lease_twice_is_claimed_alone(world: World) -> None:
    world.queue(b"1", b"2", b"3")
    for reader in ("a", "b"):
        assert len(claimed(world, reader)) == 3
        world.ms += LEASE_MS
    assert claimed(world, "c") == [b"1"]
    assert forget(world, "c", 1)
    assert claimed(world, "c") == [b"2"], "all that were claimed then are alone"
    assert forget(world, "c", 1)
    assert claimed(world, "c") == [b"3"]
    assert forget(world, "c", 1)
    world.queue(b"4", b"5")
    assert claimed(world, "c") == [b"4", b"5"], "then all is as before"


def test_the_third_lost_lease_makes_it_a_dead_letter_and_the_others_go_on(world: World) -> None:
    world.queue(b"poison", b"2", b"3")
    for reader in ("a", "b", "c"):
        claimed(world, reader)
        world.ms += LEASE_MS
    assert claimed(world, "d") == [b"2"]
    (letter,) = world.dead()
    assert (letter["kind"], letter["reason_class"]) == ("message", "unreadable")
    assert world.client.hget(world.key("dead:raw"), letter["id"]) == b"poison"
    assert forget(world, "d", 1)
    assert claimed(world, "d") == [b"3"]
    world.check()


def test_the_innocent_before_the_poison_are_not_buried(world: World) -> None:
    """The reader dies over the third message, however often it reads the first two."""
    world.queue(*(message([row(n)]) for n in (1, 2)), b"poison", message([row(4)]))

    def deadly(name: str) -> None:
        if name == "intake_before_accept" and b"poison" in world.client.lrange("bunce-attributes", -1, -1)[0]:
            raise SystemExit

    world.intake._fault = deadly  # the point at which a reader dies
    for reader in range(2):
        assert len(claimed(world, f"dead {reader}")) == 4
        world.ms += LEASE_MS
    alone = claimed(world, "dead 2")
    assert alone == [message([row(1)])]
    world.outbox.release_messages("dead 2")
    for _ in range(4):
        with contextlib.suppress(SystemExit):
            world.take_in()
        world.ms += LEASE_MS
    world.intake._fault = lambda _: None
    world.take_in()
    assert world.outbox.status()["waiting"] == 3
    assert [letter["kind"] for letter in world.dead()] == ["message"]


def test_leases_lost_on_one_list_do_not_count_against_another(world: World) -> None:
    world.queue(b"low", priority="\x06\x169")
    for reader in ("a", "b"):
        claimed(world, reader)
        world.ms += LEASE_MS
    world.queue(b"1", b"2")
    assert claimed(world, "c") == [b"1", b"2"]


def test_progress_within_a_large_message_forgives_its_lost_leases(world: World) -> None:
    world.queue(message([row(n) for n in range(10)]))
    for reader in ("a", "b", "c", "d", "e"):
        reply = claim(world, reader)
        assert isinstance(reply, ClaimedMessages)
        assert not isinstance(
            world.outbox.accept(reader, reply.source, IntakeBatch(cursor=reply.cursor + 1), lease_ms=LEASE_MS),
            LeaseLost,
        )
        world.ms += LEASE_MS
    reply = claim(world, "f")
    assert isinstance(reply, ClaimedMessages)
    assert reply.cursor == 5
    assert world.dead() == []


def test_messages_with_a_future_eta_wait_outside_and_come_back_when_due(world: World) -> None:
    def eta(seconds: int) -> str:
        from datetime import UTC, datetime, timedelta

        return (datetime.fromtimestamp(world.outbox.now_ms / 1000, UTC) + timedelta(seconds=seconds)).isoformat()

    world.queue(message([row("later")], eta=eta(60)), message([row("sooner")], eta=eta(30)), message([row("now")]))
    result = world.take_in()
    assert (result.messages, result.received) == (1, 1)
    assert world.outbox.status()["scheduled_messages"] == 2
    assert world.outbox.poll([], intake=True).intake is False, "nothing to read before it is due"
    world.ms += 30_000
    assert world.outbox.poll([]).intake
    assert world.take_in().accepted == 1
    world.ms += 30_000
    assert world.take_in().accepted == 1
    assert world.outbox.status()["queued_messages"] == 0
    calls = world.run(all_saved, until_ms=world.ms + 5_000)
    assert sorted(r["customer_id"] for call in calls for r in call) == ["later", "now", "sooner"]
    world.check()
