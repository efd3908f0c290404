"""Rows that travel together and alone: finding the row at fault costs few calls, and its neighbours nothing."""

from __future__ import annotations

from collections import Counter

import pytest
from redis import Redis
from tests.redis.world import Api, Row, World, row

from bunce_attributes.outbox.outbox import ClaimedCall
from bunce_attributes.outcomes import (
    CallOutcome,
    Failed,
    Misconfigured,
    Processed,
    RefusedCall,
    RefusedRows,
    TooLarge,
    Unreadable,
)

SAVED = Processed(200, {})
HOUR_MS = 3_600_000


def refuses(outcome: CallOutcome, *poison: int) -> Api:
    """An API that answers so whenever one of these customers is in the call."""
    bad = {str(one) for one in poison}
    return lambda rows: outcome if bad & {r["customer_id"] for r in rows} else SAVED


def calls_with(calls: list[list[Row]], customer: int) -> list[list[Row]]:
    return [call for call in calls if any(r["customer_id"] == str(customer) for r in call)]


@pytest.mark.parametrize("where", [0, 1, 49, 50, 99])
@pytest.mark.parametrize("status", [400, 422])
def test_one_bad_row_of_100_costs_at_most_20_calls_its_five_attempts_included(
    redis_client: Redis, where: int, status: int
) -> None:
    world = World(redis_client)
    world.enqueue(*(row(n) for n in range(100)))
    calls = world.run(refuses(RefusedCall(status, "a row is bad"), where), until_ms=3 * HOUR_MS)
    assert len(calls) <= 20
    (letter,) = world.dead()
    assert letter["row"] == row(where)
    assert len(letter["attempts"]) == 5
    assert world.counts()["saved"] == 99
    assert Counter(len(call) for call in calls_with(calls, where))[1] == 5, "alone from then on"
    world.check()


def test_one_bad_row_of_300_costs_at_most_30_calls_and_the_others_are_saved_once(redis_client: Redis) -> None:
    world = World(redis_client)
    world.enqueue(*(row(n) for n in range(300)))
    calls = world.run(refuses(RefusedCall(422, "a row is bad"), 137), until_ms=3 * HOUR_MS)
    assert len(calls) <= 30
    saved = Counter(r["customer_id"] for call in calls for r in call if all(x["customer_id"] != "137" for x in call))
    assert set(saved.values()) == {1}
    assert world.counts()["saved"] == 299
    assert len(world.dead()) == 1
    world.check()


def test_innocents_are_saved_within_seconds_not_after_the_poison(redis_client: Redis) -> None:
    world = World(redis_client)
    world.enqueue(*(row(n) for n in range(100)))
    world.run(refuses(RefusedCall(422, "no"), 3), until_ms=30_000, call_ms=300)
    assert world.counts()["saved"] == 99


