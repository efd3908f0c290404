"""Whether what happened is what the file says, row by row. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from bunce_attributes.demo.expectation import Expectation, NotYet, all_given
from bunce_attributes.demo.rules import CustomerKind, Identifier, Target, judge


@dataclass(frozen=True, slots=True)
class Held:
    """What one attribute of one customer of the API holds; at least one of the two names is there."""

    attribute: str
    customer_id: str | None
    customer_email: str | None
    value: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A row that the service gave up on."""

    reason_class: str
    message: str
    """The API's last words, else the service's reason."""
    attempts: int
    row: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Totals:
    """What the service counted, in rows."""

    received: int
    saved: int
    superseded: int
    dead: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that can be seen from outside when the demo is over."""

    refused_lines: Collection[int]
    """Of the file; their rows were not enqueued."""
    held: Collection[Held]
    dead: Collection[DeadLetter]
    totals: Totals
    max_attempts: int


@dataclass(frozen=True, slots=True)
class _Cell:
    """One attribute of one customer, whatever names the customer has."""

    attribute: str
    customer: Identifier


def differences(expected: Expectation, outcome: Outcome) -> list[str]:
    """Every difference in one sentence; empty if the file was delivered as it says."""
    return [
        *_door(expected, outcome),
        *_totals(expected, outcome.totals),
        *_values(expected, outcome.held),
        *_dead_letters(expected, outcome),
    ]


def _door(expected: Expectation, outcome: Outcome) -> Iterator[str]:
    refused = set(outcome.refused_lines)
    for line in sorted(expected.refused_lines - refused):
        yield f"line {line:,}: is no update, but was enqueued"
    for line in sorted(refused - expected.refused_lines):
        yield f"line {line:,}: is an update, but was not enqueued"


def _totals(expected: Expectation, totals: Totals) -> Iterator[str]:
    if totals.received != expected.enqueued:
        yield f"{expected.enqueued:,} rows were enqueued, but {totals.received:,} received"
    ended = totals.saved + totals.superseded + totals.dead
    if totals.received != ended + totals.waiting:
        yield (
            f"of {totals.received:,} rows received, {totals.saved:,} were saved, {totals.superseded:,} superseded, "
            f"{totals.dead:,} given up and {totals.waiting:,} wait: that is {ended + totals.waiting:,}"
        )
    if totals.waiting:
        yield f"{totals.waiting:,} rows still wait"


def _values(expected: Expectation, held: Iterable[Held]) -> Iterator[str]:
    one_of, tangled = expected.customers.one_of, expected.customers.tangled()
    targets: dict[_Cell, list[Target]] = defaultdict(list)
    for target in expected.histories:
        targets[_Cell(target.attribute, one_of(target.customer))].append(target)
    found: dict[_Cell, list[str]] = defaultdict(list)
    for each in held:
        found[_Cell(each.attribute, one_of(_name(each)))].append(each.value)
    for cell in found.keys() - targets.keys():
        yield f"{_shown(cell.attribute, cell.customer)}: holds {found[cell][0]!r}, which no row of the file sets"
    for cell, its_targets in targets.items():
        histories = [expected.histories[target] for target in its_targets]
        # Which of two customers with one address holds a value, the file does not say.
        moved = cell.customer in tangled
        allowed = {
            value
            for history in histories
            for value in ({given.value for given in all_given(history)} if moved else history.allowed)
        }
        place = f"line {histories[-1].newest.line:,}: {_shown(cell.attribute, its_targets[-1].customer)}"
        for value in found.get(cell, ()):
            if value not in allowed:
                yield f"{place} should hold {_any_of(allowed)}, but holds {value!r}"
        if cell not in found and any(history.required for history in histories):
            yield f"{place} should hold {_any_of(allowed)}, but holds nothing"


def _dead_letters(expected: Expectation, outcome: Outcome) -> Iterator[str]:
    far_ahead = Counter((late.target, late.value) for late in expected.not_yet)
    given_up: set[tuple[Target, str]] = set()
    for letter in outcome.dead:
        judged = judge(letter.row)
        if judged is None:
            yield f"a dead letter ({letter.reason_class}) holds no row of the file"
            continue
        target, value = judged.target, judged.value
        history = expected.histories.get(target)
        place = f"{_shown(target.attribute, target.customer)} = {value!r}"
        if letter.reason_class == "invalid":
            if far_ahead[target, value] > 0:
                far_ahead[target, value] -= 1
            elif history is None or not history.unsure:
                yield f"{place}: is a dead letter as no update, but is one"
        elif letter.reason_class == "attempts":
            given_up.add((target, value))
            if history is None or not any(given.refused and given.value == value for given in all_given(history)):
                yield f"{place}: is a dead letter, but should have been saved"
            elif letter.attempts != outcome.max_attempts:
                yield f"{place}: was given up after {letter.attempts} attempts instead of {outcome.max_attempts}"
        else:
            yield f"{place}: is a dead letter for a reason that the file does not give: {letter.reason_class}"
    for late in expected.not_yet:
        if far_ahead[late.target, late.value] > 0:
            yield _accepted(late)
    for target, history in expected.histories.items():
        newest = history.newest
        if newest.refused and not history.unsure and (target, newest.value) not in given_up:
            yield (
                f"line {newest.line:,}: {_shown(target.attribute, target.customer)} = {newest.value!r} "
                "should be a dead letter, but is none"
            )


def _accepted(late: NotYet) -> str:
    return f"line {late.line:,}: its occurred_at is no possible moment, but the row is no dead letter"


def _name(held: Held) -> Identifier:
    if held.customer_id is not None:
        return Identifier(CustomerKind.ID, held.customer_id)
    return Identifier(CustomerKind.EMAIL, (held.customer_email or "").lower())


def _shown(attribute: str, customer: Identifier) -> str:
    return f"attribute {attribute} of {customer.text}"


def _any_of(values: Collection[str]) -> str:
    shown = [repr(value) for value in sorted(values)[:3]]
    return " or ".join(shown) if shown else "nothing"
