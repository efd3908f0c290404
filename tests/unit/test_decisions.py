"""What happens to each row of a call, and what the gate hears."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunce_attributes.decisions import (
    CallHistory,
    ClaimedRow,
    DeadReason,
    Rest,
    RowAction,
    Settlement,
    Verdict,
    decide,
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

POLICY = RetryPolicy(max_attempts=3, base_seconds=60, max_seconds=3600)
FRESH = CallHistory(failures=0, others_passed=False, others_fail=False)
FAILED_WHILE_OTHERS_PASS = CallHistory(failures=1, others_passed=True, others_fail=False)
FAILED_WHILE_OTHERS_FAIL = CallHistory(failures=1, others_passed=False, others_fail=True)
FAILED_AND_NOTHING_ELSE_WAS_SENT = CallHistory(failures=1, others_passed=False, others_fail=False)

SERVER_FAULTS = [
    Failed(500, "boom", unknown=True),
    Failed(0, "no connection", unknown=False),
    Failed(503, "later", unknown=True, retry_after_seconds=7.0),
]


def rows(count: int, attempts: int = 0) -> tuple[ClaimedRow, ...]:
    return tuple(ClaimedRow(bytes([n]) * 16, attempts, b"{}") for n in range(count))


def settle(outcome: CallOutcome, count: int = 4, history: CallHistory = FRESH, attempts: int = 0) -> Settlement:
    return decide(outcome, rows(count, attempts), history, POLICY, lambda: 1.0)


def test_rows_without_an_error_are_saved_and_the_others_rejected() -> None:
    settlement = settle(Processed(200, {2: "no", 0: "never"}))
    assert (settlement.verdict, settlement.rest) == (Verdict.PASSED, Rest.SAVED)
    assert {(r.digest[0], r.action, r.delay_seconds, r.message) for r in settlement.named} == {
        (2, RowAction.RETRY, 60.0, "no"),
        (0, RowAction.RETRY, 60.0, "never"),
    }


def test_the_last_attempt_makes_a_dead_letter_that_tells_why() -> None:
    (row,) = settle(Processed(200, {1: "no such attribute"}), attempts=2).named
    assert (row.action, row.reason_class) == (RowAction.DEAD, DeadReason.ATTEMPTS)
    assert "Refused 3 times" in row.reason
    assert "no such attribute" in row.reason


def test_a_refusal_that_names_rows_costs_only_these() -> None:
    settlement = settle(RefusedRows(422, {3: "bad"}))
    assert (settlement.verdict, settlement.rest) == (Verdict.ANSWERED, Rest.AGAIN)
    assert [(r.digest[0], r.action) for r in settlement.named] == [(3, RowAction.RETRY)]
    assert not settlement.hold


def test_a_refusal_that_names_none_splits() -> None:
    settlement = settle(RefusedCall(422, "bad"))
    assert (settlement.verdict, settlement.rest, settlement.named) == (Verdict.ANSWERED, Rest.HALVES, ())


def test_a_row_refused_alone_is_at_fault_and_stays_alone() -> None:
    (row,) = settle(RefusedCall(422, "bad"), count=1).named
    assert (row.action, row.status, row.message) == (RowAction.RETRY_ALONE, 422, "bad")


def test_a_call_that_is_too_large_splits_and_teaches() -> None:
    settlement = settle(TooLarge(413, "too large"))
    assert (settlement.rest, settlement.learn_size, settlement.named) == (Rest.HALVES, True, ())


def test_a_single_row_that_is_too_large_is_a_dead_letter_at_once() -> None:
    settlement = settle(TooLarge(413, "too large"), count=1)
    (row,) = settlement.named
    assert (row.action, row.reason_class) == (RowAction.DEAD, DeadReason.TOO_LARGE)
    assert not settlement.learn_size


def test_a_rate_limit_costs_no_attempt() -> None:
    settlement = settle(RateLimited(429, 4.0), count=1)
    assert (settlement.verdict, settlement.rest, settlement.named) == (Verdict.RATE_LIMITED, Rest.AGAIN, ())
    assert settlement.retry_after_seconds == 4.0


@pytest.mark.parametrize("outcome", SERVER_FAULTS)
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("history", [FRESH, FAILED_WHILE_OTHERS_FAIL])
def test_a_failure_that_is_not_these_rows_costs_nothing(outcome: Failed, count: int, history: CallHistory) -> None:
    settlement = settle(outcome, count, history)
    assert (settlement.verdict, settlement.rest, settlement.named) == (Verdict.OUTAGE, Rest.GROUP, ())
    assert settlement.hold is outcome.unknown


@pytest.mark.parametrize("outcome", [*SERVER_FAULTS, Misconfigured(403, "no"), Misconfigured(404, "no")])
def test_a_failure_that_follows_the_same_rows_splits(outcome: CallOutcome) -> None:
    assert settle(outcome, 4, FAILED_WHILE_OTHERS_PASS).rest is Rest.HALVES
    assert settle(outcome, 4, FAILED_AND_NOTHING_ELSE_WAS_SENT).rest is Rest.HALVES


@pytest.mark.parametrize("outcome", [*SERVER_FAULTS, Misconfigured(404, "no"), Unreadable(204, "empty")])
def test_a_lone_row_is_charged_only_if_another_call_passed_since_its_last_failure(outcome: CallOutcome) -> None:
    (row,) = settle(outcome, 1, FAILED_WHILE_OTHERS_PASS).named
    assert row.action is RowAction.RETRY_ALONE
    for history in (FRESH, FAILED_WHILE_OTHERS_FAIL, FAILED_AND_NOTHING_ELSE_WAS_SENT):
        assert settle(outcome, 1, history).named == ()


def test_the_pause_between_failures_of_the_same_rows_doubles_and_is_bounded() -> None:
    delays = [
        settle(Failed(500, "boom", unknown=True), 1, CallHistory(n, others_passed=False, others_fail=True))
        for n in (0, 1, 2, 6, 7, 10**6)
    ]
    assert [s.group_delay_seconds for s in delays] == [1, 2, 4, 64, 64, 64]


def test_a_503_closes_the_gate_for_the_time_it_asks() -> None:
    settlement = settle(Failed(503, "later", unknown=True, retry_after_seconds=7.0))
    assert (settlement.retry_after_seconds, settlement.at_once, settlement.hold) == (7.0, True, True)


def test_an_unreadable_answer_saves_nothing_and_splits() -> None:
    settlement = settle(Unreadable(200, "not JSON"))
    assert (settlement.verdict, settlement.rest, settlement.named) == (Verdict.UNREADABLE, Rest.HALVES, ())
    assert settlement.hold


@pytest.mark.parametrize("history", [FRESH, FAILED_WHILE_OTHERS_PASS, FAILED_WHILE_OTHERS_FAIL])
@pytest.mark.parametrize("count", [1, 4])
def test_a_refused_key_closes_the_gate_at_once_and_costs_no_row(history: CallHistory, count: int) -> None:
    settlement = settle(Misconfigured(401, "Invalid key"), count, history)
    assert (settlement.verdict, settlement.rest, settlement.named) == (Verdict.MISCONFIGURED, Rest.AGAIN, ())
    assert settlement.at_once
    assert "BUNCE_API_KEY" in settlement.detail


@pytest.mark.parametrize("status", [301, 308, 403, 404, 405, 451])
def test_being_refused_otherwise_closes_the_gate_only_if_other_calls_say_so_too(status: int) -> None:
    settlement = settle(Misconfigured(status, "no"))
    assert (settlement.verdict, settlement.rest, settlement.at_once) == (Verdict.MISCONFIGURED, Rest.GROUP, False)


_indices = st.dictionaries(st.integers(0, 2), st.text(max_size=5))
_outcomes: st.SearchStrategy[CallOutcome] = st.one_of(
    st.builds(Processed, st.just(200), _indices),
    st.builds(RefusedRows, st.just(422), _indices.filter(bool)),
    st.builds(RefusedCall, st.just(422), st.text()),
    st.builds(TooLarge, st.just(413), st.text()),
    st.builds(Unreadable, st.just(200), st.text()),
    st.builds(RateLimited, st.just(429), st.floats(1, 3600)),
    st.builds(Failed, st.just(500), st.text(), st.booleans(), st.none() | st.floats(1, 3600)),
    st.builds(Misconfigured, st.sampled_from([401, 403, 404, 302]), st.text()),
)


@given(
    outcome=_outcomes,
    count=st.integers(1, 3),
    attempts=st.integers(0, 2),
    history=st.builds(CallHistory, st.integers(0, 9), st.booleans(), st.booleans()),
    jitter=st.floats(0, 1),
)
def test_only_a_row_that_is_named_or_alone_is_ever_charged(
    outcome: CallOutcome, count: int, attempts: int, history: CallHistory, jitter: float
) -> None:
    if isinstance(outcome, Processed | RefusedRows):
        outcome = type(outcome)(outcome.status, {i: m for i, m in outcome.refusals.items() if i < count} or {0: "no"})
    settlement = decide(outcome, rows(count, attempts), history, POLICY, lambda: jitter)
    charged = {row.digest[0] for row in settlement.named}
    if isinstance(outcome, Processed | RefusedRows):
        assert charged == set(outcome.refusals)
    else:
        assert charged <= ({0} if count == 1 else set())
    for row in settlement.named:
        too_large = row.reason_class is DeadReason.TOO_LARGE
        assert (row.action is RowAction.DEAD) == (attempts + 1 >= POLICY.max_attempts or too_large)
        assert row.delay_seconds <= POLICY.max_seconds
    assert (settlement.rest is Rest.SAVED) == isinstance(outcome, Processed)


def test_the_body_of_a_row_is_not_in_its_repr() -> None:
    assert "ada" not in repr(ClaimedRow(b"0" * 16, 0, b"ada"))