def test_a_refusal_that_names_rows_needs_no_splitting(redis_client: Redis) -> None:
    world = World(redis_client)
    world.enqueue(*(row(n) for n in range(100)))

    def api(rows: list[Row]) -> CallOutcome:
        bad = {i: "no" for i, r in enumerate(rows) if r["customer_id"] in {"0", "50"}}
        return RefusedRows(422, bad) if bad else SAVED

    calls = world.run(api, until_ms=3 * HOUR_MS)
    assert len(calls) <= 1 + 1 + 2 * 4
    assert all(len(calls_with(calls, n)) == 5 for n in (0, 50))
    assert world.counts()["saved"] == 98
    world.check()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_few_bad_rows_of_100(redis_client: Redis, count: int) -> None:
    world = World(redis_client)
    world.enqueue(*(row(n) for n in range(100)))
    bad = [n * 97 // count for n in range(count)]
    calls = world.run(refuses(RefusedCall(422, "no"), *bad), until_ms=6 * HOUR_MS)
    assert world.counts()["saved"] == 100 - count
    assert all(len(letter["attempts"]) == 5 for letter in world.dead())
    assert len(calls) <= 20 * count
    world.check()


def test_a_call_in_which_every_row_is_bad_does_not_become_a_storm(redis_client: Redis) -> None:
    """Splitting pays from a budget: a fifth of the rate limit, so that the others still get most calls."""
    world = World(redis_client, brake_min_rows=10_000)
    world.enqueue(*(row(n) for n in range(200)))
    calls = world.run(lambda rows: RefusedCall(422, "no"), until_ms=60_000)
    assert len(calls) <= 2 + 20 + 95 + 1
    world.enqueue(*(row(f"good {n}") for n in range(100)))
    begun = world.ms
    good = world.run(
        lambda rows: SAVED if rows[0]["customer_id"].startswith("good") else RefusedCall(422, "no"),
        until_ms=begun + 3_000,
    )
    assert any(len(call) == 100 for call in good[:4])
    world.run(lambda rows: RefusedCall(422, "no"), until_ms=12 * HOUR_MS)
    assert len(world.dead()) == 200
    assert {len(letter["attempts"]) for letter in world.dead()} == {5}
    world.check()


def test_a_suspect_goes_alone_next_time_and_its_suspicion_ends_with_a_save(redis_client: Redis) -> None:
    world = World(redis_client)
    world.enqueue(*(row(n) for n in range(8)))
    world.run(refuses(RefusedCall(422, "no"), 3), until_ms=20_000)
    assert world.waiting_row(row(3)).max_rows == 1
    world.enqueue(row(3, "mended"), *(row(n, "again") for n in range(20, 40)))
    assert world.waiting_row(row(3)).max_rows == 1, "it is the key that is suspect"
    calls = world.run(lambda rows: SAVED, until_ms=200_000)
    assert [row(3, "mended")] in calls
    world.enqueue(row(3, "later"), row(4, "later"))
    assert [row(3, "later"), row(4, "later")] in world.run(lambda rows: SAVED, until_ms=world.ms + 10_000)


def test_suspicion_survives_the_death_of_the_row(redis_client: Redis) -> None:
    world = World(redis_client, max_attempts=1)
    world.enqueue(*(row(n) for n in range(8)))
    world.run(refuses(RefusedCall(422, "no"), 3), until_ms=20_000)
    assert len(world.dead()) == 1
    world.enqueue(row(3, "next"), *(row(n, "next") for n in range(4)))
    calls = world.run(lambda rows: SAVED, until_ms=world.ms + 100_000)
    assert [r["value"] for r in calls_with(calls, 3)[0]] == ["next"]


def test_suspicion_of_a_row_that_died_in_its_first_call_is_kept_too(redis_client: Redis) -> None:
    world = World(redis_client, max_attempts=1)
    world.enqueue(row(3))
    world.ms += 1_000
    world.call(RefusedCall(422, "no"))
    world.enqueue(row(3, "next"), row(4))
    assert world.waiting_row(row(3)).max_rows == 1


def test_suspicion_survives_the_worker(redis_client: Redis) -> None:
    world = World(redis_client)
    world.enqueue(*(row(n) for n in range(4)))
    world.ms += 1_000
    world.call(RefusedCall(422, "no"))
    lost = world.must_claim()
    assert len(lost.rows) == 2
    world.ms += 25_000
    world.run(lambda rows: SAVED, until_ms=world.ms + 30_000)
    assert sorted(len(call) for call in world.sent[1:]) == [2, 2, 2]
    world.check()


def test_a_row_that_makes_the_server_fail_is_found_while_other_calls_pass(redis_client: Redis) -> None:
    world = World(redis_client)
    number = 0
    world.enqueue(*(row(n) for n in range(300)))
    calls: list[list[Row]] = []
    boom = refuses(Failed(500, "boom", unknown=True), 137)
    while world.ms < 2 * HOUR_MS and not world.dead():
        number += 1
        world.enqueue(row(f"other {number}"))
        calls += world.run(boom, until_ms=world.ms + 20_000)
    assert len(world.dead()) == 1
    assert world.dead()[0]["row"] == row(137)
    assert [a["status"] for a in world.dead()[0]["attempts"]] == [500] * 5
    assert {r["customer_id"]: r.get("x") for call in calls for r in call}.keys() >= {str(n) for n in range(300)}
    assert world.outbox.status()["counts"].get("pauses:outage", 0) == 0, "the gate stays open"
    innocents = Counter(
        r["customer_id"] for call in calls if all(x["customer_id"] != "137" for x in call) for r in call
    )
    assert set(innocents.values()) == {1}
    assert len(calls_with(calls, 137)) <= 15
    world.check()


@pytest.mark.parametrize("outcome", [Misconfigured(403, "not this one"), Unreadable(200, "<html>Warning")])
def test_a_row_that_is_answered_strangely_is_found_while_other_calls_pass(
    redis_client: Redis, outcome: CallOutcome
) -> None:
    world = World(redis_client, max_attempts=2)
    world.enqueue(*(row(n) for n in range(100)))
    strange = refuses(outcome, 42)
    number = 0
    while world.ms < 2 * HOUR_MS and not world.dead():
        number += 1
        world.enqueue(row(f"other {number}"))
        world.run(strange, until_ms=world.ms + 20_000)
    assert [letter["row"] for letter in world.dead()] == [row(42)]
    assert world.counts()["saved"] >= 99
    world.check()


def test_a_lone_row_on_a_server_that_fails_for_all_is_never_charged(redis_client: Redis) -> None:
    world = World(redis_client)
    world.enqueue(row(1))
    world.run(lambda rows: Failed(500, "boom", unknown=True), until_ms=HOUR_MS)
    assert world.waiting_row(row(1)).attempts == 0
    assert 20 <= len(world.sent) <= 130, "asked after about once a minute, not hammered"


# -- 413 ------------------------------------------------------------------------------------------------------------


def limit_bytes(limit: int) -> Api:
    """A server that takes bodies up to a size."""
    return lambda rows: TooLarge(413, "too large") if sum(len(str(r)) for r in rows) > limit else SAVED


def test_after_a_413_calls_are_smaller_and_grow_again(redis_client: Redis) -> None:
    world = World(redis_client, max_concurrent_calls=1)
    most = 30

    def api(rows: list[Row]) -> CallOutcome:
        return TooLarge(413, "too large") if len(rows) > most else SAVED

    world.enqueue(*(row(n) for n in range(1_000)))
    calls = world.run(api, until_ms=30_000)
    assert world.counts()["saved"] == 1_000
    refused = [call for call in calls if len(call) > most]
    assert len(refused) <= 5, "each later one was half as large"
    learned = max(len(call) for call in calls[-20:])
    assert 20 <= learned <= 25
    for factor in (2, 4):
        world.ms += 60_000
        world.enqueue(*(row(f"{factor} {n}") for n in range(100)))
        grown = len(world.must_claim().rows)
        assert factor * learned <= grown <= factor * (learned + 1)
    world.check()


def test_a_413_teaches_bytes_too(redis_client: Redis) -> None:
    world = World(redis_client)
    world.enqueue(*(row(n, "x" * 2_000) for n in range(60)), *(row(n, "y") for n in range(1_000, 1_100)))
    calls = world.run(limit_bytes(40_000), until_ms=60_000)
    assert world.counts()["saved"] == 160
    assert sum(sum(len(str(r)) for r in call) > 40_000 for call in calls) <= 3
    world.check()


def test_one_row_too_large_for_the_server_among_many(redis_client: Redis) -> None:
    world = World(redis_client)
    world.enqueue(*(row(n, "x" * (20_000 if n == 33 else 20)) for n in range(100)))
    calls = world.run(limit_bytes(15_000), until_ms=HOUR_MS)
    assert [letter["row"]["customer_id"] for letter in world.dead()] == ["33"]
    assert world.dead()[0]["reason_class"] == "too_large"
    assert world.counts()["saved"] == 99
    assert len(calls) <= 20
    world.enqueue(*(row(f"next {n}") for n in range(100)))
    assert len(world.must_claim().rows) >= 50, "one row too large by itself does not make all calls small"
    world.check()


# -- sharing --------------------------------------------------------------------------------------------------------


def test_groups_and_fresh_rows_take_turns(redis_client: Redis) -> None:
    world = World(redis_client, batch_max_rows=16, requests_per_minute=100_000)
    world.enqueue(*(row(n) for n in range(16)))
    world.call(RefusedCall(422, "no"))
    world.enqueue(*(row(f"fresh {n}") for n in range(1_600)))
    kinds = []
    for _ in range(12):
        call = world.must_claim()
        kinds.append(world.sent_by(call)[0]["customer_id"].startswith("fresh"))
        world.settle(call, SAVED if kinds[-1] else RefusedCall(422, "no"))
        world.ms += 5_000
    assert 4 <= sum(kinds) <= 8


def test_a_group_larger_than_a_learned_size_is_sent_in_parts(redis_client: Redis) -> None:
    world = World(redis_client, batch_max_rows=40)
    world.enqueue(*(row(n) for n in range(80)))
    held = world.must_claim()
    world.call(TooLarge(413, "no"))
    world.settle(held, Failed(0, "no connection", unknown=False))
    calls = world.run(lambda rows: SAVED, until_ms=60_000)
    assert max(len(call) for call in calls) <= 20
    assert world.counts()["saved"] == 80
    world.check()


def test_a_row_is_in_one_call_while_its_other_half_is_in_another(redis_client: Redis) -> None:
    world = World(redis_client)
    world.enqueue(*(row(n) for n in range(10)))
    world.ms += 1_000
    world.call(RefusedCall(422, "no"))
    halves = [world.claim() for _ in range(2)]
    assert all(isinstance(half, ClaimedCall) for half in halves)
    world.check()
