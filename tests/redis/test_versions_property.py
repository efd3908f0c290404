"""An older value never lands after a newer one: whatever is retried, redelivered, replayed or exported.

A random course of events over a few keys: values with and without ``occurred_at``, readers and workers that die or
come late, an API that applies a call after we gave up on it, dead letters that are replayed, purged, or exported and
enqueued again. The clock is the test's, handed to every script.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from redis import Redis

from bunce_attributes import intake as intake_module
from bunce_attributes.celery_message import update_message
from bunce_attributes.dead_letters.filters import Filter
from bunce_attributes.dead_letters.letters import DeadLetter, Kind
from bunce_attributes.dead_letters.requeueing import export_lines
from bunce_attributes.dead_letters.store import DeadLetters
from bunce_attributes.decisions import Settlement, decide
from bunce_attributes.embedded_redis import EmbeddedRedis
from bunce_attributes.intake import LEASE_MS, Intake
from bunce_attributes.outbox.outbox import (
    ClaimedCall,
    ClaimedMessages,
    IntakeBatch,
    LeaseLost,
    Outbox,
)
from bunce_attributes.outcomes import CallOutcome, Failed, Processed, RefusedCall
from bunce_attributes.retries import RetryPolicy
from bunce_attributes.settings import load_settings
from bunce_attributes.updates import Lane

ATTRIBUTE = "9f171295-6935-400c-af6b-fd628a46bc71"
START_MS = 1_800_000_000_000
MEMORY_SECONDS = 40_000.0
"""Longer than any course of events below, so that nothing is forgotten."""
KEYS = 3
OUTCOMES = st.sampled_from(["saved", "refused", "refused", "422", "unknown", "unknown", "failed"])

_server: EmbeddedRedis | None = None


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a key; ``number`` is its place in the queue."""

    number: int
    key: int
    occurred_us: int | None

    def newer_than(self, other: Value) -> bool:
        """By the moments if both have one (a later one in the queue wins a tie), else by the queue."""
        if self.occurred_us is not None and other.occurred_us is not None and self.occurred_us != other.occurred_us:
            return self.occurred_us > other.occurred_us
        return self.number > other.number


@dataclass(slots=True)
class Call:
    """A call from its claim on, and what its answer will change."""

    claim: ClaimedCall
    lease_ends: int
    settlement: Settlement | None = None


@dataclass(slots=True)
class Reader:
    """A reader that holds messages, or thinks so."""

    token: str
    claimed: ClaimedMessages
    batches: list[IntakeBatch] = field(default_factory=list)


def values_of(letter: DeadLetter) -> set[int]:
    """Of an update its value; of a message that cost three readers their lease those of all its rows."""
    rows = [letter.row] if letter.kind is Kind.UPDATE else letter.rows
    return {int(row["value"]) for row in rows}


