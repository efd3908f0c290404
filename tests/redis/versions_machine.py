"""A server, producers, readers, workers and an operator that meet over a few keys, as a state machine.

The server notices if an older value lands after a newer one. The clock is the test's, handed to every script.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.redis.world import ATTRIBUTE, START_MS, World

from bunce_attributes.celery_message import update_message
from bunce_attributes.dead_letters.letters import DeadLetter, Kind
from bunce_attributes.dead_letters.requeueing import export_lines
from bunce_attributes.dead_letters.store import DeadLetters, Replayed
from bunce_attributes.decisions import Settlement, decide
from bunce_attributes.embedded_redis import EmbeddedRedis
from bunce_attributes.intake import LEASE_MS, Intake
from bunce_attributes.outbox.outbox import ClaimedCall, ClaimedMessages, IntakeBatch, LeaseLost, Outbox
from bunce_attributes.outcomes import CallOutcome, Failed, Processed, RefusedCall
from bunce_attributes.updates import Lane

MEMORY_SECONDS = 40_000.0
"""Longer than any course of events below, so that nothing is forgotten."""
KEYS = 3
SETTINGS: dict[str, Any] = {
    "batch_max_rows": 4,
    "batch_max_wait_seconds": 0.0,
    "max_attempts": 1,
    "retry_base_seconds": 1.0,
    "retry_max_seconds": 2.0,
    "requests_per_minute": 1_000_000,
    "request_timeout_seconds": 5.0,
    "unknown_hold_seconds": 4.0,
    "version_memory_seconds": MEMORY_SECONDS,
    "brake_min_rows": 1_000_000,
}
ROWS = st.lists(st.tuples(st.integers(0, KEYS - 1), st.none() | st.integers(0, 5)), min_size=1, max_size=3)
"""Key and moment of each row of a message."""
PAUSES = [0, 0, 0, 9_000, 11_000]
STRETCHES = [300, 2_000, 5_000, 16_000]
HANDLED = ["replay", "purge", "export", "export and purge"]
DELAYS = [100, 1_500, 3_900]


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
    values: list[Value]
    settlement: Settlement | None = None


@dataclass(slots=True)
class Reader:
    """A reader that holds messages, or thinks so."""

    token: str
    claimed: ClaimedMessages
    batches: list[IntakeBatch] = field(default_factory=list)


def never_read(letter: DeadLetter) -> bool:
    """Whether intake never saw its rows: reading the message cost three readers their lease."""
    return letter.kind is Kind.MESSAGE and letter.reason_class != "expired"


class Versions(RuleBasedStateMachine):
    """A value on its way is a number, under which the machine knows it."""

    server: ClassVar[EmbeddedRedis]
    """Set by the test, because hypothesis makes the machines."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.client: Any = self.server.client()
        self.client.flushall()
        self.world = World(self.client, **{**SETTINGS, **settings})
        self.worlds = [self.world]
        self.now = START_MS
        self.values: dict[int, Value] = {}
        self.overtaken: list[Value] = []
        """Values that were later made the newest of their key: what they were before."""
        self.landed: dict[int, Value] = {}
        self.history: list[str] = []
        self.late: list[tuple[int, list[Value]]] = []
        self.calls: list[Call] = []
        self.readers: list[Reader] = []
        self.purged: set[int] = set()
        self.unsure: set[int] = set()
        """Keys of which nobody can say what is their newest value."""
        self.numbers = count(1)

    def teardown(self) -> None:
        self.client.close()

    @property
    def outbox(self) -> Outbox:
        """Of the worker whose turn it is."""
        return self.world.outbox

    @property
    def intake(self) -> Intake:
        return self.world.intake

    # -- the server --------------------------------------------------------------------------------------------

    def land(self, values: list[Value]) -> None:
        for value in values:
            before = self.landed.get(value.key)
            self.history.append(f"{value} lands")
            undone = before is not None and self.undoes(value, before)
            assert not undone, f"{value} lands after {before}: {self.history}"
            self.landed[value.key] = value

    def undoes(self, value: Value, before: Value) -> bool:
        """Whether a value may not land after another one."""
        return before.newer_than(value)

    def applied(self) -> set[Value]:
        """What the server has applied, or is about to: it does not refuse that."""
        return {*self.landed.values(), *(value for _, pending in self.late for value in pending)}

    def answer(self, how: str, values: list[Value], some: int, lands_at: int) -> CallOutcome:
        """What the server makes of a call.

        Args:
            some: the keys that it refuses, as bits.
            lands_at: when it applies the call if it does so after we gave up on it.
        """
        match how:
            case "saved":
                self.land(values)
                return Processed(200, {})
            case "refused":
                refused = self.refusals(values, some)
                self.land([value for index, value in enumerate(values) if index not in refused])
                return Processed(200, refused)
            case "422":
                return RefusedCall(422, "no")
            case "unknown":
                self.late.append((lands_at, values))
                return Failed(0, "no answer", unknown=True)
            case "failed":
                return Failed(503, "busy", unknown=False)
        raise AssertionError(how)

    def refusals(self, values: list[Value], some: int) -> dict[int, str]:
        applied = self.applied()
        return {i: "no" for i, value in enumerate(values) if some >> value.key & 1 and value not in applied}

    # -- producers -----------------------------------------------------------------------------------------------

    @rule(rows=ROWS, taken=st.integers(0, 3))
    def enqueue(self, rows: list[tuple[int, int | None]], taken: int) -> None:
        self.push([self.row(key, moment) for key, moment in rows])
        if taken:
            self.intake.run()

    def row(self, key: int, moment: int | None, *, blanks: int = 0) -> str:
        """A row of a new value, longer by some blanks, which change nothing about its number."""
        number = next(self.numbers)
        occurred = None if moment is None else (START_MS - 5_000 + moment * 1_000) * 1_000
        self.values[number] = Value(number, key, occurred)
        row: dict[str, Any] = {"id": ATTRIBUTE, "customer_id": f"k{key}", "value": f"{number}{' ' * blanks}"}
        if occurred is not None:
            row["occurred_at"] = occurred / 1_000_000
        return json.dumps(row)

    def push(self, rows_json: list[str], lane: Lane = Lane.LIVE) -> None:
        queue = self.outbox.namespace
        self.publish(update_message(rows_json, queue=queue, lane=lane, enqueued_at=self.now / 1000))

    def publish(self, message: bytes) -> None:
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
        values = [self.values[int(json.loads(row.body)["value"])] for row in claim.rows]
        assert len({value.key for value in values}) == len(values), "a key twice in a call"
        return Call(claim, self.now + round(self.world.settings.lease_seconds * 1000), values)

    @precondition(lambda self: self.outbox.waiting())
    @rule(
        pause=st.sampled_from(PAUSES),
        how=st.sampled_from(["saved", "refused", "refused", "422", "unknown", "unknown", "failed"]),
        some=st.integers(0, 15),
        late=st.sampled_from(DELAYS),
        then=st.sampled_from(["settled", "settled", "settled", "dies", "dies", "left", "newer values"]),
    )
    def call(self, pause: int, how: str, some: int, late: int, then: str) -> None:
        """One call. A worker sends only while its lease lasts for the whole deadline."""
        call = self.claim()
        if call is None:
            return
        self.time_passes(pause)
        if call.lease_ends - self.now < self.world.settings.request_timeout_seconds * 1000:
            return
        if then == "dies" and some % 2:
            how = "unknown"
        # Whoever gave up on a call counts the hold from then on; of a dead worker only its lease tells.
        lands_at = (call.lease_ends if then == "dies" else self.now) + late
        call.settlement = self.settlement(call, how, some, lands_at)
        if then == "newer values":
            self.enqueue([(value.key, None if value.number % 2 else some % 6) for value in call.values], 1)
        if then in {"settled", "newer values"}:
            self.note(call)
        elif then == "left":
            self.calls.append(call)

    def settlement(self, call: Call, how: str, some: int, lands_at: int) -> Settlement:
        if how == "422" and self.applied().issuperset(call.values):
            how = "saved"
        outcome = self.answer(how, call.values, some, lands_at)
        return decide(outcome, call.claim.rows, call.claim.history, self.world.policy, lambda: 0.5)

    def note(self, call: Call) -> None:
        assert call.settlement is not None
        self.outbox.settle(call.claim.id, call.settlement, {})

    @precondition(lambda self: self.calls)
    @rule(which=st.integers(0, 9))
    def settle(self, which: int) -> None:
        """Later, perhaps after the lease: then the answer changes nothing."""
        self.note(self.calls.pop(which % len(self.calls)))

    # -- time ----------------------------------------------------------------------------------------------------

    @rule(ms=st.sampled_from(STRETCHES))
    def time_passes(self, ms: int) -> None:
        for at, values in sorted(self.late, key=lambda each: each[0]):
            if at <= self.now + ms:
                self.land(values)
        self.late = [each for each in self.late if each[0] > self.now + ms]
        self.now += ms
        for world in self.worlds:
            world.outbox.now_ms = self.now
        self.outbox.poll([])

    # -- the operator --------------------------------------------------------------------------------------------

    def letters(self) -> DeadLetters:
        return DeadLetters(self.outbox, self.world.settings.remembered_seconds)

    def values_in(self, letter: DeadLetter) -> list[Value]:
        """Of an update or a row its value; of a message those of all its rows."""
        return [self.values[int(row["value"])] for row in letter.rows]

    def leaves(self, letter: DeadLetter) -> None:
        """A dead letter that intake never saw orders nothing, whatever becomes of it."""
        if never_read(letter):
            self.unsure |= {value.key for value in self.values_in(letter)}

    def export(self, letter: DeadLetter) -> None:
        """Export and enqueue it again; what was never valid lies in ``row`` of its line."""
        lines = [json.loads(line) for line in export_lines(letter, 1)]
        self.push([json.dumps(line.get("row", line)) for line in lines])
        self.intake.run()

    def replay(self, letters: list[DeadLetter]) -> Replayed:
        return self.letters().replay([letter.id for letter in letters])

    def purge(self, letters: list[DeadLetter]) -> None:
        self.letters().purge(letter.id for letter in letters)
        self.gone(letters)

    def gone(self, letters: Iterable[DeadLetter]) -> None:
        self.purged |= {value.number for letter in letters for value in self.values_in(letter)}

    @rule(which=st.integers(0, 9), what=st.sampled_from(HANDLED))
    def handle_a_dead_letter(self, which: int, what: str) -> None:
        letters = list(self.letters().walk())
        if not letters:
            return
        letter = letters[which % len(letters)]
        self.leaves(letter)
        if what == "replay":
            self.replay([letter])
        if what.startswith("export"):
            self.export(letter)
        if what.endswith("purge"):
            self.purge([letter])

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
        dead: set[int] = set()
        for letter in self.letters().walk():
            self.leaves(letter)
            dead |= {value.number for value in self.values_in(letter)}
        for key in set(range(KEYS)) - self.unsure:
            entered = [value for value in self.values.values() if value.key == key and self.enters(value)]
            newest = max(entered, key=lambda value: value.number, default=None)
            if newest is not None and newest.number not in dead | self.purged:
                assert self.landed.get(key) == newest, (self.landed.get(key), newest, self.history)

    def enters(self, value: Value) -> bool:
        """Whether intake takes a value as the newest of its key: no newer moment was seen before it."""
        known = [*self.values.values(), *self.overtaken]
        before = [other.occurred_us for other in known if other.key == value.key and other.number < value.number]
        return value.occurred_us is None or all(us is None or us <= value.occurred_us for us in before)
