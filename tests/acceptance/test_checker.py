"""The checker that judges the crash tests finds what it is there for."""

from __future__ import annotations

from tests.acceptance.harness.checker import (
    lost_values,
    most_in_window,
    overruns,
    refusals,
    stale_applications,
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
