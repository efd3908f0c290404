"""A namespace in a test's Redis, worked by hand: rows in, calls answered as the test says. No worker, no network."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from redis import Redis

from bunce_attributes.celery_message import update_message
from bunce_attributes.dead_letters import DeadLetter, DeadLetters
from bunce_attributes.decisions import decide
from bunce_attributes.intake import Intake
from bunce_attributes.outbox.outbox import Claim, ClaimedCall, Outbox, Settled
from bunce_attributes.outcomes import CallOutcome, Processed
from bunce_attributes.retries import RetryPolicy
from bunce_attributes.settings import Settings, load_settings
from bunce_attributes.updates import Lane

API_URL = "http://127.0.0.1:9"
"""Nobody is there; it names the group that shares a rate limit."""
JOB = "9f171295-6935-400c-af6b-fd628a46bc71"
PLAN = "0a6b3d6e-52f8-4c0e-9d1a-3f4de1b0c2aa"


def row(customer_id: str, value: str = "v", attribute: str = JOB, **more: Any) -> dict[str, Any]:
    """A row by customer id."""
    return {"id": attribute, "customer_id": customer_id, "value": value, **more}


class Station:
    """Settings that make everything due at once, and one attempt, unless a test says otherwise."""

    def __init__(self, client: Redis, url: str, **overrides: Any) -> None:
        self.client = client
        self.settings: Settings = load_settings(
            redis_url=url,
            **{
                "batch_max_wait_seconds": 0.0,
                "max_attempts": 1,
                "retry_base_seconds": 0.0,
                "retry_max_seconds": 0.0,
                "requests_per_minute": 1_000_000,
                "unknown_hold_seconds": 0.0,
                "api_url": API_URL,
                **overrides,
            },
        )
        self.outbox = Outbox(client, self.settings)
        self.letters = DeadLetters(self.outbox, self.settings.remembered_seconds)
        self.ns = self.settings.namespace

    def enqueue(
        self, *rows: object, lane: Lane = Lane.LIVE, to: str | None = None, headers: Mapping[str, Any] | None = None
    ) -> None:
        """One message with these rows."""
        message = json.loads(
            update_message([json.dumps(r) for r in rows], queue=self.ns, lane=lane, enqueued_at=time.time())
        )
        message["headers"].update(headers or {})
        self.client.lpush(to or self.ns, json.dumps(message))

    def take_in(self) -> None:
        """Read the queue until it is empty."""
        Intake(self.outbox, row_limit_bytes=self.settings.batch_max_bytes).run()

    def put(self, *rows: object, lane: Lane = Lane.LIVE) -> None:
        """Enqueue and take in."""
        self.enqueue(*rows, lane=lane)
        self.take_in()

    def claim(self) -> Claim:
        """Rows for a call, if one is due."""
        return self.outbox.claim_call(uuid4().hex, "")

    def begin_call(self) -> ClaimedCall:
        """Rows for a call, which must be due."""
        claim = self.claim()
        assert isinstance(claim, ClaimedCall), claim
        return claim

    def end_call(self, call: ClaimedCall, outcome: CallOutcome) -> None:
        """Settle a call."""
        policy = RetryPolicy(
            self.settings.max_attempts, self.settings.retry_base_seconds, self.settings.retry_max_seconds
        )
        settlement = decide(outcome, call.rows, call.history, policy, lambda: 1.0)
        settled, _ = self.outbox.settle(call.id, settlement, {"calls": 1})
        assert isinstance(settled, Settled)

    def call(self, refused: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """One call; rows of the customers in `refused` are refused with that message. Returns what was sent."""
        call = self.begin_call()
        sent = [json.loads(claimed.body) for claimed in call.rows]
        messages = refused or {}
        refusals = {i: messages[r["customer_id"]] for i, r in enumerate(sent) if r.get("customer_id") in messages}
        self.end_call(call, Processed(200, refusals))
        return sent

    def refuse_everything(self, message: str = "no such attribute") -> None:
        """Calls that the API refuses row by row, until every row is dead or laid aside by the brake."""
        ends = time.monotonic() + 20
        while (status := self.outbox.status())["waiting"] > status["braked"]:
            assert time.monotonic() < ends, status
            call = self.claim()
            if isinstance(call, ClaimedCall):
                self.end_call(call, Processed(200, dict.fromkeys(range(len(call.rows)), message)))

    def die(self, *rows: Mapping[str, Any], lane: Lane = Lane.LIVE) -> list[DeadLetter]:
        """Rows that the API refuses until they are dead letters; those of the station, oldest first."""
        self.put(*rows, lane=lane)
        call = self.begin_call()
        self.end_call(call, Processed(200, dict.fromkeys(range(len(call.rows)), "no such attribute")))
        return list(self.letters.walk())

    def figures(self) -> dict[str, int]:
        """The terms of the sum that must hold at any moment, checked."""
        status = self.outbox.status()
        counts = status["counts"] or {}
        figures = {name: int(counts.get(name, 0)) for name in ("received", "saved", "superseded", "purged")}
        figures["dead"], figures["waiting"] = status["dead"], status["waiting"]
        assert figures["received"] == sum(n for name, n in figures.items() if name != "received"), figures
        return figures
