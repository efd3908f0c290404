"""Whatever is enqueued and whatever the API answers: nothing is lost, nobody pays for another, no order is broken."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from tests.redis.world import ATTRIBUTE, OTHER_ATTRIBUTE, START_MS, Row, World, digest, message

from bunce_attributes.decisions import Rest, Settlement, Verdict
from bunce_attributes.embedded_redis import EmbeddedRedis
from bunce_attributes.outbox.outbox import ClaimedCall, Settled
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

KEYS = 5
MAX_ATTEMPTS = 2
HOLD_MS = 7_000
PER_MINUTE = 40
MAX_CALLS = 3

_customer = st.integers(0, KEYS - 1)
_enqueue = st.tuples(
    st.just("enqueue"),
    st.lists(
        st.tuples(_customer, st.sampled_from(["plain", "details", "bad", "other attribute"])), min_size=1, max_size=7
    ),
    st.sampled_from(["live", "bulk"]),
)
_garbage = st.tuples(st.just("garbage"), st.sampled_from([b"", b"\xff", b"[]", b'{"headers":{}}', message(None)]))
_dead_reader = st.tuples(st.just("dead reader"))
_claim = st.tuples(st.just("claim"), st.sampled_from([0, 1_500, 8_000]))
_OUTCOMES = ["processed", "named", "refused", "too large", "unreadable", "429", "500", "no connection", "503", "401"]
_outcome = st.sampled_from(["processed", "refused", *_OUTCOMES, "403", "not sent"])
_named = st.sets(st.integers(0, 3), max_size=3)
_settle = st.tuples(st.just("settle"), st.integers(0, MAX_CALLS - 1), _outcome, _named)
_call = st.tuples(st.just("call"), st.sampled_from([0, 1_500, 8_000, 61_000]), _outcome, _named)
_pass = st.tuples(st.just("pass"), st.sampled_from([1, 500, 8_000, 30_000, 61_000, 200_000]))
_operator = st.tuples(st.just("operator"), st.sampled_from(["pause", "resume", "brake", "release", "bury"]))
_rare = st.one_of(_garbage, _dead_reader, _operator)
_kinds = [_enqueue, _enqueue, _call, _call, _call, _claim, _settle, _settle, _pass, _rare]
# By weight: `one_of` would take each kind once.
_steps = st.lists(st.sampled_from(_kinds).flatmap(lambda kind: kind), min_size=10, max_size=60)


def outcome_of(name: str, named: set[int], rows: int) -> CallOutcome:
    refusals = {index: f"no {index}" for index in named if index < rows}
    match name:
        case "processed":
            return Processed(200, refusals)
        case "named" if refusals:
            return RefusedRows(422, refusals)
        case "named" | "refused":
            return RefusedCall(422, "no")
        case "too large":
            return TooLarge(413, "too large")
        case "unreadable":
            return Unreadable(204, "empty")
        case "429":
            return RateLimited(429, 4.0)
        case "500":
            return Failed(500, "boom", unknown=True)
        case "no connection":
            return Failed(0, "no connection", unknown=False)
        case "503":
            return Failed(503, "later", unknown=True, retry_after_seconds=30.0)
        case "401" | "403":
            return Misconfigured(int(name), "no")
    raise AssertionError(name)


class Story:
    """Plays steps on a world and keeps its own books."""

    def __init__(self, client: Redis) -> None:
        self.world = World(
            client,
            batch_max_rows=4,
            max_attempts=MAX_ATTEMPTS,
            max_concurrent_calls=MAX_CALLS,
            requests_per_minute=PER_MINUTE,
            unknown_hold_seconds=HOLD_MS / 1000,
            retry_base_seconds=2,
            retry_max_seconds=60,
            brake_min_rows=8,
        )
        self.calls: list[ClaimedCall] = []
        self.version = 0
        self.rows: dict[str, Row] = {}
        """Value → the row as it was enqueued; each value is enqueued once."""
        self.charges: Counter[str] = Counter()
        self.resting_until: dict[bytes, int] = {}
        self.saved_version: dict[bytes, int] = {}

    def play(self, step: Any) -> None:
        match step:
            case ("enqueue", wanted, lane):
                self.world.queue(message([self._row(*one) for one in wanted], lane))
                self.world.take_in()
            case ("garbage", raw):
                self.world.queue(raw)
                self.world.take_in()
            case ("dead reader",):
                self.world.queue(message([self._row(0, "plain")]))
                self._claim_messages("a reader that dies")
                self.world.ms += 20_000
                self.world.take_in()
            case ("claim", ms):
                self.world.ms += ms
                self._claim()
            case ("call", ms, name, named):
                self.world.ms += ms
                if self._claim():
                    self._settle(self.calls.pop(), name, named)
            case ("settle", which, name, named) if self.calls:
                self._settle(self.calls.pop(which % len(self.calls)), name, named)
            case ("pass", ms):
                self.world.ms += ms
            case ("operator", verb):
                self._operate(verb)

    def _row(self, customer: int, kind: str) -> Any:
        self.version += 1
        value = f"{customer}:{self.version}"
        if kind == "bad":
            return {"id": "no uuid", "value": value}
        row: Row = {"id": OTHER_ATTRIBUTE if kind == "other attribute" else ATTRIBUTE, "value": value}
        if kind == "details":
            row["customer"] = {"customer_id": f"c{customer}", "first_name": f'"}}{value}', "devices": []}
        else:
            row["customer_id"] = f"c{customer}"
        self.rows[value] = row
        return row

    def _claim_messages(self, token: str) -> None:
        self.world.outbox.claim_messages(token, lease_ms=15_000, most_messages=10, most_bytes=9_999, largest=9_999)

    def _claim(self) -> bool:
        claim = self.world.claim()
        if not isinstance(claim, ClaimedCall):
            return False
        self.calls.append(claim)
        for row in claim.rows:
            sent = json.loads(row.body)
            asked = self.rows[sent["value"]]
            # Details may have been taken over from an older value of the key; all else is as it was enqueued.
            assert {**sent, "customer": None} == {**asked, "customer": None}
            if "customer" in asked:
                assert sent["customer"] == asked["customer"]
            elif "customer" in sent:
                older = [r["customer"] for r in self.rows.values() if "customer" in r]
                assert sent["customer"] in older
                assert sent["customer"]["customer_id"] == asked["customer_id"]
            assert row.attempts == self.charges[sent["value"]], "a row pays for its own refusals alone"
            assert row.attempts < MAX_ATTEMPTS
            assert self.world.outbox.now_ms >= self.resting_until.get(row.digest, 0), "the hold is over"
            version = int(sent["value"].split(":")[1])
            assert version >= self.saved_version.get(row.digest, 0), "no older value after a newer one"
        return True

    def _settle(self, call: ClaimedCall, name: str, named: set[int]) -> None:
        values = [json.loads(row.body)["value"] for row in call.rows]
        if name == "not sent":
            settlement = Settlement(Verdict.NOT_SENT, Rest.AGAIN)
            may_be_charged: set[int] = set()
        else:
            outcome = outcome_of(name, named, len(call.rows))
            settlement = self.world.decide(call, outcome)
            may_be_charged = set(getattr(outcome, "refusals", {})) or ({0} if len(call.rows) == 1 else set())
        reply, _ = self.world.outbox.settle(call.id, settlement, {})
        if not isinstance(reply, Settled):
            # The lease had ended: the server may have got the call until then.
            return
        assert reply.saved + reply.retried + reply.dead + reply.superseded + reply.released == len(call.rows)
        charged = {row.digest for row in settlement.named}
        for index, row in enumerate(call.rows):
            if row.digest in charged:
                assert index in may_be_charged
                self.charges[values[index]] += 1
                assert self.charges[values[index]] <= MAX_ATTEMPTS
            elif settlement.rest is Rest.SAVED:
                assert name == "processed"
                self.saved_version[row.digest] = int(values[index].split(":")[1])
            if settlement.hold:
                self.resting_until[row.digest] = self.world.outbox.now_ms + HOLD_MS

    def _operate(self, verb: str) -> None:
        outbox = self.world.outbox
        match verb:
            case "pause":
                outbox.pause()
            case "resume":
                outbox.resume()
            case "brake":
                outbox.pause(ATTRIBUTE)
            case "release":
                outbox.resume(ATTRIBUTE)
            case "bury":
                outbox.resume(ATTRIBUTE, bury=True)

    def check(self) -> None:
        self.world.check()
        now = self.world.ms
        window = [at for at in self.world.claimed_at if now - 60_000 < at <= now]
        assert len(window) <= PER_MINUTE
        assert self.world.client.zcard(self.world.key("calls")) <= MAX_CALLS
        for letter in self.world.dead():
            assert letter["kind"] != "update" or len(letter["attempts"]) <= MAX_ATTEMPTS
        for record in self.world.waiting().values():
            assert record.attempts == len(record.history) == self.charges[record.body["value"]]

    def end_well(self) -> None:
        """With an API that takes everything whatever still waits is saved: nothing was left where nobody looks."""
        self.calls.clear()
        self.world.outbox.resume()
        self.world.outbox.resume(ATTRIBUTE)
        self.world.outbox.resume(OTHER_ATTRIBUTE)
        self.world.run(lambda rows: Processed(200, {}), until_ms=self.world.ms + 1_200_000)
        self.world.check()
        assert self.world.outbox.status()["waiting"] == 0
        newest: dict[bytes, int] = {}
        for value, row in self.rows.items():
            newest[digest(row)] = int(value.split(":")[1])
        died = {letter["row"]["value"] for letter in self.world.dead() if letter["kind"] == "update"}
        last_sent = {digest(row): row["value"] for call in self.world.sent for row in call}
        for one, version in newest.items():
            wanted = next(v for v in self.rows if v.endswith(f":{version}"))
            assert last_sent[one] == wanted or wanted in died


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=_steps)
def test_no_row_is_lost_and_no_row_pays_for_another(redis_server: EmbeddedRedis, steps: list[Any]) -> None:
    with redis_server.client() as client:
        client.flushall()
        story = Story(client)
        assert story.world.outbox.now_ms == START_MS
        for step in steps:
            story.play(step)
            story.check()
        story.end_well()
