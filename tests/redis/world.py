"""A namespace on the private Redis with a clock of its own: hours pass without sleeping."""

from __future__ import annotations

import heapq
import json
import struct
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from redis import Redis

from bunce_attributes.decisions import Settlement, decide
from bunce_attributes.intake import Intake, IntakeResult
from bunce_attributes.outbox.outbox import Claim, ClaimedCall, LeaseLost, Outbox, Settled
from bunce_attributes.outcomes import CallOutcome, Processed
from bunce_attributes.retries import RetryPolicy
from bunce_attributes.settings import Settings, load_settings
from bunce_attributes.updates import parse_update

START_MS = 1_800_000_000_000
"""Far from now, so that a script that reads another clock than the one it was given shows."""
ATTRIBUTE = "9f171295-6935-400c-af6b-fd628a46bc71"
OTHER_ATTRIBUTE = "00000000-0000-4000-8000-000000000002"
PLACES = {1: "ready", 2: "later", 3: "parked", 4: "group", 5: "braked"}

Row = dict[str, Any]
Api = Callable[[list[Row]], CallOutcome]


def row(customer: object, value: object = "v", **more: Any) -> Row:
    """A row of the API for a customer id."""
    return {"id": ATTRIBUTE, "value": str(value), "customer_id": str(customer), **more}


def digest(update: Mapping[str, Any]) -> bytes:
    """The digest of a row's key."""
    return parse_update(update).key.digest()


