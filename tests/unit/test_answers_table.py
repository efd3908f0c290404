"""docs/answers.md says what the code does: its tables are rendered here from the code and compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from bunce_attributes.answers import Answer, read_answer
from bunce_attributes.bunce_api import TRANSPORT_FAULTS
from bunce_attributes.decisions import CallHistory, ClaimedRow, Rest, RowAction, Settlement, Verdict, decide
from bunce_attributes.outcomes import CallOutcome, Failed, Processed, Unreadable
from bunce_attributes.retries import RetryPolicy

DOC = Path(__file__).parents[2] / "docs" / "answers.md"
NOW = datetime(2026, 1, 31, tzinfo=UTC)
POLICY = RetryPolicy(max_attempts=5, base_seconds=60, max_seconds=3600)

FIRST = CallHistory(failures=0, others_passed=False, others_fail=False)
OTHERS_PASS = CallHistory(failures=1, others_passed=True, others_fail=False)
OTHERS_FAIL = CallHistory(failures=1, others_passed=False, others_fail=True)
NO_OTHERS = CallHistory(failures=1, others_passed=False, others_fail=False)
SITUATIONS = {
    "first failure": FIRST,
    "failed before, another call passed since": OTHERS_PASS,
    "failed before, other calls fail too": OTHERS_FAIL,
    "failed before, no other call was made": NO_OTHERS,
}
REST = {
    Rest.SAVED: "saved",
    Rest.AGAIN: "sent again at once",
    Rest.GROUP: "sent again together after a pause",
    Rest.HALVES: "sent again in two halves",
}
ACTION = {
    RowAction.RETRY: "due again after the backoff",
    RowAction.RETRY_ALONE: "due again after the backoff, in a call of its own",
    RowAction.DEAD: "dead letter",
}
GATE = {
    Verdict.PASSED: "hears a success",
    Verdict.ANSWERED: "stays open",
    Verdict.RATE_LIMITED: "closed for `Retry-After`, for the whole rate-limit group",
    Verdict.OUTAGE: "counts an outage",
    Verdict.MISCONFIGURED: "counts a misconfiguration",
    Verdict.UNREADABLE: "counts an unreadable answer",
    Verdict.NOT_SENT: "hears nothing",
}


@dataclass(frozen=True)
class Case:
    """An answer, in the words of the documentation, with an example, and another one that must mean the same."""

    name: str
    outcome: CallOutcome
    also: CallOutcome | None = None
    names_rows: bool = False


def read(status: int, document: Any = None, **headers: str) -> CallOutcome:
    body = b"" if document is None else json.dumps(document).encode()
    return read_answer(Answer(status, {k.replace("_", "-"): v for k, v in headers.items()}, body), 3, NOW)


NAMED = {"errors": {"attributes.0.id": ["no"]}}
CASES = (
    Case("2xx, no row in `errors`", read(200, {"data": {"errors": {}}})),
    Case("2xx, rows in `errors`", read(200, {"data": {"errors": {"0": "no"}}}), names_rows=True),
    Case("2xx, unreadable", read(200), read(204)),
    Case("400 or 422 that names rows", read(422, NAMED), read(400, NAMED), names_rows=True),
    Case("400 or 422 that names none", read(422), read(400)),
    Case("413", read(413)),
    Case("429", read(429)),
    Case("401", read(401)),
    Case("403, 404, any other 3xx or 4xx", read(404), read(302)),
    Case("5xx, 408, 425, no answer in time, connection lost", read(500), Failed(0, "no answer", unknown=True)),
    Case("503 with `Retry-After`", read(503, retry_after="7")),
    Case("no connection", Failed(0, "no connection", unknown=False)),
)


def settle(outcome: CallOutcome, rows: int, history: CallHistory) -> Settlement:
    claimed = tuple(ClaimedRow(bytes([n]) * 16, 0, b"{}") for n in range(rows))
    return decide(outcome, claimed, history, POLICY, lambda: 1.0)


def cells(case: Case, rows: int, history: CallHistory) -> tuple[str, str, str]:
    """What the table tells of one answer in one situation."""
    told = _told(settle(case.outcome, rows, history), rows, names_rows=case.names_rows)
    if case.also is not None:
        assert _told(settle(case.also, rows, history), rows, names_rows=case.names_rows) == told
    return told


def _told(settlement: Settlement, rows: int, *, names_rows: bool) -> tuple[str, str, str]:
    named = [f"{ACTION[row.action]}" for row in settlement.named]
    charged = "+1" if settlement.named else "–"
    if names_rows:
        others = "" if rows == 1 else f"; the others: {REST[settlement.rest]}"
        text = f"the named: {named[0]}{others}"
        charged = "+1 for the named"
    elif named:
        text = named[0]
    elif settlement.rest is Rest.AGAIN:
        text = "sent again when the gate opens"
    else:
        text = REST[settlement.rest] if rows > 1 else REST[settlement.rest].replace(" together", "")
    if settlement.hold:
        text += ", after the hold"
    if settlement.learn_size:
        text += "; later calls are half as large"
    gate = GATE[settlement.verdict]
    if settlement.at_once:
        gate = "closed at once" + (" for `Retry-After`" if settlement.retry_after_seconds else "")
    return text, charged, gate


def rendered() -> str:
    """The table: situations in which nothing differs share a line."""
    lines = ["| Answer | Call of | When | The rows | Attempt | The gate |", "|---|---|---|---|---|---|"]
    for case in CASES:
        entries = [
            (size, when, cells(case, rows, history))
            for size, rows in (("several rows", 3), ("one row", 1))
            for when, history in SITUATIONS.items()
        ]
        if len({told for _, _, told in entries}) == 1:
            lines.append(_line(case.name, "any size", "always", *entries[0][2]))
            continue
        for size, of_size in groupby(entries, key=lambda entry: entry[0]):
            by_told: dict[tuple[str, str, str], list[str]] = {}
            for _, when, told in of_size:
                by_told.setdefault(told, []).append(when)
            for told, whens in sorted(by_told.items(), key=lambda item: len(item[1])):
                when = "always" if len(whens) == len(SITUATIONS) else _joined(whens)
                lines.append(_line(case.name, size, when, *told))
    return "\n".join(lines)


def _joined(whens: list[str]) -> str:
    return whens[0] if len(whens) == 1 else "otherwise" if len(whens) == len(SITUATIONS) - 1 else " · ".join(whens)


def _line(*entries: str) -> str:
    return f"| {' | '.join(entries)} |"


def rendered_faults() -> str:
    """The table of what httpx may raise."""
    lines = ["| Exception of the HTTP client | Told as | The server may have applied the call |", "|---|---|---|"]
    lines += [
        _line(f"`{kind.__name__}`", fault.text, "yes" if fault.unknown else "no")
        for kind, fault in sorted(TRANSPORT_FAULTS.items(), key=lambda item: item[0].__name__)
    ]
    return "\n".join(lines)


@pytest.mark.parametrize("table", [rendered, rendered_faults])
def test_the_documentation_says_what_the_code_does(table: Callable[[], str]) -> None:
    assert table() in DOC.read_text(encoding="utf-8"), f"docs/answers.md should hold:\n\n{table()}\n"


def _kinds(statuses: Iterable[int]) -> set[type]:
    return {type(read(status)) for status in statuses}


def test_every_status_is_one_of_the_answers_of_the_table() -> None:
    by_name = {case.name: type(case.outcome) for case in CASES}
    assert _kinds(range(200, 300)) == {Unreadable}
    assert {type(read(status, {"data": {}})) for status in range(200, 300)} == {Processed}
    assert _kinds([400, 422]) == {by_name["400 or 422 that names none"]}
    assert {type(read(status, NAMED)) for status in (400, 422)} == {by_name["400 or 422 that names rows"]}
    assert _kinds([413]) == {by_name["413"]}
    assert _kinds([429]) == {by_name["429"]}
    assert _kinds([408, 425, *range(500, 600)]) == {by_name["5xx, 408, 425, no answer in time, connection lost"]}
    rest = set(range(100, 600)) - set(range(200, 300)) - {400, 408, 413, 422, 425, 429} - set(range(500, 600))
    assert _kinds(rest) == {by_name["403, 404, any other 3xx or 4xx"]}


if __name__ == "__main__":
    print(rendered(), rendered_faults(), sep="\n\n")
