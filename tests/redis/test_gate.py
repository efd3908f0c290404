"""The gate: one rate limit, one pause, one probe for all workers, by the answers they get."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from redis import Redis
from tests.redis.world import World, row

from bunce_attributes.decisions import Rest, Settlement, Verdict
from bunce_attributes.outbox.outbox import ClaimedCall, GateClosed
from bunce_attributes.outcomes import (
    CallOutcome,
    Failed,
    Misconfigured,
    Processed,
    RateLimited,
    RefusedCall,
    Unreadable,
)

SAVED = Processed(200, {})
BOOM = Failed(500, "boom", unknown=True)
NO_WAY = Failed(0, "no connection", unknown=False)


def busy(client: Redis, rows: int = 2_000, **settings: Any) -> World:
    """A world with much to do in calls of one row."""
    world = World(client, **{"batch_max_rows": 1, "requests_per_minute": 100_000, **settings})
    world.enqueue(*(row(n) for n in range(rows)))
    return world


def gate(world: World) -> dict[str, Any]:
    return dict(world.outbox.status()["gate"])


def closed(world: World) -> GateClosed:
    claim = world.claim()
    assert isinstance(claim, GateClosed), claim
    return claim


def most_in_a_minute(moments: list[int]) -> int:
    return max(sum(start <= m < start + 60_000 for m in moments) for start in moments)


# -- the rate limit -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_minute", [1, 7, 60, 475])
@pytest.mark.parametrize("call_ms", [0, 900])
def test_no_minute_has_more_permits_than_the_limit_and_most_are_used(
    redis_client: Redis, per_minute: int, call_ms: int
) -> None:
    world = busy(redis_client, requests_per_minute=per_minute)
    world.run(lambda rows: SAVED, until_ms=200_000, call_ms=call_ms)
    assert most_in_a_minute(world.claimed_at) <= per_minute
    assert len(world.claimed_at) >= per_minute * 2, "and the limit is made use of"


def test_the_limit_holds_with_failing_calls_bursts_and_gaps(redis_client: Redis) -> None:
    draw = random.Random(1)
    world = busy(redis_client, requests_per_minute=60, max_concurrent_calls=4)

    def flaky(rows: list[dict[str, Any]]) -> CallOutcome:
        answers: list[CallOutcome] = [SAVED, SAVED, SAVED, SAVED, BOOM, RefusedCall(422, "no")]
        return draw.choice(answers)

    for stop in (50_000, 170_000, 400_000):
        world.run(flaky, until_ms=stop, call_ms=300)
        world.ms += draw.randrange(0, 90_000)
    assert most_in_a_minute(world.claimed_at) <= 60
    assert len(world.claimed_at) >= 120


def test_namespaces_of_one_group_share_the_limit(redis_client: Redis) -> None:
    one = busy(redis_client, namespace="one", requests_per_minute=60, rate_limit_group="address")
    two = busy(redis_client, namespace="two", requests_per_minute=60, rate_limit_group="address")
    other = busy(redis_client, namespace="other", requests_per_minute=60, rate_limit_group="elsewhere")
    for _ in range(1_800):
        for world in (one, two, other):
            world.ms += 100
            claim = world.claim()
            if isinstance(claim, ClaimedCall):
                world.settle(claim, SAVED)
    together = sorted(one.claimed_at + two.claimed_at)
    assert most_in_a_minute(together) <= 60
    assert len(together) >= 120
    assert min(len(one.claimed_at), len(two.claimed_at)) >= 30, "neither starves"
    assert len(other.claimed_at) >= 120


def test_calls_are_paced_with_bursts_of_twice_the_concurrency(redis_client: Redis) -> None:
    world = busy(redis_client, requests_per_minute=120, max_concurrent_calls=3)
    world.run(lambda rows: SAVED, until_ms=20_000)
    assert world.claimed_at[:7] == [0] * 6 + [500]
    assert all(b - a in {499, 500, 501} for a, b in pairwise(world.claimed_at[6:]))


def test_a_request_without_rows_takes_a_permit_too(redis_client: Redis) -> None:
    world = busy(redis_client, requests_per_minute=2)
    assert world.outbox.take_permit("check-1") == 0
    assert world.outbox.take_permit("check-2") == 0
    assert world.outbox.take_permit("check-3") > 50
    assert closed(world).reason == "pacing"


def test_a_permit_counts_from_the_end_of_its_call(redis_client: Redis) -> None:
    """When in between the request reached the server only the server knows, and it is its window that must hold."""
    world = busy(redis_client, requests_per_minute=1)
    call = world.must_claim()
    world.ms = 9_000
    world.settle(call, SAVED)
    world.ms = 68_999
    closed(world)
    world.ms = 69_001
    world.must_claim()


def test_the_limit_holds_when_the_clock_is_set_back(redis_client: Redis) -> None:
    world = busy(redis_client, requests_per_minute=10)
    world.ms = 100_000
    for _ in range(10):
        world.call(SAVED)
    world.ms = 80_000
    closed(world)
    world.ms = 160_001
    world.call(SAVED)


# -- 429 ------------------------------------------------------------------------------------------------------------


def test_a_429_closes_the_gate_for_everybody_of_the_group(redis_client: Redis) -> None:
    one = busy(redis_client, namespace="one", rate_limit_group="address")
    two = busy(redis_client, namespace="two", rate_limit_group="address")
    other = busy(redis_client, namespace="other", rate_limit_group="elsewhere")
    one.call(RateLimited(429, 4.0))
    for world in (one, two):
        assert closed(world) == GateClosed(4.0, "rate_limited")
        assert world.outbox.poll(["t"]).call_tokens == ()
    other.call(SAVED)
    for world in (one, two):
        world.ms = 4_000
    one.must_claim()


def test_only_calls_in_flight_meet_a_429_and_opening_is_gradual(redis_client: Redis) -> None:
    world = busy(redis_client, requests_per_minute=600, max_concurrent_calls=4)
    limited_from = 10_000

    def api(rows: list[dict[str, Any]]) -> CallOutcome:
        return RateLimited(429, 4.0) if limited_from <= world.ms < limited_from + 4_000 else SAVED

    world.run(api, until_ms=30_000, call_ms=300)
    met = [m for m in world.claimed_at if limited_from <= m < limited_from + 4_000]
    assert 1 <= len(met) <= 4
    after = [m for m in world.claimed_at if m >= limited_from + 4_000]
    assert len([m for m in after if m < after[0] + 1_000]) <= 11, "one after the other, no stampede"
    assert world.outbox.status()["counts"]["saved"] == len(world.claimed_at) - len(met)
    world.check()


def test_a_second_429_lengthens_the_pause_and_a_shorter_one_does_not_shorten_it(redis_client: Redis) -> None:
    world = busy(redis_client)
    calls = [world.must_claim() for _ in range(3)]
    world.settle(calls[0], RateLimited(429, 30.0))
    world.settle(calls[1], RateLimited(429, 5.0))
    assert closed(world).wait_seconds == 30.0
    world.settle(calls[2], SAVED)
    assert closed(world).wait_seconds == 30.0, "a call begun before is no reason to open"


# -- outage ---------------------------------------------------------------------------------------------------------


def test_three_failures_of_different_calls_close_the_gate(redis_client: Redis) -> None:
    world = busy(redis_client)
    for _ in range(2):
        world.call(BOOM)
    assert gate(world)["state"] == "open"
    world.call(BOOM)
    assert gate(world)["state"] == "paused"
    assert "boom" in gate(world)["detail"]
    assert closed(world).reason == "outage"
    assert world.counts()["pauses:outage"] == 1


def test_a_success_between_starts_the_count_anew(redis_client: Redis) -> None:
    world = busy(redis_client)
    for outcome in (BOOM, BOOM, SAVED, BOOM, BOOM, RefusedCall(422, "no"), BOOM, BOOM):
        world.call(outcome)
        assert gate(world)["state"] == "open"


def test_the_same_rows_failing_again_are_one_call(redis_client: Redis) -> None:
    world = World(redis_client)
    world.enqueue(row(1))
    for _ in range(6):
        world.ms += 70_000
        world.call(NO_WAY)
    assert gate(world)["state"] == "open"


def test_an_outage_with_little_to_send_is_an_outage_too(redis_client: Redis) -> None:
    """One call's rows are all there is: they are not taken apart row by row, and the gate closes."""
    world = World(redis_client)
    world.enqueue(*(row(n) for n in range(100)))
    calls = world.run(lambda rows: BOOM, until_ms=600_000)
    assert gate(world)["state"] == "paused"
    assert len(calls) <= 30
    assert min(len(call) for call in calls) >= 12
    recovered = world.run(lambda rows: SAVED, until_ms=world.ms + 200_000)
    assert len(recovered) <= 8
    assert world.counts()["saved"] == 100
    world.check()