class Versions(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        assert _server is not None
        self.client: Redis = _server.client()
        self.client.flushall()
        self.now = START_MS
        self.settings = load_settings(
            redis_url=_server.url,
            batch_max_rows=4,
            batch_max_wait_seconds=0.0,
            max_attempts=1,
            retry_base_seconds=1.0,
            retry_max_seconds=2.0,
            requests_per_minute=1_000_000,
            request_timeout_seconds=5.0,
            unknown_hold_seconds=4.0,
            version_memory_seconds=MEMORY_SECONDS,
            brake_min_rows=1_000_000,
        )
        self.policy = RetryPolicy(1, 1.0, 2.0)
        self.outbox = Outbox(self.client, self.settings, now_ms=self.now)
        self.intake = Intake(self.outbox, row_limit_bytes=100_000)
        self.values: dict[int, Value] = {}
        self.landed: dict[int, Value] = {}
        self.history: list[str] = []
        self.late: list[tuple[int, list[Value]]] = []
        self.calls: list[Call] = []
        self.readers: list[Reader] = []
        self.purged: set[int] = set()
        self.unread: set[int] = set()
        self.numbers = count(1)

    def teardown(self) -> None:
        self.client.close()

    # -- the server --------------------------------------------------------------------------------------------

    def land(self, values: list[Value]) -> None:
        for value in values:
            before = self.landed.get(value.key)
            self.history.append(f"{value} lands")
            assert before is None or not before.newer_than(value), f"{value} lands after {before}: {self.history}"
            self.landed[value.key] = value

    def value_of(self, body: bytes) -> Value:
        return self.values[int(json.loads(body)["value"])]

    # -- producers -----------------------------------------------------------------------------------------------

    @rule(
        rows=st.lists(st.tuples(st.integers(0, KEYS - 1), st.none() | st.integers(0, 5)), min_size=1, max_size=3),
        taken=st.integers(0, 3),
    )
    def enqueue(self, rows: list[tuple[int, int | None]], taken: int) -> None:
        encoded = []
        for key, moment in rows:
            number = next(self.numbers)
            occurred = None if moment is None else (START_MS - 5_000 + moment * 1_000) * 1_000
            self.values[number] = Value(number, key, occurred)
            row: dict[str, Any] = {"id": ATTRIBUTE, "customer_id": f"k{key}", "value": str(number)}
            if occurred is not None:
                row["occurred_at"] = occurred / 1_000_000
            encoded.append(json.dumps(row))
        self.push(encoded)
        if taken:
            self.intake.run()

    def push(self, rows_json: list[str]) -> None:
        message = update_message(rows_json, queue=self.outbox.namespace, lane=Lane.LIVE, enqueued_at=self.now / 1000)
        self.client.lpush(self.outbox.namespace, message)

    # -- intake --------------------------------------------------------------------------------------------------

    @rule()
    def a_reader_claims(self) -> None:
        """It goes on slice by slice in the rule below, if ever."""
        token = f"reader{next(self.numbers)}"
        claimed = self.outbox.claim_messages(
            token, lease_ms=LEASE_MS, most_messages=3, most_bytes=1_000_000, largest=1_000_000
        )
        if isinstance(claimed, ClaimedMessages):
            self.readers.append(Reader(token, claimed, list(self.intake.batches(claimed))))

    @precondition(lambda self: self.readers)
    @rule(which=st.integers(0, 9), dies=st.booleans())
    def a_reader_goes_on(self, which: int, dies: bool) -> None:
        """Perhaps long after its lease was given away: then it writes nothing."""
        reader = self.readers[which % len(self.readers)]
        batch = reader.batches.pop(0)
        before = self.client.hget(f"{self.outbox.namespace}:intake", "token")
        reply = self.outbox.accept(reader.token, reader.claimed.source, batch, lease_ms=LEASE_MS)
        if before != reader.token.encode():
            assert isinstance(reply, LeaseLost)
        if isinstance(reply, LeaseLost) or not reader.batches or dies:
            self.readers.remove(reader)
            if not dies and not isinstance(reply, LeaseLost):
                self.outbox.release_messages(reader.token)

    # -- calls ---------------------------------------------------------------------------------------------------

    def claim(self) -> Call | None:
        claim = self.outbox.claim_call(f"call{next(self.numbers)}", "no token")
        if not isinstance(claim, ClaimedCall):
            return None
        keys = [self.value_of(row.body).key for row in claim.rows]
        assert len(set(keys)) == len(keys), "a key twice in a call"
        return Call(claim, self.now + round(self.settings.lease_seconds * 1000))

    @precondition(lambda self: self.outbox.waiting())
    @rule(
        pause=st.sampled_from([0, 0, 0, 9_000, 11_000]),
        how=OUTCOMES,
        some=st.integers(0, 15),
        late=st.sampled_from([100, 1_500, 3_900]),
        then=st.sampled_from(["settled", "settled", "settled", "dies", "dies", "left", "newer values"]),
    )
    def call(self, pause: int, how: str, some: int, late: int, then: str) -> None:
        """One call. A worker sends only while its lease lasts for the whole deadline."""
        call = self.claim()
        if call is None:
            return
        self.time_passes(pause)
        rows = call.claim.rows
        if call.lease_ends - self.now < self.settings.request_timeout_seconds * 1000:
            return
        values = [self.value_of(row.body) for row in rows]
        # A server does not refuse what it has applied, or is about to.
        applied = {*self.landed.values(), *(value for _, pending in self.late for value in pending)}
        if how == "422" and applied.issuperset(values):
            how = "saved"
        outcome: CallOutcome
        match "unknown" if then == "dies" and some % 2 else how:
            case "saved":
                self.land(values)
                outcome = Processed(200, {})
            case "refused":
                refused = {i: "no" for i, value in enumerate(values) if some >> i & 1 and value not in applied}
                self.land([value for index, value in enumerate(values) if index not in refused])
                outcome = Processed(200, refused)
            case "422":
                outcome = RefusedCall(422, "no")
            case "unknown":
                # Whoever gave up on it counts the hold from then on; of a dead worker only its lease tells.
                self.late.append(((call.lease_ends if then == "dies" else self.now) + late, values))
                outcome = Failed(0, "no answer", unknown=True)
            case _:
                outcome = Failed(503, "busy", unknown=False)
        call.settlement = decide(outcome, rows, call.claim.history, self.policy, lambda: 0.5)
        if then == "newer values":
            self.enqueue([(value.key, None if value.number % 2 else some % 6) for value in values], 1)
        if then in {"settled", "newer values"}:
            self.outbox.settle(call.claim.id, call.settlement, {})
        elif then == "left":
            self.calls.append(call)

    @precondition(lambda self: self.calls)
    @rule(which=st.integers(0, 9))
    def settle(self, which: int) -> None:
        """Later, perhaps after the lease: then the answer changes nothing."""
        call = self.calls.pop(which % len(self.calls))
        assert call.settlement is not None
        self.outbox.settle(call.claim.id, call.settlement, {})

    # -- time ----------------------------------------------------------------------------------------------------

    @rule(ms=st.sampled_from([300, 2_000, 5_000, 16_000]))
    def time_passes(self, ms: int) -> None:
        for at, values in sorted(self.late, key=lambda each: each[0]):
            if at <= self.now + ms:
                self.land(values)
        self.late = [each for each in self.late if each[0] > self.now + ms]
        self.now += ms
        self.outbox.now_ms = self.now
        self.outbox.poll([])

    # -- the operator --------------------------------------------------------------------------------------------

    def letters(self) -> DeadLetters:
        return DeadLetters(self.outbox, MEMORY_SECONDS)

    @precondition(lambda self: self.client.zcard(f"{self.outbox.namespace}:dead:index"))
    @rule(which=st.integers(0, 9), what=st.sampled_from(["replay", "purge", "export", "export and purge"]))
    def handle_a_dead_letter(self, which: int, what: str) -> None:
        letters = self.letters()
        ids = letters.find(Filter())
        chosen = ids[which % len(ids)]
        letter = letters.get(chosen)
        assert letter is not None
        if letter.kind is Kind.MESSAGE:
            self.unread |= values_of(letter)
        if what == "replay":
            letters.replay([chosen])
        if what.startswith("export") and letter.kind is Kind.UPDATE:
            self.push(list(export_lines(letter, 1)))
            self.intake.run()
        if what.endswith("purge"):
            self.purged |= values_of(letter)
            letters.purge([chosen])

    # -- what always holds -----------------------------------------------------------------------------------------

    @invariant()
    def every_received_row_is_accounted_for(self) -> None:
        status = self.outbox.status()
        counts = status["counts"]
        parts = counts.get("saved", 0) + counts.get("superseded", 0) + counts.get("purged", 0)
        assert counts.get("received", 0) == parts + status["dead"] + status["waiting"], status

    def finish(self) -> None:
        """With no more faults everything is delivered, and each key ends on its newest value."""
        self.calls.clear()
        self.readers.clear()
        for _ in range(400):
            self.time_passes(70_000)
            self.intake.run()
            self.call(0, "saved", 0, 0, "settled")
            status = self.outbox.status()
            if not status["waiting"] and not status["queued_messages"]:
                break
        else:
            raise AssertionError(f"never drained: {self.outbox.status()}")
        letters = self.letters()
        kept = list(letters.read(letters.find(Filter())))
        dead: set[int] = set().union(*(values_of(letter) for letter in kept))
        # What intake never saw, because reading its message cost three readers their lease, orders nothing.
        unsure = self.unread.union(*(values_of(letter) for letter in kept if letter.kind is Kind.MESSAGE))
        for key in set(range(KEYS)) - {self.values[number].key for number in unsure}:
            newest: Value | None = None
            for value in self.values.values():
                if value.key == key and (newest is None or self.enters(value)):
                    newest = value
            if newest is not None and newest.number not in dead | self.purged:
                assert self.landed.get(key) == newest, (self.landed.get(key), newest, self.history)

    def enters(self, value: Value) -> bool:
        """Whether intake takes a value as the newest of its key: no newer moment was seen before it."""
        before = [v.occurred_us for v in self.values.values() if v.key == value.key and v.number < value.number]
        return value.occurred_us is None or all(us is None or us <= value.occurred_us for us in before)


class VersionsToTheEnd(Versions):
    def teardown(self) -> None:
        try:
            self.finish()
        finally:
            super().teardown()


@pytest.fixture
def _small_slices(redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Messages of three rows span two slices."""
    global _server  # noqa: PLW0603 - hypothesis makes the machines, so the server cannot be an argument
    monkeypatch.setattr(intake_module, "SLICE_ROWS", 2)
    _server = redis_server
    yield
    _server = None


@pytest.mark.usefixtures("_small_slices")
def test_an_older_value_never_lands_after_a_newer_one() -> None:
    run_state_machine_as_test(
        VersionsToTheEnd,
        settings=settings(
            max_examples=int(os.environ.get("VERSIONS_EXAMPLES", "100")),
            stateful_step_count=60,
            deadline=None,
            # Shrinking such a course takes minutes; VERSIONS_EXAMPLES=1000 finds more, and a shorter one by chance.
            phases=(Phase.explicit, Phase.reuse, Phase.generate),
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_what_was_delivered_is_remembered_in_bounded_memory(redis_client: Redis, redis_url: str) -> None:
    """docs/guarantees.md has the figure: bytes for each key delivered within BUNCE_VERSION_MEMORY_SECONDS."""
    rows, most_bytes_a_key = 20_000, 120
    settings_ = load_settings(
        redis_url=redis_url,
        batch_max_rows=1_000,
        batch_max_wait_seconds=0.0,
        requests_per_minute=1_000_000,
        version_memory_seconds=3_600.0,
    )
    outbox = Outbox(redis_client, settings_, now_ms=START_MS)
    intake = Intake(outbox, row_limit_bytes=100_000)

    def deliver(first: int) -> None:
        for start in range(first, first + rows, 1_000):
            encoded = [
                json.dumps({"id": ATTRIBUTE, "customer_id": f"c{n}", "value": "v", "occurred_at": START_MS / 1000})
                for n in range(start, start + 1_000)
            ]
            redis_client.lpush(
                outbox.namespace,
                update_message(encoded, queue=outbox.namespace, lane=Lane.LIVE, enqueued_at=START_MS / 1000),
            )
        intake.run()
        for number in range(first, first + rows, 1_000):
            # Paced to the burst: a permit a minute is plenty.
            outbox.now_ms += 61_000
            claim = outbox.claim_call(f"call{number}", "no token")
            assert isinstance(claim, ClaimedCall)
            saved = decide(Processed(200, {}), claim.rows, claim.history, RetryPolicy(5, 1, 1), lambda: 0.5)
            outbox.settle(claim.id, saved, {})

    def remembered() -> list[bytes]:
        return sorted(redis_client.scan_iter(f"{outbox.namespace}:seen:*", count=1_000))

    deliver(0)
    used = sum(int(redis_client.memory_usage(key, samples=0) or 0) for key in remembered())
    print(f"{used / rows:.0f} bytes for each key remembered")
    assert 0 < used / rows < most_bytes_a_key
    # Whole hashes expire, each a quarter of the memory; none is without an end.
    ends = [int(redis_client.pttl(key)) for key in remembered()]
    assert all(0 < end <= 3_600_000 * 1.25 + 60_000 for end in ends), ends
