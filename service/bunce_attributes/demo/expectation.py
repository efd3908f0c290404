"""What a file of updates says must be true once it is delivered. Pure.

These are the rules of the API reference and of docs/guarantees.md, written a second time: nothing here asks the code
that delivers the rows. From that code come only the lines of the file, taken apart into cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from bunce_attributes.demo.rules import CustomerKind, Identifier, Judged, Target, judge, type_takes
from bunce_attributes.rows_file import Record

FUTURE_SECONDS = 300.0
"""A moment further ahead is no ``occurred_at``."""
UNSURE_BEFORE_SECONDS = 60.0
UNSURE_AFTER_SECONDS = 3_600.0
"""Rows without ``occurred_at`` get the time at which they are enqueued, which is not known before: moments so close to
now can lie on either side of it."""


@dataclass(frozen=True, slots=True)
class Given:
    """One value that the file gives to a target.

    ``moment`` is its ``occurred_at`` in Unix seconds, None for "when it was enqueued". ``refused`` tells that the
    attribute's type does not take the value.
    """

    line: int
    value: str
    moment: float | None
    refused: bool


@dataclass(slots=True)
class History:
    """The values of one target. ``unsure``: which of them is the newest cannot be told from the file."""

    newest: Given
    older: list[Given] = field(default_factory=list)
    unsure: bool = False

    def add(self, given: Given) -> None:
        """Take one more value; of two of the same moment the later line is newer."""
        if _at(given) >= _at(self.newest):
            self.older.append(self.newest)
            self.newest = given
        else:
            self.older.append(given)

    @property
    def allowed(self) -> frozenset[str]:
        """What the target may hold in the end.

        Where the API refuses the newest value, an older one may have been saved before the newest replaced it.
        """
        if not self.unsure and not self.newest.refused:
            return frozenset((self.newest.value,))
        return frozenset(given.value for given in (self.newest, *self.older) if not given.refused)

    @property
    def required(self) -> bool:
        """Whether the target must hold something."""
        if self.unsure:
            return not any(given.refused for given in (self.newest, *self.older))
        return not self.newest.refused


@dataclass(frozen=True, slots=True)
class NotYet:
    """A row whose ``occurred_at`` lies so far ahead that only the service, which has a clock, refuses it."""

    line: int
    target: Target
    value: str


class Customers:
    """Which identifiers name the same customer, as far as the file says so (union-find)."""

    def __init__(self) -> None:
        self._above: dict[Identifier, Identifier] = {}

    def one_of(self, identifier: Identifier) -> Identifier:
        """The identifier that stands for this customer."""
        while (above := self._above.get(identifier, identifier)) != identifier:
            identifier = above
        return identifier

    def join(self, one: Identifier, other: Identifier) -> None:
        """Both name the same customer."""
        for identifier in (one, other):
            self._above.setdefault(identifier, identifier)
        self._above[self.one_of(one)] = self.one_of(other)

    def tangled(self) -> frozenset[Identifier]:
        """Customers with two ids or two addresses: which of them holds a value depends on the order of calls."""
        seen: set[tuple[Identifier, CustomerKind]] = set()
        twice: set[Identifier] = set()
        for identifier in self._above:
            place = (self.one_of(identifier), identifier.kind)
            if place in seen:
                twice.add(place[0])
            seen.add(place)
        return frozenset(twice)


@dataclass(slots=True)
class Expectation:
    """What must be true in the end."""

    rows: int = 0
    """In the file."""
    refused_lines: set[int] = field(default_factory=set)
    """That must not get into the queue."""
    not_yet: list[NotYet] = field(default_factory=list)
    histories: dict[Target, History] = field(default_factory=dict)
    customers: Customers = field(default_factory=Customers)

    @property
    def enqueued(self) -> int:
        """Rows that must get into the queue."""
        return self.rows - len(self.refused_lines)


def expect(records: Iterable[Record], types: Mapping[str, str], now: float) -> Expectation:
    """Read a file.

    Args:
        types: attribute id → ``timestamp`` or ``numeric``; every other attribute is text.
        now: Unix seconds.

    Raises:
        UnusableFile: the file cannot be read on; from ``records``.
    """
    expected = Expectation()
    for record in records:
        if record.problem is not None:
            expected.rows += 1
            expected.refused_lines.add(record.line)
        for row in record.rows:
            expected.rows += 1
            judged = judge(row)
            if judged is None:
                expected.refused_lines.add(record.line)
            else:
                _take(expected, record.line, judged, types, now)
    return expected


def _take(expected: Expectation, line: int, judged: Judged, types: Mapping[str, str], now: float) -> None:
    target, moment = judged.target, judged.moment
    if moment is not None and (moment > now + FUTURE_SECONDS + UNSURE_AFTER_SECONDS or moment <= 0):
        expected.not_yet.append(NotYet(line, target, judged.value))
        return
    for other in judged.others:
        expected.customers.join(target.customer, other)
    given = Given(line, judged.value, moment, not type_takes(types.get(target.attribute, "text"), judged.value))
    history = expected.histories.get(target)
    if history is None:
        history = expected.histories[target] = History(given)
    else:
        history.add(given)
    if judged.exported or (moment is not None and moment > now - UNSURE_BEFORE_SECONDS):
        history.unsure = True


def _at(given: Given) -> float:
    return math.inf if given.moment is None else given.moment


def all_given(history: History) -> Iterator[Given]:
    """Every value of a target."""
    yield history.newest
    yield from history.older