def test_a_wrong_address_with_little_to_send_is_told(redis_client: Redis) -> None:
    world = World(redis_client)
    world.enqueue(*(row(n) for n in range(100)))
    calls = world.run(lambda rows: Misconfigured(404, "no such page"), until_ms=600_000)
    assert gate(world)["state"] == "paused"
    assert "404" in gate(world)["detail"]
    assert len(calls) <= 20
    assert world.dead() == []


def test_halves_of_a_call_that_share_no_row_are_different_calls(redis_client: Redis) -> None:
    world = World(redis_client, batch_max_rows=8)
    world.enqueue(*(row(n) for n in range(8)))
    sizes = []
    while gate(world)["state"] == "open":
        world.ms += 30_000
        sizes.append(len(world.call(BOOM).rows))
    assert sizes[:4] == [8, 8, 4, 4]
    assert len(sizes) <= 6


def test_the_pause_grows_with_failing_probes_and_one_probe_runs_at_a_time(redis_client: Redis) -> None:
    world = busy(redis_client)
    for _ in range(3):
        world.call(NO_WAY)
    waits = []
    for _ in range(8):
        wait = closed(world).wait_seconds
        waits.append(wait)
        world.ms += round(wait * 1000) + 1
        probe = world.must_claim()
        assert probe.probe
        assert isinstance(closed(world), GateClosed), "one probe at a time"
        assert world.outbox.poll(["t"]).call_tokens == ()
        world.settle(probe, NO_WAY)
    assert 1 <= waits[0] <= 2
    assert all(2**n <= wait <= 2 ** (n + 1) for n, wait in enumerate(waits[:5]))
    assert all(30 <= wait <= 60 for wait in waits[6:])


