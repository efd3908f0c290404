"""One call from claim to settlement: claim → send → read the answer → decide → settle.

A worker may die between any two of these lines: the lease then gives the rows back.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import assert_never
from uuid import uuid4

import redis

from bunce_attributes.answers import Answer, read_answer
from bunce_attributes.bunce_api import BunceApi
from bunce_attributes.decisions import Rest, Settlement, Verdict, decide
from bunce_attributes.outbox.outbox import (
    ClaimedCall,
    GateClosed,
    LeaseLost,
    NoSlot,
    NothingDue,
    Outbox,
    Settled,
    Work,
)
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
from bunce_attributes.retries import RetryPolicy
from bunce_attributes.settings import Settings

DURATION_BUCKETS_MS = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000)
ROWS_BUCKETS = (1, 2, 5, 10, 20, 50, 75, 100, 250, 500, 1000, 10_000)
SETTLE_PAUSE_SECONDS = 0.2
STOPPING_SECONDS = 3.0
"""How long a worker that was told to stop tries to note an answer; then the lease gives the rows back."""


class RejectedReason(StrEnum):
    """What the API answered when it refused a row (a label of the metrics)."""

    ROW_ERROR = "row_error"
    """Named in the errors of a call that was processed."""
    VALIDATION = "validation"
    """Named by a 400 or 422, or alone in a call that was refused so."""
    TOO_LARGE = "too_large"
    """Alone in a call that was refused with 413."""
    FAILED = "failed"
    """Alone in a call that failed (5xx, time-out) while other calls passed."""
    MISCONFIGURED = "misconfigured"
    """Alone in a call that was answered 403, 404 or the like while other calls passed."""
    UNREADABLE = "unreadable"
    """Alone in a call whose answer could not be read while other calls passed."""


@dataclass(frozen=True, slots=True)
class NoCall:
    """No call was made, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class CallReport:
    """One call as Flower and the log show it; no row and no key in it.

    ``status`` is the HTTP status, 0 without an answer. ``lost`` tells that the lease had ended before the answer
    was settled, so that the rows are sent again.
    """

    rows: int
    saved: int
    rejected: int
    dead: int
    superseded: int
    released: int
    status: int
    milliseconds: int
    verdict: Verdict
    detail: str
    lost: bool
    work: Work


class Delivery:
    """Makes calls for one namespace.

    Args:
        fault: a hook for fault injection, called with the name of each point.
        stopping: whether the worker is shutting down.
        clock: monotonic seconds; the lease is judged by it, so that a wall clock that jumps cannot matter.
    """

    def __init__(
        self,
        outbox: Outbox,
        api: BunceApi,
        settings: Settings,
        *,
        fault: Callable[[str], None] = lambda _: None,
        stopping: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._outbox = outbox
        self._api = api
        self._policy = RetryPolicy(settings.max_attempts, settings.retry_base_seconds, settings.retry_max_seconds)
        self._lease_seconds = settings.lease_seconds
        self._deadline_seconds = settings.request_timeout_seconds
        self._fault = fault
        self._stopping = stopping
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter

    def deliver(self, token: str, next_tokens: Iterable[str] = ()) -> CallReport | NoCall:
        """One call, if one may be made and is due.

        Args:
            token: of the wake-up; its reserved slot is used.
            next_tokens: for further wake-ups; those that the report's ``work`` names have a slot.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach; what was claimed comes back when the lease ends.
        """
        lease_ends = self._clock() + self._lease_seconds
        claim = self._outbox.claim_call(uuid4().hex, token)
        match claim:
            case NoSlot():
                return NoCall("as many calls as allowed are running")
            case GateClosed():
                return NoCall(f"the gate is closed: {claim.reason}")
            case NothingDue():
                return NoCall("nothing is due")
            case ClaimedCall():
                return self._call(claim, lease_ends, list(next_tokens))

    def _call(self, call: ClaimedCall, lease_ends: float, next_tokens: list[str]) -> CallReport:
        self._fault("before_call")
        started = self._clock()
        if lease_ends - started < self._deadline_seconds:
            # Slept or starved since the claim: another worker may have the rows before an answer could come.
            detail = "too little of the lease was left to make the call"
            outcome: CallOutcome = Failed(0, detail, unknown=False)
            settlement = Settlement(Verdict.NOT_SENT, Rest.AGAIN, detail=detail)
        else:
            reply = self._api.send(tuple(row.body for row in call.rows), self._deadline_seconds)
            now = datetime.now(UTC)
            outcome = read_answer(reply, len(call.rows), now) if isinstance(reply, Answer) else reply
            settlement = decide(outcome, call.rows, call.history, self._policy, self._jitter)
        took_ms = round((self._clock() - started) * 1000)
        self._fault("after_call")
        counters = _counters(outcome, len(call.rows), len(settlement.named), took_ms)
        settled, work = self._settle(call.id, settlement, counters, lease_ends, next_tokens)
        self._fault("after_settle")
        lost = isinstance(settled, LeaseLost)
        ended = settled if isinstance(settled, Settled) else Settled(0, 0, 0, 0, len(call.rows))
        return CallReport(
            rows=len(call.rows),
            saved=ended.saved,
            rejected=len(settlement.named),
            dead=ended.dead,
            superseded=ended.superseded,
            released=ended.released,
            status=outcome.status,
            milliseconds=took_ms,
            verdict=settlement.verdict,
            detail=settlement.detail,
            lost=lost,
            work=work,
        )

    def _settle(
        self,
        call_id: str,
        settlement: Settlement,
        counters: dict[str, int],
        lease_ends: float,
        next_tokens: list[str],
    ) -> tuple[Settled | LeaseLost, Work]:
        """Settle, and try again while the lease lasts: the answer is worth more than a lost connection."""
        began = self._clock()
        while True:
            try:
                return self._outbox.settle(call_id, settlement, counters, next_tokens)
            except (redis.ConnectionError, redis.TimeoutError):
                ends = min(lease_ends, began + STOPPING_SECONDS) if self._stopping() else lease_ends
                if self._clock() + SETTLE_PAUSE_SECONDS >= ends:
                    raise
                self._sleep(SETTLE_PAUSE_SECONDS)


def _counters(outcome: CallOutcome, rows: int, rejected: int, took_ms: int) -> dict[str, int]:
    duration = next((str(limit) for limit in DURATION_BUCKETS_MS if took_ms <= limit), "inf")
    size = next((str(limit) for limit in ROWS_BUCKETS if rows <= limit), "inf")
    return {
        "calls": 1,
        f"calls:{outcome.status}": 1,
        "call_rows": rows,
        "call_ms": took_ms,
        f"call_ms:{duration}": 1,
        f"call_rows:{size}": 1,
        **({f"rejected:{_rejected_reason(outcome)}": rejected} if rejected else {}),
    }


def _rejected_reason(outcome: CallOutcome) -> RejectedReason:
    match outcome:
        case Processed():
            return RejectedReason.ROW_ERROR
        case RefusedRows() | RefusedCall():
            return RejectedReason.VALIDATION
        case TooLarge():
            return RejectedReason.TOO_LARGE
        # A row is never charged for a 429.
        case Failed() | RateLimited():
            return RejectedReason.FAILED
        case Misconfigured():
            return RejectedReason.MISCONFIGURED
        case Unreadable():
            return RejectedReason.UNREADABLE
    assert_never(outcome)
