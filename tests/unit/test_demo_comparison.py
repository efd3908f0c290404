"""The demo's verdict: what it expects of a file, and that it notices when something else happened."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from bunce_attributes.demo.comparison import DeadLetter, Held, Outcome, Totals, differences
from bunce_attributes.demo.example import ATTRIBUTES, HEADER, LAST_ORDER, PLAN, REVENUE, example_csv
from bunce_attributes.demo.expectation import Expectation, expect
from bunce_attributes.demo.rules import judge
from bunce_attributes.row_batches import parse_producer_row
from bunce_attributes.rows_file import Lines, Record, read_rows
from bunce_attributes.updates import InvalidUpdate

NOW = 1_750_000_000.0
TYPES = {attribute.id: attribute.data_type for attribute in ATTRIBUTES}
EXAMPLE = Path(__file__).parents[2] / "examples" / "updates.csv"


def expected(*rows: dict[str, object]) -> Expectation:
    return expect([Record(line, line, [row]) for line, row in enumerate(rows, 2)], TYPES, NOW)


def plan(customer_id: str, value: str, **more: object) -> dict[str, object]:
    return {"id": PLAN.id, "customer_id": customer_id, "value": value, **more}


def outcome(*held: Held, dead: tuple[DeadLetter, ...] = (), superseded: int = 0) -> Outcome:
    totals = Totals(len(held) + len(dead) + superseded, len(held), superseded, len(dead), 0)
    return Outcome((), held, dead, totals, 5)


def holds(customer_id: str, value: str, attribute: str = PLAN.id) -> Held:
    return Held(attribute, customer_id, None, value)


def test_a_file_delivered_as_it_says_has_no_difference() -> None:
    assert (
        differences(expected(plan("a", "pro"), plan("b", "free")), outcome(holds("a", "pro"), holds("b", "free"))) == []
    )


@pytest.mark.parametrize(
    ("happened", "said"),
    [
        (outcome(holds("a", "free"), holds("b", "free")), "should hold 'pro', but holds 'free'"),
        (outcome(holds("b", "free"), superseded=1), "should hold 'pro', but holds nothing"),
        (outcome(holds("a", "pro"), holds("b", "free"), holds("c", "pro")), "which no row of the file sets"),
        (outcome(holds("a", "pro")), "2 rows were enqueued, but 1 received"),
        (
            replace(outcome(holds("a", "pro"), holds("b", "free")), refused_lines=(3,)),
            "line 3: is an update, but was not enqueued",
        ),
        (
            replace(outcome(holds("a", "pro"), holds("b", "free")), totals=Totals(2, 1, 0, 0, 1)),
            "1 rows still wait",
        ),
        (
            replace(outcome(holds("a", "pro"), holds("b", "free")), totals=Totals(2, 1, 0, 0, 0)),
            "of 2 rows received, 1 were saved",
        ),
        (
            outcome(holds("b", "free"), dead=(DeadLetter("attempts", "no", 5, plan("a", "pro")),)),
            "is a dead letter, but should have been saved",
        ),
        (
            outcome(holds("a", "pro"), dead=(DeadLetter("invalid", "no", 0, plan("b", "free")),)),
            "is a dead letter as no update, but is one",
        ),
        (
            outcome(holds("a", "pro"), dead=(DeadLetter("too_large", "no", 1, plan("b", "free")),)),
            "for a reason that the file does not give: too_large",
        ),
        (outcome(holds("a", "pro"), dead=(DeadLetter("unreadable", "no", 0, {}),)), "holds no row of the file"),
    ],
)
def test_every_other_end_is_a_difference(happened: Outcome, said: str) -> None:
    found = differences(expected(plan("a", "pro"), plan("b", "free")), happened)
    assert any(said in difference for difference in found), found


def test_a_row_that_is_no_update_must_not_be_enqueued() -> None:
    found = differences(expected(plan("a", "pro"), plan("", "pro")), outcome(holds("a", "pro")))
    assert found == ["line 3: is no update, but was enqueued"]


def test_the_newest_value_is_the_one_that_must_stay() -> None:
    """Past moments by their order, rows without one after them, equal ones by their place in the file."""
    at = NOW - 5_000
    assert expected(plan("a", "1", occurred_at=at), plan("a", "0", occurred_at=at - 9)).histories.popitem()[
        1
    ].allowed == {"1"}
    assert expected(plan("a", "1"), plan("a", "0", occurred_at=at)).histories.popitem()[1].allowed == {"1"}
    assert expected(plan("a", "0"), plan("a", "1")).histories.popitem()[1].allowed == {"1"}
    assert expected(plan("a", "0", occurred_at=at), plan("a", "1", occurred_at=at)).histories.popitem()[1].allowed == {
        "1"
    }


def test_a_moment_close_to_now_leaves_open_which_value_is_the_newest() -> None:
    history = expected(plan("a", "1"), plan("a", "2", occurred_at=NOW + 3)).histories.popitem()[1]
    assert history.allowed == {"1", "2"}
    assert history.required


def test_a_value_that_its_type_refuses_must_become_a_dead_letter_after_all_attempts() -> None:
    row: dict[str, object] = {"id": REVENUE.id, "customer_id": "a", "value": "n/a"}
    good = {**row, "value": "12.5"}
    letter = DeadLetter("attempts", "no number", 5, row)
    assert differences(expected(row), outcome(dead=(letter,))) == []
    assert "should be a dead letter, but is none" in differences(expected(row), outcome(superseded=1))[0]
    assert (
        "after 4 attempts instead of 5" in differences(expected(row), outcome(dead=(replace(letter, attempts=4),)))[0]
    )
    # The older value may have been saved before the newer one came; it need not.
    for end in (outcome(holds("a", "12.5", REVENUE.id), dead=(letter,)), outcome(dead=(letter,), superseded=1)):
        assert differences(expected(good, row), end) == []
    assert differences(expected(good, row), outcome(holds("a", "n/a", REVENUE.id), dead=(letter,)))


def test_a_moment_far_ahead_is_refused_by_the_service() -> None:
    row = plan("a", "pro", occurred_at="2162-05-01T00:00:00Z")
    assert differences(expected(row), outcome(dead=(DeadLetter("invalid", "occurred_at", 0, row),))) == []
    assert "no possible moment" in differences(expected(row), outcome(holds("a", "pro")))[1]


def test_one_customer_under_two_names_holds_one_of_the_two_newest_values() -> None:
    by_email = {"id": PLAN.id, "customer_email": "Ada@example.com", "value": "free"}
    both = {"id": PLAN.id, "customer": {"customer_id": "a", "email": "ada@example.com"}, "value": "pro"}
    file = expected(by_email, both)
    for value in ("free", "pro"):
        held = Held(PLAN.id, "a", "ada@example.com", value)
        totals = Totals(2, 2, 0, 0, 0)
        assert differences(file, Outcome((), (held,), (), totals, 5)) == []
    wrong = Held(PLAN.id, "a", "ada@example.com", "old")
    assert differences(file, Outcome((), (wrong,), (), Totals(2, 2, 0, 0, 0), 5))


@pytest.mark.parametrize(
    "row",
    [
        plan("a", "pro"),
        {"attribute": PLAN.id.upper(), "customer_email": "a@b", "value": 1.5},
        {"id": PLAN.id.replace("-", ""), "customer_id": "a", "value": True},
        plan("a", "pro", occurred_at="2024-01-01T00:00:00+01:00"),
        plan("a", "pro", occurred_at="2024-01-01T00:00:00"),
        plan("a", "pro", occurred_at=1e13),
        plan("a", "pro", occurred_at=True),
        plan("a", "pro", customer_email="a@b"),
        plan("a", "pro", customer_email="a b@c"),
        plan("a", "pro", customer_email="a@b@c"),
        plan("a", "pro", colour="blue"),
        plan("a", "\ud800"),
        plan("", "pro"),
        {"id": PLAN.id, "value": "pro"},
        {"id": PLAN.id, "value": None, "customer_id": "a"},
        {"id": PLAN.id, "value": "pro", "customer": {"first_name": "Ada"}},
        {"id": PLAN.id, "value": "pro", "customer": {"email": "a@b", "first_name": 1}},
        {"id": PLAN.id, "value": "pro", "customer": {"email": "a@b", "devices": [{"device_type": "ios"}]}},
        {
            "id": PLAN.id,
            "value": "pro",
            "customer": {"email": "a@b", "devices": [{"device_type": "ios", "device_token": "1"}]},
        },
        "no row",
    ],
)
def test_both_writings_of_the_rules_agree(row: object) -> None:
    try:
        parse_producer_row(row)
        valid = True
    except InvalidUpdate:
        valid = False
    assert (judge(row) is not None) is valid


def test_the_example_file_is_what_its_generator_writes() -> None:
    assert EXAMPLE.read_text(encoding="utf-8") == example_csv()


def test_the_newest_values_of_the_example_are_those_of_a_plain_reading() -> None:
    """A third and much simpler reading: the good lines in the order of their moments, the last one counts."""
    with Lines(str(EXAMPLE)) as lines:
        file = expect(read_rows(lines, {}), TYPES, NOW)
    left_out = file.refused_lines | {late.line for late in file.not_yet}
    rows = []
    for line, text in enumerate(EXAMPLE.read_text(encoding="utf-8").splitlines()[1:], 2):
        if line not in left_out:
            row = dict(zip(HEADER, next(csv.reader([text])), strict=True))
            rows.append((seconds(row["occurred_at"]), row))
    rows.sort(key=lambda pair: pair[0])
    newest = {(row["id"], row["customer_id"] or row["customer_email"].lower()): row["value"] for _, row in rows}
    assert newest == {
        (target.attribute, target.customer.text): history.newest.value for target, history in file.histories.items()
    }


def seconds(occurred_at: str) -> float:
    if not occurred_at:
        return math.inf
    return float(occurred_at) if occurred_at.isdigit() else datetime.fromisoformat(occurred_at).timestamp()


def test_the_example_has_faults_of_every_kind_and_values_that_replace_each_other() -> None:
    with Lines(str(EXAMPLE)) as lines:
        file = expect(read_rows(lines, {}), TYPES, NOW)
    refused = [target.attribute for target, history in file.histories.items() if history.newest.refused]
    assert len(file.refused_lines) > 20
    assert refused.count(LAST_ORDER.id) >= 3
    assert refused.count(REVENUE.id) >= 3
    assert file.not_yet
    assert sum(len(history.older) for history in file.histories.values()) > 500
    assert not file.customers.tangled()