def test_a_probe_is_made_of_rows_that_failed_in_no_call(redis_client: Redis) -> None:
    world = busy(redis_client)
    failed = [world.call(NO_WAY).rows[0].digest for _ in range(3)]
    world.ms += 10_000
    assert world.must_claim().rows[0].digest not in failed


def test_a_probe_that_passes_opens_the_gate_gradually(redis_client: Redis) -> None:
    world = busy(redis_client, requests_per_minute=600, max_concurrent_calls=10)
    for _ in range(3):
        world.call(NO_WAY)
    world.ms += 10_000
    world.call(SAVED)
    assert gate(world)["state"] == "open"
    before = len(world.claimed_at)
    world.run(lambda rows: SAVED, until_ms=world.ms + 1_000)
    assert len(world.claimed_at) - before <= 11
    assert all(b - a >= 99 for a, b in pairwise(world.claimed_at[before:]))


def test_a_probe_that_the_api_answers_about_its_rows_opens_the_gate(redis_client: Redis) -> None:
    world = busy(redis_client)
    for _ in range(3):
        world.call(NO_WAY)
    world.ms += 10_000
    world.call(RefusedCall(422, "bad row"))
    assert gate(world)["state"] == "open"


def test_a_probe_that_was_never_sent_opens_nothing(redis_client: Redis) -> None:
    """A worker that was starved since the claim has too little of its lease left, and gives the rows back."""
    world = busy(redis_client)
    for _ in range(3):
        world.call(NO_WAY)
    world.ms += 10_000
    probe = world.must_claim()
    assert probe.probe
    world.outbox.settle(probe.id, Settlement(Verdict.NOT_SENT, Rest.AGAIN), {})
    assert gate(world)["state"] != "open"
    assert world.must_claim().probe
    world.check()


def test_a_call_begun_before_the_pause_can_lengthen_it_and_not_end_it(redis_client: Redis) -> None:
    world = busy(redis_client)
    old = [world.must_claim() for _ in range(3)]
    for _ in range(3):
        world.call(NO_WAY)
    wait = closed(world).wait_seconds
    world.settle(old[0], SAVED)
    assert closed(world).wait_seconds == wait
    world.settle(old[1], NO_WAY)
    assert closed(world).wait_seconds == wait
    world.settle(old[2], Failed(503, "later", unknown=True, retry_after_seconds=40.0))
    assert closed(world).wait_seconds == 40.0


def test_a_late_success_of_before_an_outage_does_not_count_as_its_end(redis_client: Redis) -> None:
    """Nor does it, once the gate is open again, start the count of failures anew."""
    world = busy(redis_client)
    old = world.must_claim()
    for _ in range(3):
        world.call(NO_WAY)
    world.ms += 10_000
    world.call(SAVED)
    for _ in range(2):
        world.ms += 1_000
        world.call(NO_WAY)
    world.settle(old, SAVED)
    world.ms += 1_000
    world.call(NO_WAY)
    assert gate(world)["state"] == "paused"


