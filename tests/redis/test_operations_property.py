"""Whatever operators, workers and the API do to a namespace, in whatever order: no row is lost, no newer value undone.

The course of events of ``versions_machine.py``, and what else happens to a namespace in its life: a full Redis, rows
that are too large for the worker that reads them, expired messages, both lanes, two workers with different settings,
scripts that the client library repeats, every kind of answer, pauses and brakes, and every verb of an operator.
"""

from __future__ import annotations

import json
import os
import struct
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from tests.redis.versions_machine import (
    DELAYS,
    HANDLED,
    KEYS,
    MEMORY_SECONDS,
    SETTINGS,
    STRETCHES,
    Call,
    Value,
    Versions,
)
from tests.redis.world import ATTRIBUTE, World, digest, row

from bunce_attributes import intake as intake_module
from bunce_attributes.celery_message import update_message
from bunce_attributes.dead_letters.letters import DeadLetter, Kind
from bunce_attributes.dead_letters.store import Replayed
from bunce_attributes.decisions import Rest, Settlement, Verdict
from bunce_attributes.embedded_redis import EmbeddedRedis
from bunce_attributes.outbox.outbox import ClaimedCall, LeaseLost, Settled
from bunce_attributes.outbox.scripts import Script, source
from bunce_attributes.outcomes import (
    CallOutcome,
    Misconfigured,
    RateLimited,
    RefusedCall,
    RefusedRows,
    TooLarge,
    Unreadable,
)
from bunce_attributes.updates import Lane

LARGE = 1_000
"""More than the narrow worker takes, and little for the other one."""
STEPS = 70
_OFTEN = ["saved", "refused", "422", "unknown", "named"]
_SELDOM = ["failed", "failed", "unreadable", "unreadable", "413", "429", "401", "403", "not sent"]
_ANSWERS = [*_OFTEN, *_OFTEN, *_OFTEN, *_OFTEN, *_SELDOM]
_THEN = [*["settled"] * 7, "dies", "left", "newer values"]
_PAUSES = [*[0] * 10, 9_000, 11_000]
_OPERATIONS = ["full", "not full", "wide", "narrow", "pause", "brake", "bury", *["resume", "release"] * 3]
_ALL_LETTERS = ["replay", "replay", "export and purge", "purge", "end of retention"]


def _rows(chance: Random) -> list[tuple[int, int | None]]:
    return [(chance.randrange(KEYS), chance.choice([None, None, *range(6)])) for _ in range(chance.randint(1, 3))]


_ARGUMENTS: dict[str, Callable[[Random], tuple[Any, ...]]] = {
    "enqueue": lambda chance: (_rows(chance), chance.randrange(4)),
    "enqueue_strange": lambda chance: (
        _rows(chance),
        chance.randrange(8),
        chance.choice(list(Lane)),
        chance.random() < 0.3,
        chance.random() < 0.7,
    ),
    "a_reader_claims": lambda _: (),
    "a_reader_goes_on": lambda chance: (chance.randrange(10), chance.random() < 0.3),
    "call": lambda chance: (
        chance.choice(_PAUSES),
        chance.choice(_ANSWERS),
        chance.randrange(8),
        chance.choice(DELAYS),
        chance.choice(_THEN),
    ),
    "settle": lambda chance: (chance.randrange(10),),
    "time_passes": lambda chance: (chance.choice(STRETCHES),),
    "operate": lambda chance: (chance.choice(_OPERATIONS),),
    "erase": lambda chance: (chance.randrange(KEYS),),
    "handle_a_dead_letter": lambda chance: (chance.randrange(10), chance.choice(HANDLED)),
    "handle_all_dead_letters": lambda chance: (chance.choice(_ALL_LETTERS),),
    "deliver_and_replay": lambda chance: (chance.randrange(10), chance.random() < 0.5),
    "force_a_replay": lambda chance: (chance.randrange(10),),
}
_WEIGHTS = {
    "enqueue": 4,
    "enqueue_strange": 3,
    "call": 14,
    "time_passes": 6,
    "handle_a_dead_letter": 5,
    "handle_all_dead_letters": 2,
    "deliver_and_replay": 3,
    "a_reader_goes_on": 2,
    "operate": 2,
}
_NEEDS = {"a_reader_goes_on": "readers", "settle": "calls"}


