"""What happens to each row of a call, and what the gate hears: the table of docs/answers.md. Pure.

A row is charged an attempt only where the API refused *this row*: named in an answer, or alone in a refused call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

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
from bunce_attributes.retries import GiveUp, RetryPolicy, next_step


class Verdict(StrEnum):
    """What the gate hears of a call."""

    PASSED = "passed"
    """The call was processed."""
    ANSWERED = "answered"
    """The API is there and knows us, but refused the call for its rows."""
    RATE_LIMITED = "rate_limited"
    OUTAGE = "outage"
    MISCONFIGURED = "misconfigured"
    UNREADABLE = "unreadable"
    NOT_SENT = "not_sent"
    """No call was made after all, so that nothing is known."""


class Rest(StrEnum):
    """What happens to the rows of a call that are not named one by one."""

    SAVED = "saved"
    AGAIN = "again"
    """Sent again at once, no attempt."""
    GROUP = "group"
    """Sent again together, after a pause, no attempt: the next failure tells whether these rows are at fault."""
    HALVES = "halves"
    """Sent again in two calls, no attempt, until the row at fault stands alone."""


class RowAction(StrEnum):
    """What happens to one named row; each costs an attempt."""

    RETRY = "retry"
    RETRY_ALONE = "retry_alone"
    DEAD = "dead"


class DeadReason(StrEnum):
    """Why an update became a dead letter (a label of the metrics)."""

    ATTEMPTS = "attempts"
    TOO_LARGE = "too_large"


@dataclass(frozen=True, slots=True)
class ClaimedRow:
    """A row of a call. ``body`` is the row's JSON as it is sent; it is personal data, so `repr` hides it."""

    digest: bytes
    attempts: int
    body: bytes

    def __repr__(self) -> str:
        return f"ClaimedRow({self.digest.hex()}, attempts={self.attempts})"


@dataclass(frozen=True, slots=True)
class CallHistory:
    """What was known at the claim: how often these rows failed together, and whether other calls pass."""

    failures: int
    """How often calls of these rows failed as a whole."""
    others_passed: bool
    """Whether another call passed since the last of these failures."""
    others_fail: bool
    """Whether other calls failed too since one passed."""


@dataclass(frozen=True, slots=True)
class RowDecision:
    """One row that the API refused."""

    digest: bytes
    action: RowAction
    delay_seconds: float
    status: int
    message: str
    reason: str = ""
    reason_class: DeadReason = DeadReason.ATTEMPTS


@dataclass(frozen=True, slots=True)
class Settlement:
    """What becomes of a call; the outbox applies it in one step."""

    verdict: Verdict
    rest: Rest
    named: tuple[RowDecision, ...] = ()
    detail: str = ""
    hold: bool = False
    """Whether the server may yet apply the call, so that its keys must rest for BUNCE_UNKNOWN_HOLD_SECONDS."""
    group_delay_seconds: float = 0.0
    retry_after_seconds: float | None = None
    at_once: bool = False
    """Whether one such answer closes the gate, whatever other calls say."""
    learn_size: bool = False


