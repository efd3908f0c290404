"""``settle.lua``: what becomes of each row of a call."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from redis import Redis
from tests.redis.world import ATTRIBUTE, START_MS, World, row

from bunce_attributes.decisions import Rest, Settlement, Verdict
from bunce_attributes.outbox.outbox import LeaseLost, Settled
from bunce_attributes.outcomes import (
    CallOutcome,
    Failed,
    Misconfigured,
    Processed,
    RateLimited,
    RefusedCall,
    RefusedRows,
    TooLarge,
    Unreadable,
)

LEASE_MS = 25_000
SAVED = Processed(200, {})
UNHARMED: list[CallOutcome] = [
    RateLimited(429, 4.0),
    Failed(500, "boom", unknown=True),
    Failed(0, "no connection", unknown=False),
    Failed(503, "later", unknown=True, retry_after_seconds=4.0),
    Misconfigured(401, "bad key"),
    Misconfigured(404, "nothing here"),
    RefusedCall(422, "some row is bad"),
    TooLarge(413, "too large"),
    Unreadable(204, "empty"),
]


@pytest.fixture
def world(redis_client: Redis) -> World:
    return World(redis_client)


def test_saved_rows_leave_and_rejected_ones_return_with_backoff(world: World) -> None:
    world.enqueue(*(row(n) for n in range(100)))
    call = world.must_claim()
    assert world.settle(call, Processed(200, {0: "bad", 99: "worse"})) == Settled(98, 2, 0, 0, 0)
    assert world.counts()["saved"] == 98
    records = {r.body["customer_id"]: r for r in world.waiting().values()}
    assert set(records) == {"0", "99"}
    assert records["99"].history == [{"at_ms": world.outbox.now_ms, "status": 200, "message": "worse"}]
    world.ms += 59_999
    world.outbox.poll([])
    assert world.waiting_row(row(0)).place == "later"
    world.check()


def test_the_sixth_row_of_the_issue(world: World) -> None:
    """150 rows, one always refused, one refused twice: 5 calls with the first, 3 with the second, 1 with the others."""
    world.enqueue(*(row(n) for n in range(150)))
    refusals = {"7": 2, "0": 10**9}

    def api(rows: list[dict[str, Any]]) -> CallOutcome:
        refused = {}
        for index, sent in enumerate(rows):
            if refusals.get(sent["customer_id"], 0) > 0:
                refusals[sent["customer_id"]] -= 1
                refused[index] = "no"
        return Processed(200, refused)

    calls = world.run(api, until_ms=3_600_000)
    times = {n: sum(str(n) in {r["customer_id"] for r in call} for call in calls) for n in range(150)}
    assert times == {**dict.fromkeys(range(150), 1), 0: 5, 7: 3}
    assert world.counts()["saved"] == 149
    (letter,) = world.dead()
    assert letter["row"] == row(0)
    assert [attempt["status"] for attempt in letter["attempts"]] == [200] * 5
    assert letter["reason_class"] == "attempts"
    assert "Refused 5 times" in letter["reason"]
    moments = [attempt["at_ms"] for attempt in letter["attempts"]]
    assert all(b - a >= 60_000 * 2**n for n, (a, b) in enumerate(itertools.pairwise(moments)))
    world.check()


@pytest.mark.parametrize("outcome", UNHARMED)
def test_a_call_that_failed_as_a_whole_costs_no_attempt(world: World, outcome: CallOutcome) -> None:
    world.enqueue(*(row(n) for n in range(5)))
    world.ms += 1_000
    assert world.settle(world.must_claim(), outcome) == Settled(0, 0, 0, 0, 5)
    assert all(r.attempts == 0 and r.history == [] for r in world.waiting().values())
    world.check()


@pytest.mark.parametrize("outcome", [RateLimited(429, 4.0), Misconfigured(401, "bad key"), RefusedRows(422, {0: "no"})])
def test_released_rows_go_first_again(world: World, outcome: CallOutcome) -> None:
    world.enqueue(*(row(n) for n in range(100)))
    call = world.must_claim()
    world.enqueue(*(row(n) for n in range(100, 300)))
    world.settle(call, outcome)
    world.ms += 61_000
    named = set(getattr(outcome, "refusals", ()))
    first = {r["customer_id"] for r in world.sent_by(world.must_claim())}
    assert {json.loads(r.body)["customer_id"] for i, r in enumerate(call.rows) if i not in named} <= first


def test_settling_twice_changes_nothing(world: World) -> None:
    world.enqueue(row(1))
    world.ms += 1_000
    call = world.must_claim()
    world.settle(call, Processed(200, {0: "no"}))
    counts = world.counts()
    assert world.settle(call, SAVED) == LeaseLost()
    assert world.counts() == counts
    world.check()


def test_settling_after_the_rows_were_given_back_changes_nothing(world: World) -> None:
    world.enqueue(row(1))
    world.ms += 1_000
    call = world.must_claim()
    world.ms += LEASE_MS
    world.outbox.poll([])
    assert world.settle(call, SAVED) == LeaseLost()
    assert world.outbox.status()["waiting"] == 1
    assert "saved" not in world.counts()


def test_an_answer_that_comes_after_the_lease_but_before_anybody_took_the_rows_counts(world: World) -> None:
    world.enqueue(row(1))
    world.ms += 1_000
    call = world.must_claim()
    world.ms += LEASE_MS + 60_000
    assert world.settle(call, SAVED) == Settled(1, 0, 0, 0, 0)


@pytest.mark.parametrize("outcome", [Processed(200, {0: "no"}), *UNHARMED])
def test_a_newer_value_that_arrived_during_the_call_supersedes_the_called_one(
    world: World, outcome: CallOutcome
) -> None:
    world.enqueue(row(1, "called"))
    world.ms += 1_000
    call = world.must_claim()
    world.enqueue(row(1, "newer"))
    settled = world.settle(call, outcome)
    assert isinstance(settled, Settled)
    assert (settled.superseded, settled.saved + settled.retried + settled.dead + settled.released) == (1, 0)
    record = world.waiting_row(row(1))
    assert (record.body["value"], record.attempts, record.since) == ("newer", 0, START_MS)
    world.check()
    calls = world.run(lambda rows: SAVED, until_ms=world.ms + 200_000)
    assert calls == [[row(1, "newer")]]


def test_a_newer_value_that_arrived_during_a_saved_call_waits_for_its_own(world: World) -> None:
    world.enqueue(row(1, "called"))
    world.ms += 1_000
    call = world.must_claim()
    world.ms += 500
    world.enqueue(row(1, "newer"))
    assert world.settle(call, SAVED) == Settled(1, 0, 0, 0, 0)
    assert world.waiting_row(row(1)).since == START_MS + 1_500
    assert world.run(lambda rows: SAVED, until_ms=world.ms + 10_000) == [[row(1, "newer")]]
    world.check()


def test_a_called_value_that_dies_is_superseded_if_a_newer_one_waits(redis_client: Redis) -> None:
    world = World(redis_client, max_attempts=1)
    world.enqueue(row(1, "called"))
    world.ms += 1_000
    call = world.must_claim()
    world.enqueue(row(1, "newer"))
    assert world.settle(call, Processed(200, {0: "no"})) == Settled(0, 0, 0, 1, 0)
    assert world.dead() == []
    world.check()


@pytest.mark.parametrize(
    "outcome", [Failed(500, "boom", unknown=True), Failed(0, "no answer", unknown=True), Unreadable(200, "html")]
)
@pytest.mark.parametrize("count", [1, 3])
def test_after_an_unknown_outcome_no_value_of_the_keys_is_sent_before_the_hold_is_over(
    world: World, outcome: CallOutcome, count: int
) -> None:
    world.enqueue(*(row(n, "a") for n in range(count)))
    world.ms += 1_000
    call = world.must_claim()
    world.settle(call, outcome)
    settled_at = world.ms
    world.enqueue(*(row(n, "b") for n in range(count)))
    assert world.run(lambda rows: SAVED, until_ms=settled_at + 9_999) == []
    assert world.run(lambda rows: SAVED, until_ms=settled_at + 30_000) != []
    world.check()


def test_the_hold_is_kept_by_a_lone_row_whose_backoff_is_shorter(redis_client: Redis) -> None:
    world = World(redis_client, retry_base_seconds=0.5)
    world.enqueue(row(1, "a"))
    world.ms += 1_000
    world.call(Failed(500, "boom", unknown=True))
    world.enqueue(row(2))
    world.ms += 1_000
    world.call(SAVED)
    world.ms += 20_000
    world.call(Failed(500, "boom", unknown=True))
    failed_at = world.ms
    assert world.waiting_row(row(1)).attempts == 1
    world.enqueue(row(1, "b"))
    assert world.run(lambda rows: SAVED, until_ms=failed_at + 9_999) == []
    assert world.run(lambda rows: SAVED, until_ms=failed_at + 20_000) == [[row(1, "b")]]


def test_a_failure_that_never_reached_the_server_needs_no_hold(world: World) -> None:
    world.enqueue(row(1))
    world.ms += 1_000
    world.call(Failed(0, "no connection", unknown=False))
    assert world.run(lambda rows: SAVED, until_ms=world.ms + 1_500) == [[row(1)]]


def test_messages_of_the_api_may_hold_anything(redis_client: Redis) -> None:
    world = World(redis_client, max_attempts=1)
    nasty = '"}],\\ \u2028 \x00 %s ü 😀'
    world.enqueue(row(1))
    world.ms += 1_000
    world.call(Processed(200, {0: nasty}))
    (letter,) = world.dead()
    assert letter["attempts"][0]["message"] == nasty
    assert nasty in letter["reason"]


@pytest.mark.parametrize("kind", [Failed(500, "\x00 \"\\ ü 😀 ' %", unknown=True), Misconfigured(403, '\x7f"{[')])
def test_details_of_a_failure_may_hold_anything(world: World, kind: CallOutcome) -> None:
    world.enqueue(*(row(n) for n in range(300)))
    for _ in range(2 if isinstance(kind, Misconfigured) else 3):
        world.call(kind)
    assert world.outbox.status()["gate"]["state"] == "paused"


def test_a_dead_letter_tells_everything_about_its_row(redis_client: Redis) -> None:
    world = World(redis_client, max_attempts=1)
    update = {"id": ATTRIBUTE, "value": 'q"', "customer": {"email": "Ada@b", "first_name": "Ädä"}}
    world.enqueue({**update, "occurred_at": START_MS / 1000 - 5}, lane="bulk")
    world.ms += 1_000
    world.call(Processed(200, {0: "no"}))
    (letter,) = world.dead()
    assert letter["row"] == update
    assert (letter["kind"], letter["attribute"], letter["lane"]) == ("update", ATTRIBUTE, "bulk")
    assert letter["occurred_at_us"] == (START_MS - 5_000) * 1000
    assert START_MS * 1000 <= letter["accepted_at_us"] <= (START_MS + 1) * 1000
    assert letter["waiting_since_ms"] == START_MS
    assert letter["died_at_ms"] == START_MS + 1_000


def test_a_single_row_that_is_too_large_dies_at_once_with_the_reason(world: World) -> None:
    world.enqueue(row(1))
    world.ms += 1_000
    world.call(TooLarge(413, "payload too large"))
    (letter,) = world.dead()
    assert letter["reason_class"] == "too_large"
    assert "this row alone is too large" in letter["reason"]
    world.check()


def test_a_call_of_ten_thousand_rows(redis_client: Redis) -> None:
    world = World(redis_client, batch_max_rows=10_000, batch_max_bytes=10_000_000)
    world.enqueue(*(row(n) for n in range(10_000)))
    call = world.must_claim()
    assert len(call.rows) == 10_000
    refused = dict.fromkeys(range(0, 10_000, 2), "no")
    assert world.settle(call, Processed(200, refused)) == Settled(5_000, 5_000, 0, 0, 0)
    world.check()


def test_counters_of_a_call_are_added_in_the_same_step(world: World) -> None:
    world.enqueue(row(1))
    world.ms += 1_000
    call = world.must_claim()
    settlement = Settlement(Verdict.PASSED, Rest.SAVED)
    world.outbox.settle(call.id, settlement, {"calls": 1, "call_ms": 12})
    world.outbox.settle(call.id, settlement, {"calls": 1, "call_ms": 12})
    counts = world.counts()
    assert (counts["calls"], counts["call_ms"]) == (1, 12)