class Operations(Versions):
    """Two workers take turns: a wide one, and a narrow one with smaller calls, more attempts and a shorter memory.

    Its steps are drawn by weight, not by hypothesis, which leaves out half of the rules at a time: little happens to
    rows without all of them.
    """

    def __init__(self) -> None:
        more: dict[str, Any] = {"brake_min_rows": 6}
        super().__init__(**more)
        narrow: dict[str, Any] = {
            "batch_max_rows": 2,
            "max_attempts": 2,
            "batch_max_bytes": 1_000,
            "max_concurrent_calls": 2,
            "version_memory_seconds": MEMORY_SECONDS / 2,
        }
        self.worlds.append(World(self.client, **{**SETTINGS, **more, **narrow}))
        self.maxmemory = self.client.config_get("maxmemory")["maxmemory"]
        self.full = False
        self.saved: set[int] = set()
        self.forgotten: dict[int, int] = {}
        """Key → the newest number when its customer was last forgotten."""
        self.erase_script = self.client.register_script(source(Script.ERASE))

    def teardown(self) -> None:
        self.client.config_set("maxmemory", self.maxmemory)
        super().teardown()

    def play(self, chance: Random) -> None:
        for _ in range(STEPS):
            (name,) = chance.choices(list(_ARGUMENTS), [_WEIGHTS.get(name, 1) for name in _ARGUMENTS])
            arguments = _ARGUMENTS[name](chance)
            if name not in _NEEDS or getattr(self, _NEEDS[name]):
                self.history.append(f"{name}{arguments}")
                getattr(self, name)(*arguments)
                self.check()

    def finish(self) -> None:
        self.fill(False)
        self.turn("wide")
        self.outbox.resume()
        self.outbox.resume(ATTRIBUTE)
        self.time_passes(70_000)
        self.intake.run()
        self.replay(list(self.letters().walk()))
        super().finish()

    # -- Redis and the workers -----------------------------------------------------------------------------------

    def fill(self, full: bool) -> None:
        """Full for everything that is not allowed to write then; only producers still find room, in their turn."""
        self.full = full
        self.client.config_set("maxmemory", 1 if full else self.maxmemory)

    def publish(self, message: bytes) -> None:
        full = self.full
        self.fill(False)
        super().publish(message)
        self.fill(full)

    def turn(self, worker: str) -> None:
        """Whoever has the turn reads, calls and settles, also the calls of the other one."""
        self.world = self.worlds[worker == "narrow"]

    # -- producers -----------------------------------------------------------------------------------------------

    def enqueue_strange(
        self, rows: list[tuple[int, int | None]], large: int, lane: Lane, expired: bool, taken: bool
    ) -> None:
        encoded = []
        for place, (key, moment) in enumerate(rows):
            is_large = bool(large >> place & 1)
            # Nobody remembers the moment of what is not valid (yet).
            encoded.append(self.row(key, None if is_large or expired else moment, blanks=LARGE * is_large))
        queue = self.outbox.namespace
        message = json.loads(update_message(encoded, queue=queue, lane=lane, enqueued_at=self.now / 1000))
        if expired:
            message["headers"]["expires"] = "2020-01-01T00:00:00+00:00"
        self.publish(json.dumps(message).encode())
        if taken:
            self.intake.run()

    # -- calls ---------------------------------------------------------------------------------------------------

    def claim(self) -> Call | None:
        """The client library repeats a script whose answer was lost."""
        call = super().claim()
        if call is not None:
            again = self.outbox.claim_call(call.claim.id, "no token")
            assert isinstance(again, ClaimedCall)
            assert {one.digest: one.body for one in again.rows} == {one.digest: one.body for one in call.claim.rows}, (
                "a repeated claim took other rows"
            )
        return call

    def settlement(self, call: Call, how: str, some: int, lands_at: int) -> Settlement:
        if how == "not sent":
            return Settlement(Verdict.NOT_SENT, Rest.AGAIN)
        if how in {"named", "413"} and self.applied().issuperset(call.values):
            how = "saved"
        return super().settlement(call, how, some, lands_at)

    def answer(self, how: str, values: list[Value], some: int, lands_at: int) -> CallOutcome:
        match how:
            case "named":
                refused = self.refusals(values, some)
                return RefusedRows(422, refused) if refused else RefusedCall(422, "no")
            case "413":
                return TooLarge(413, "too large")
            case "429":
                return RateLimited(429, 3.0)
            case "401" | "403":
                return Misconfigured(int(how), "no")
            case "unreadable":
                self.late.append((lands_at, values))
                return Unreadable(200, "no JSON")
        return super().answer(how, values, some, lands_at)

    def note(self, call: Call) -> None:
        assert call.settlement is not None
        reply, _ = self.outbox.settle(call.claim.id, call.settlement, {})
        if isinstance(reply, Settled):
            parts = reply.saved + reply.retried + reply.dead + reply.superseded + reply.released
            assert parts == len(call.values), reply
            if call.settlement.rest is Rest.SAVED:
                refused = {one.digest for one in call.settlement.named}
                rows = zip(call.claim.rows, call.values, strict=True)
                self.saved |= {value.number for one, value in rows if one.digest not in refused}
        again, _ = self.outbox.settle(call.claim.id, call.settlement, {})
        assert isinstance(again, LeaseLost), "a call was settled twice"

    # -- the operator --------------------------------------------------------------------------------------------

    def operate(self, what: str) -> None:
        match what:
            case "full" | "not full":
                self.fill(what == "full")
            case "wide" | "narrow":
                self.turn(what)
            case "pause":
                self.outbox.pause()
            case "resume":
                self.outbox.resume()
            case "brake":
                self.outbox.pause(ATTRIBUTE)
            case "release":
                self.outbox.resume(ATTRIBUTE)
            case "bury":
                self.outbox.resume(ATTRIBUTE, bury=True)

    def handle_all_dead_letters(self, what: str) -> None:
        letters = list(self.letters().walk())
        for letter in letters:
            self.leaves(letter)
        match what:
            case "replay":
                self.replay(letters)
                self.intake.run()
            case "export and purge":
                for letter in letters:
                    self.export(letter)
                self.purge(letters)
            case "purge":
                self.purge(letters)
            case "end of retention":
                self.retire(letters, seconds=5)

    def retire(self, letters: list[DeadLetter], seconds: int) -> None:
        """Each time by another worker, whose turn it is: turns last by Redis' own clock."""
        self.client.delete(f"{self.outbox.namespace}:housekeeping")
        self.letters().purge_expired(seconds / 86_400)
        kept = {letter.id for letter in self.letters().walk()}
        self.gone(letter for letter in letters if letter.id not in kept)

    def deliver_and_replay(self, which: int, itself: bool) -> None:
        """A dead letter that its own export, or a newer value, has overtaken."""
        letters = [letter for letter in self.letters().walk() if letter.kind is Kind.UPDATE]
        if not letters:
            return
        letter = letters[which % len(letters)]
        if itself:
            self.export(letter)
        else:
            self.push([self.row(self.values_in(letter)[0].key, None)])
            self.intake.run()
        self.time_passes(5_000)
        self.call(0, "saved", 0, 0, "settled")
        self.replay([letter])

    def replay(self, letters: list[DeadLetter]) -> Replayed:
        replayed = super().replay(letters)
        left = {one.id for one in replayed.skipped}
        updates = [letter for letter in letters if letter.kind is Kind.UPDATE and letter.id not in left]
        again = {value.number for letter in updates for value in self.values_in(letter)}
        assert not again & self.saved, "a value that was delivered is sent again"
        return replayed

    def force_a_replay(self, which: int) -> None:
        """What a newer value has overtaken is then the newest one, if nothing is in the queue that is newer still."""
        letters = [letter for letter in self.letters().walk() if letter.kind is Kind.UPDATE]
        if not letters or self.outbox.status()["queued_messages"]:
            return
        letter = letters[which % len(letters)]
        if self.replay([letter]).skipped:
            assert self.letters().replay([letter.id], force=True).updates == 1
            name = int(letter.row["value"])
            self.overtaken.append(self.values[name])
            self.values[name] = Value(next(self.numbers), self.values[name].key, None)

    def erase(self, key: int) -> None:
        """A forgotten row takes its moment with it, and with that the order of what came before."""
        arguments: list[int | bytes] = [self.now, self.outbox.memory_ms, digest(row(f"k{key}"))]
        erased, *_ = self.erase_script(keys=[self.outbox.namespace], args=arguments)
        if erased:
            self.unsure.add(key)
            self.forgotten[key] = next(self.numbers)

    def land(self, values: list[Value]) -> None:
        super().land(values)
        for value in values:
            assert self.enters(value) or self.is_unsure(value.key), f"{value} lands: a newer moment was forgotten"

    def is_unsure(self, key: int) -> bool:
        for letter in self.letters().walk():
            self.leaves(letter)
        return key in self.unsure

    def undoes(self, value: Value, before: Value) -> bool:
        """Of a forgotten value, which may have landed, the place in the queue is known still, but not the moment."""
        if before.number < self.forgotten.get(before.key, 0) and value.number > before.number:
            return False
        return super().undoes(value, before)

    # -- what always holds -----------------------------------------------------------------------------------------

    def check(self) -> None:
        """Also in a full Redis."""
        self.world.check()
        self.a_group_names_rows_that_wait_in_it()
        self.each_mark_counts_the_dead_letters_of_its_key()

    def a_group_names_rows_that_wait_in_it(self) -> None:
        """What else it names would be taken for a row that failed with the others when its key gets a new value."""
        waiting = self.world.waiting()
        for group in self.client.zrange(self.world.key("groups"), 0, -1):
            for one in self.client.lrange(self.world.key(f"group:{group.decode()}"), 0, -1):
                assert one in waiting, "a group names a row that left the outbox"
                assert waiting[one].place == "group", "a group names a row that waits elsewhere"

    def each_mark_counts_the_dead_letters_of_its_key(self) -> None:
        letters = Counter(letter["key"] for letter in self.world.dead() if letter["kind"] == "update")
        marks = self.client.hgetall(self.world.key("dead:marks"))
        assert {key.hex(): struct.unpack(">dddHI", mark)[4] for key, mark in marks.items()} == letters


def test_no_operation_loses_a_row_or_undoes_a_newer_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Redis of its own, because it becomes full; messages of three rows span two slices."""
    monkeypatch.setattr(intake_module, "SLICE_ROWS", 2)
    with EmbeddedRedis(appendfsync="no") as server:
        monkeypatch.setattr(Operations, "server", server, raising=False)
        for seed in range(int(os.environ.get("OPERATIONS_EXAMPLES", "40"))):
            operations = Operations()
            try:
                operations.play(Random(seed))
                operations.finish()
            except Exception as error:
                error.add_note("\n".join([f"Seed {seed}:", *operations.history]))
                raise
            finally:
                operations.teardown()