def decide(
    outcome: CallOutcome,
    rows: tuple[ClaimedRow, ...],
    history: CallHistory,
    policy: RetryPolicy,
    jitter: Callable[[], float],
) -> Settlement:
    """The settlement of a call that came out as ``outcome``.

    Args:
        jitter: draws numbers from 0 to 1.
    """

    def refused(index: int, status: int, message: str, action: RowAction = RowAction.RETRY) -> RowDecision:
        row = rows[index]
        step = next_step(row.attempts + 1, policy, jitter())
        if isinstance(step, GiveUp):
            reason = f"Refused {step.attempts} times, the limit. The API's last answer (HTTP {status}): {message}"
            return RowDecision(row.digest, RowAction.DEAD, 0.0, status, message, reason)
        return RowDecision(row.digest, action, step.delay_seconds, status, message)

    def refused_each(status: int, refusals: Mapping[int, str]) -> tuple[RowDecision, ...]:
        return tuple(refused(index, status, message) for index, message in refusals.items())

    match outcome:
        case Processed(status, refusals):
            return Settlement(Verdict.PASSED, Rest.SAVED, refused_each(status, refusals))
        case RefusedRows(status, refusals):
            return Settlement(Verdict.ANSWERED, Rest.AGAIN, refused_each(status, refusals))
        case RefusedCall(status, message):
            if len(rows) == 1:
                return Settlement(Verdict.ANSWERED, Rest.AGAIN, (refused(0, status, message, RowAction.RETRY_ALONE),))
            return Settlement(Verdict.ANSWERED, Rest.HALVES)
        case TooLarge(status, message):
            if len(rows) > 1:
                return Settlement(Verdict.ANSWERED, Rest.HALVES, learn_size=True)
            reason = f"The API says that this row alone is too large (HTTP {status}): {message}"
            dead = RowDecision(
                rows[0].digest, RowAction.DEAD, 0.0, status, message, reason, reason_class=DeadReason.TOO_LARGE
            )
            return Settlement(Verdict.ANSWERED, Rest.AGAIN, (dead,))
        case Unreadable(status, message):
            detail = f"the API's answers cannot be read (HTTP {status}): {message}"
            if len(rows) > 1:
                return Settlement(Verdict.UNREADABLE, Rest.HALVES, detail=detail, hold=True)
            if history.others_passed:
                alone = refused(0, status, message, RowAction.RETRY_ALONE)
                return Settlement(Verdict.UNREADABLE, Rest.AGAIN, (alone,), detail=detail, hold=True)
            return _together(Verdict.UNREADABLE, detail, history, hold=True)
        case RateLimited(_, seconds):
            return Settlement(Verdict.RATE_LIMITED, Rest.AGAIN, retry_after_seconds=seconds)
        case Failed(status, message, unknown, retry_after):
            detail = f"the API fails: {message}"
            settlement = _following(
                Verdict.OUTAGE,
                detail,
                rows,
                history,
                unknown,
                lambda: refused(0, status, message, RowAction.RETRY_ALONE),
            )
            if retry_after is None:
                return settlement
            return _with_retry_after(settlement, retry_after)
        case Misconfigured(401, message):
            detail = f"the API does not accept the key (HTTP 401): {message}; set BUNCE_API_KEY and restart the workers"
            return Settlement(Verdict.MISCONFIGURED, Rest.AGAIN, detail=detail, at_once=True)
        case Misconfigured(status, message):
            detail = (
                f"the API refuses to serve us (HTTP {status}): {message}; check BUNCE_API_URL, BUNCE_ENV and the key"
            )
            return _following(
                Verdict.MISCONFIGURED,
                detail,
                rows,
                history,
                False,
                lambda: refused(0, status, message, RowAction.RETRY_ALONE),
            )
    assert_never(outcome)


def _with_retry_after(settlement: Settlement, seconds: float) -> Settlement:
    return Settlement(
        settlement.verdict,
        settlement.rest,
        settlement.named,
        settlement.detail,
        settlement.hold,
        settlement.group_delay_seconds,
        retry_after_seconds=seconds,
        at_once=True,
    )


def _together(verdict: Verdict, detail: str, history: CallHistory, *, hold: bool) -> Settlement:
    # 1 s, doubling to about a minute: a row that nothing else can be compared with is asked after, not hammered.
    delay = float(2 ** min(history.failures, 6))
    return Settlement(verdict, Rest.GROUP, detail=detail, hold=hold, group_delay_seconds=delay)


def _following(
    verdict: Verdict,
    detail: str,
    rows: tuple[ClaimedRow, ...],
    history: CallHistory,
    hold: bool,
    refuse_lone: Callable[[], RowDecision],
) -> Settlement:
    """A failure follows the same rows only if other calls pass; else it is the server's, and costs nobody anything."""
    if history.failures > 0 and history.others_passed:
        if len(rows) == 1:
            return Settlement(verdict, Rest.AGAIN, (refuse_lone(),), detail=detail, hold=hold)
        return Settlement(verdict, Rest.HALVES, detail=detail, hold=hold)
    if history.failures > 0 and not history.others_fail and len(rows) > 1:
        # Nothing else is being sent that could tell; halves are each other's other call.
        return Settlement(verdict, Rest.HALVES, detail=detail, hold=hold)
    return _together(verdict, detail, history, hold=hold)