def test_a_503_closes_the_gate_for_as_long_as_it_asks(redis_client: Redis) -> None:
    world = busy(redis_client)
    world.call(Failed(503, "later", unknown=True, retry_after_seconds=33.0))
    assert closed(world).wait_seconds == 33.0
    world.ms += 33_000
    assert world.must_claim().probe


# -- misconfiguration and unreadable answers ------------------------------------------------------------------------


def test_a_refused_key_means_one_probe_a_minute_and_no_row_dies(redis_client: Redis) -> None:
    world = busy(redis_client, max_concurrent_calls=4)
    mended_at = 250_000

    def api(rows: list[dict[str, Any]]) -> CallOutcome:
        return SAVED if world.ms >= mended_at else Misconfigured(401, "Invalid key")

    world.run(api, until_ms=mended_at, call_ms=50)
    assert len(world.claimed_at) <= 4 + 5
    assert (gate(world)["reason"], world.counts()["pauses:misconfigured"]) == ("misconfigured", 1)
    assert "BUNCE_API_KEY" in gate(world)["detail"]
    assert "saved" not in world.counts()
    assert all(r.attempts == 0 for r in world.waiting().values())
    world.run(api, until_ms=mended_at + 70_000, call_ms=50)
    assert gate(world)["state"] == "open", "it resumes by itself"
    assert world.counts()["saved"] > 100
    world.check()


@pytest.mark.parametrize("status", [403, 404, 302])
def test_two_different_calls_refused_otherwise_close_the_gate(redis_client: Redis, status: int) -> None:
    world = busy(redis_client)
    world.call(Misconfigured(status, "no"))
    assert gate(world)["state"] == "open"
    world.call(Misconfigured(status, "no"))
    assert closed(world) == GateClosed(60.0, "misconfigured")


def test_three_unreadable_answers_in_a_row_from_different_calls_close_the_gate(redis_client: Redis) -> None:
    world = busy(redis_client)
    for outcome in (Unreadable(204, "empty"), Unreadable(204, "empty"), SAVED, Unreadable(204, "empty")):
        world.call(outcome)
    assert gate(world)["state"] == "open"
    world.call(Unreadable(204, "empty"))
    world.call(Unreadable(204, "empty"))
    assert closed(world) == GateClosed(60.0, "unreadable")
    assert world.dead() == []


# -- the operator ---------------------------------------------------------------------------------------------------


def test_an_operators_pause_ends_only_by_the_operator(redis_client: Redis) -> None:
    world = busy(redis_client)
    assert world.outbox.pause()
    assert not world.outbox.pause()
    world.ms += 10**9
    assert closed(world).wait_seconds < 0
    assert gate(world)["reason"] == "paused by an operator"
    assert world.outbox.resume()
    assert not world.outbox.resume()
    world.must_claim()


def test_calls_in_flight_are_settled_while_an_operator_pauses(redis_client: Redis) -> None:
    world = busy(redis_client)
    call = world.must_claim()
    world.outbox.pause()
    world.settle(call, SAVED)
    assert world.counts()["saved"] == 1
    world.check()


# -- everything at once ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_api_does_the_limit_holds_and_every_row_ends_well(redis_client: Redis, seed: int) -> None:
    draw = random.Random(seed)
    world = World(redis_client, requests_per_minute=60, max_concurrent_calls=3, batch_max_rows=10)
    world.enqueue(*(row(n) for n in range(300)))
    choices: list[Callable[[], CallOutcome]] = [
        lambda: BOOM,
        lambda: NO_WAY,
        lambda: RateLimited(429, draw.choice([1.0, 4.0, 60.0])),
        lambda: Misconfigured(401, "key"),
        lambda: Unreadable(200, "html"),
        lambda: Misconfigured(404, "nothing"),
        lambda: Failed(503, "later", unknown=True, retry_after_seconds=9.0),
    ]

    def api(rows: list[dict[str, Any]]) -> CallOutcome:
        return draw.choice(choices)() if draw.random() < 0.3 else SAVED

    world.run(api, until_ms=1_200_000, call_ms=draw.choice([0, 200, 2_000]))
    world.check()
    world.run(lambda rows: SAVED, until_ms=world.ms + 1_200_000)
    assert most_in_a_minute(world.claimed_at) <= 60
    assert world.counts()["saved"] + len(world.dead()) == 300
    assert len(world.dead()) <= 5
    world.check()
