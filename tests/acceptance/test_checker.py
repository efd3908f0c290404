"""The checker that judges the crash tests finds what it is there for."""

from __future__ import annotations

from tests.acceptance.harness.checker import (
    lost_values,
    most_in_window,
    overruns,
    refusals,
    stale_applications,
    wrong_attempts,
    wrong_sums,
)
from tests.acceptance.harness.workload import ATTRIBUTE, KeyHistory, Workload


def send(customer: str, value: int, call: int = 1) -> dict[str, object]:
    return {"id": ATTRIBUTE, "identity": customer, "value": str(value), "call": call, "index": 0}


def test_a_value_applied_after_a_newer_one_is_stale() -> None:
    assert stale_applications([send("a", 1), send("a", 3), send("b", 1), send("a", 2)]) != ()


def test_a_value_applied_twice_is_not_stale() -> None:
    assert stale_applications([send("a", 1), send("a", 2), send("a", 2), send("b", 1)]) == ()


def test_a_key_that_does_not_hold_its_newest_value_is_lost() -> None:
    keys = {"a": KeyHistory(given=3, taken=3), "b": KeyHistory(given=1, taken=1), "c": KeyHistory(given=2, taken=2)}
    values = [{"identity": "a", "value": "2"}, {"identity": "b", "value": "1"}]
    assert [text.partition(":")[0] for text in lost_values(keys, values, dead={})] == ["a", "c"]


def test_a_newest_value_among_the_dead_letters_is_not_lost() -> None:
    assert lost_values({"a": KeyHistory(given=2, taken=2)}, [{"identity": "a", "value": "1"}], dead={"a": 2}) == ()


def test_a_value_that_may_not_have_been_taken_may_be_held_or_not() -> None:
    work = Workload()
    work.took(work.rows(["a"]))
    work.may_have_taken(work.rows(["a"]))
    for held in ("1", "2"):
        assert lost_values(work.keys, [{"identity": "a", "value": held}], dead={}) == ()


def test_the_fullest_minute_is_found_wherever_it_begins() -> None:
    assert most_in_window([0.0, 59.0, 60.0, 61.0, 118.9]) == 4
    assert most_in_window([]) == 0


def test_a_minute_with_more_calls_than_allowed_is_an_overrun() -> None:
    calls = [{"received_at": second * 5.0} for second in range(13)]
    assert overruns(calls, per_minute=11) != ()
    assert overruns(calls, per_minute=12) == ()


def test_a_sum_that_does_not_add_up_is_told() -> None:
    status = {"counts": {"received": 5, "saved": 2, "superseded": 1}, "dead": 1, "waiting": 0}
    assert wrong_sums(status, at_least=5, at_most=5) != ()
    assert wrong_sums({**status, "waiting": 1}, at_least=5, at_most=5) == ()


def test_a_row_that_was_never_received_is_told() -> None:
    status = {"counts": {"received": 5, "saved": 5}, "dead": 0, "waiting": 0}
    assert wrong_sums(status, at_least=6, at_most=7) != ()
    assert wrong_sums(status, at_least=4, at_most=5) == ()


def test_refusals_are_counted_by_row() -> None:
    rows = [{"identity": "a"}, {"identity": "b"}]
    assert refusals([{"errors": [1], "rows": rows}, {"errors": [0, 1], "rows": rows}]) == {"a": 1, "b": 2}


def refused_call(
    at: float, *, errors: tuple[int, ...] = (0,), customers: tuple[str, ...] = ("a", "b"), status: int = 200
) -> dict[str, object]:
    rows = [{"identity": customer, "value": "1"} for customer in customers]
    return {"received_at": at, "status": status, "fault": None, "rows": rows, "errors": errors}


def dead(customer: str, attempts: int) -> dict[str, object]:
    row = {"customer_id": customer, "value": "1"}
    return {"reason_class": "attempts", "row": row, "attempts": [{}] * attempts}


RULES = {"max_attempts": 3, "hold_seconds": 5.0}


def test_a_row_that_died_of_its_own_refusals_paid_what_it_should() -> None:
    calls = [refused_call(0), refused_call(1), refused_call(2)]
    assert wrong_attempts(calls, [dead("a", 3)], **RULES) == ()


def test_a_row_that_died_of_anothers_refusal_paid_too_much() -> None:
    calls = [refused_call(0), refused_call(1), refused_call(2)]
    assert wrong_attempts(calls, [dead("b", 3)], **RULES) != ()


def test_a_row_that_died_with_other_than_the_allowed_attempts_is_told() -> None:
    calls = [refused_call(at) for at in range(3)]
    assert wrong_attempts(calls, [dead("a", 2)], **RULES) != ()


def test_a_lone_row_may_have_paid_for_its_call_but_not_for_a_429() -> None:
    alone = {"customers": ("a",), "errors": ()}
    assert wrong_attempts([refused_call(at, **alone, status=500) for at in range(3)], [dead("a", 3)], **RULES) == ()
    assert wrong_attempts([refused_call(at, **alone, status=429) for at in range(3)], [dead("a", 3)], **RULES) != ()


def test_a_row_that_was_refused_too_often_did_not_pay() -> None:
    assert wrong_attempts([refused_call(at) for at in range(4)], [], **RULES) != ()


def test_a_refusal_whose_note_may_have_been_lost_need_not_have_been_paid() -> None:
    calls = [refused_call(0), refused_call(1), refused_call(20), refused_call(21)]
    assert wrong_attempts(calls, [dead("a", 3)], **RULES) == ()