def message(rows: object, lane: str = "live", **headers: Any) -> bytes:
    """A Celery message as kombu leaves it in the list."""
    body = json.dumps([[rows, lane], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    return json.dumps(
        {
            "body": b64encode(body.encode()).decode(),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {"lang": "py", "task": "bunce_attributes.update", "id": "an-id", **headers},
            "properties": {"body_encoding": "base64"},
        }
    ).encode()


@dataclass(frozen=True)
class Record:
    """A stored update, read by an independent hand."""

    flags: int
    place: str
    attempts: int
    max_rows: int
    mark: int
    occ: float
    since: float
    not_before: float
    history: list[dict[str, Any]]
    body: Row


def read_record(text: bytes) -> Record:
    """The layout of ``lua/_common.lua``; fails if the row's or the history's JSON does not parse."""
    layout, flags, place, attempts, max_rows, mark, details, history, _, occ, since, not_before = struct.unpack(
        ">BBBHHIIIdddd", text[:51]
    )
    assert layout == 1
    body = text[51 + history :]
    parsed = json.loads(body)
    if details:
        assert json.loads(body[-1 - details : -1]) == parsed["customer"]
    else:
        assert "customer" not in parsed
    past = json.loads(b"[" + text[51 : 51 + history] + b"]")
    return Record(flags, PLACES[place], attempts, max_rows, mark, occ, since, not_before, past, parsed)


class World:
    """Intake, outbox and decisions of one namespace; ``ms`` is the time that Redis is told."""

    def __init__(self, client: Redis, namespace: str = "bunce-attributes", **settings: Any) -> None:
        defaults: dict[str, Any] = {"api_url": "http://api.test/v1", "redis_url": "redis://unused"}
        self.settings: Settings = load_settings(namespace=namespace, **{**defaults, **settings})
        # redis-py's annotations cannot tell which clients answer in bytes.
        self.client: Any = client
        self.outbox = Outbox(client, self.settings, now_ms=START_MS)
        self.intake = Intake(self.outbox, row_limit_bytes=self.settings.batch_max_bytes)
        self.policy = RetryPolicy(
            self.settings.max_attempts, self.settings.retry_base_seconds, self.settings.retry_max_seconds
        )
        self.claimed_at: list[int] = []
        self.sent: list[list[Row]] = []
        self._ids = count(1)

    # -- time and Redis --------------------------------------------------------------------------------------------

    @property
    def ms(self) -> int:
        return self.outbox.now_ms - START_MS

    @ms.setter
    def ms(self, since_start: float) -> None:
        self.outbox.now_ms = START_MS + round(since_start)

    def key(self, name: str) -> str:
        return f"{self.settings.namespace}:{name}"

    def waiting(self) -> dict[bytes, Record]:
        return {k: read_record(v) for k, v in self.client.hgetall(self.key("rows")).items()}

    def waiting_row(self, update: Row) -> Record:
        return self.waiting()[digest(update)]

    def dead(self) -> list[dict[str, Any]]:
        letters = self.client.hgetall(self.key("dead"))
        return [json.loads(letters[i]) for i in self.client.zrange(self.key("dead:index"), 0, -1)]

    def counts(self) -> dict[str, int]:
        return {k.decode(): int(v) for k, v in self.client.hgetall(self.key("counts")).items()}

    # -- the way of an update --------------------------------------------------------------------------------------

    def queue(self, *messages: bytes, priority: str = "") -> None:
        """Publish as Celery does, oldest first."""
        for one in messages:
            self.client.lpush(self.settings.namespace + priority, one)

    def enqueue(self, *rows: object, lane: str = "live") -> IntakeResult:
        """Publish rows and take them in."""
        self.queue(message(list(rows), lane))
        return self.take_in()

    def take_in(self) -> IntakeResult:
        return self.intake.run()

    def claim(self, call_id: str | None = None, token: str = "none") -> Claim:
        claim = self.outbox.claim_call(call_id or f"{self.settings.namespace}-{next(self._ids)}", token)
        if isinstance(claim, ClaimedCall):
            self.claimed_at.append(self.ms)
            self.sent.append([json.loads(r.body) for r in claim.rows])
        return claim

    def must_claim(self) -> ClaimedCall:
        claim = self.claim()
        assert isinstance(claim, ClaimedCall), claim
        return claim

    @staticmethod
    def sent_by(call: ClaimedCall) -> list[Row]:
        """The rows of a call as they are sent."""
        return [json.loads(r.body) for r in call.rows]

    def decide(self, call: ClaimedCall, outcome: CallOutcome) -> Settlement:
        return decide(outcome, call.rows, call.history, self.policy, lambda: 1.0)

    def settle(self, call: ClaimedCall, outcome: CallOutcome) -> Settled | LeaseLost:
        return self.outbox.settle(call.id, self.decide(call, outcome), {})[0]

    def call(self, outcome: CallOutcome) -> ClaimedCall:
        """One call with its answer; it must be due."""
        call = self.must_claim()
        assert isinstance(self.settle(call, outcome), Settled)
        return call

    def run(self, api: Api, until_ms: float, call_ms: float = 0) -> list[list[Row]]:
        """Do whatever is due until a moment, as dispatchers and tasks would; the calls that were made, in order.

        A call takes ``call_ms``; calls overlap as far as the settings allow.
        """
        first = len(self.sent)
        running: list[tuple[float, int, ClaimedCall, CallOutcome]] = []
        order = count()
        steps = 0
        while self.ms < until_ms:
            steps += 1
            assert steps < 100_000, "the scripts ask for ever more work at the same moment"
            while running and running[0][0] <= self.ms:
                _, _, call, outcome = heapq.heappop(running)
                self.settle(call, outcome)
            work = self.outbox.poll([f"t{next(self._ids)}" for _ in range(self.settings.max_concurrent_calls)])
            if work.intake:
                self.take_in()
            for token in work.call_tokens:
                claim = self.claim(token=token)
                if isinstance(claim, ClaimedCall):
                    outcome = api(self.sent[-1])
                    heapq.heappush(running, (self.ms + call_ms, next(order), claim, outcome))
            if running and running[0][0] <= self.ms:
                continue
            if not work.call_tokens and not work.intake:
                step = max(1.0, work.next_seconds * 1000)
                self.ms = min(until_ms, self.ms + step, running[0][0] if running else until_ms)
        for _, _, call, outcome in running:
            self.settle(call, outcome)
        return self.sent[first:]

    # -- what must always hold -------------------------------------------------------------------------------------

    def check(self) -> None:
        """The sum of guarantee 1, and that whatever waits can be found where its record says."""
        status = self.outbox.status()
        counts = status["counts"]
        received, gone = counts.get("received", 0), counts.get("saved", 0) + counts.get("superseded", 0)
        assert received == gone + status["dead"] + counts.get("purged", 0) + status["waiting"], status
        waiting = self.waiting()
        inflight = self.client.hgetall(self.key("inflight"))
        ready = {e[:16] for lane in ("live", "bulk") for e in self.client.lrange(self.key(f"ready:{lane}"), 0, -1)}
        later = set(self.client.zrange(self.key("later"), 0, -1))
        groups = [g.decode() for g in self.client.zrange(self.key("groups"), 0, -1)]
        grouped = [d for g in groups for d in self.client.lrange(self.key(f"group:{g}"), 0, -1)]
        in_groups = [d for d in grouped if d in waiting and waiting[d].place == "group"]
        assert len(in_groups) == len(set(in_groups)), "a row is in two groups"
        braked = {
            d
            for attribute in {r.body["id"] for r in waiting.values()}
            for d in self.client.lrange(self.key(f"braked:{attribute}"), 0, -1)
        }
        in_some_group = set(in_groups)
        for one, record in waiting.items():
            assert (record.place == "parked") == (one in inflight), record
            if record.place == "ready":
                assert one in ready, record
            elif record.place == "later":
                assert one in later, record
            elif record.place == "group":
                assert one in in_some_group, record
            elif record.place == "braked":
                assert one in braked, record
        calls = {c.decode() for c in self.client.zrange(self.key("calls"), 0, -1)}
        in_calls = [d for c in calls for d in self.client.hkeys(self.key(f"call:{c}"))]
        assert sorted(in_calls) == sorted(inflight), "a key is in at most one call"
        for letter in self.dead():
            assert letter["layout"] == 1


def all_saved(rows: list[Row]) -> CallOutcome:
    """An API that takes everything."""
    return Processed(200, {})
