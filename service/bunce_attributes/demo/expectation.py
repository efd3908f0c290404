"""What a file of updates says must be true once it is delivered. Pure.

These are the rules of the API reference and of docs/guarantees.md, written a second time: nothing here asks the code
that delivers the rows. From that code come only the lines of the file, taken apart into cells.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from bunce_attributes.rows_file import Record

FUTURE_SECONDS = 300.0
"""A moment further ahead is no ``occurred_at``."""
UNSURE_BEFORE_SECONDS = 60.0
UNSURE_AFTER_SECONDS = 3_600.0
"""Rows without ``occurred_at`` get the time at which they are enqueued, which is not known before: moments so close to
now can lie on either side of it."""

_FIELDS = {"id", "value", "customer_id", "customer_email", "customer", "occurred_at", "accepted_at"}
_CUSTOMER_FIELDS = {"customer_id", "email", "first_name", "last_name", "phone_no", "devices"}
_DEVICE_FIELDS = {"device_type", "device_token"}
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII).fullmatch
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE).fullmatch


class CustomerKind(StrEnum):
    """How an identifier names a customer."""

    ID = "customer_id"
    EMAIL = "customer_email"


@dataclass(frozen=True, slots=True)
class Identifier:
    """One name of a customer; an address is in lower case."""

    kind: CustomerKind
    text: str


@dataclass(frozen=True, slots=True)
class Target:
    """What a row sets: one attribute of one customer."""

    attribute: str
    customer: Identifier


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


@dataclass(frozen=True, slots=True)
class Judged:
    """A row that may be enqueued; ``others`` are further names that it gives to its customer."""

    target: Target
    value: str
    moment: float | None
    others: tuple[Identifier, ...]
    exported: bool


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


def type_takes(data_type: str, value: str) -> bool:
    """Whether an attribute of this type takes the value."""
    if data_type == "numeric":
        return _NUMBER(value) is not None
    if data_type == "timestamp":
        return _TIMESTAMP(value) is not None and _moment(value) is not None
    return True


def judge(row: object) -> Judged | None:
    """A row by the rules of the API reference; None if it breaks one."""
    if not isinstance(row, Mapping):
        return None
    fields = {("id" if name == "attribute" else name): value for name, value in row.items()}
    if len(fields) != len(row) or not fields.keys() <= _FIELDS:
        return None
    attribute, value = _attribute(fields.get("id")), _value(fields.get("value"))
    identifiers = _identifiers(fields)
    if attribute is None or value is None or not identifiers:
        return None
    moment: float | None = None
    for name in ("occurred_at", "accepted_at"):
        if fields.get(name) is not None:
            at = _moment(fields[name])
            if at is None:
                return None
            moment = at if name == "occurred_at" else moment
    exported = fields.get("accepted_at") is not None
    return Judged(Target(attribute, identifiers[0]), value, moment, tuple(identifiers[1:]), exported)


def _attribute(given: object) -> str | None:
    try:
        return str(UUID(given)) if isinstance(given, str) else None
    except ValueError:
        return None


def _value(given: object) -> str | None:
    match given:
        case str():
            return None if _half_surrogates(given) else given
        case bool():
            return "true" if given else "false"
        case int():
            return str(given)
        case float() if math.isfinite(given):
            return repr(given)
    return None


def _half_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _identifiers(fields: Mapping[str, object]) -> list[Identifier]:
    """What names the customer, the name that counts first; empty if nothing does or something is wrong."""
    found: list[Identifier] = []
    nested = fields.get("customer")
    if nested is not None:
        if not isinstance(nested, Mapping) or not nested.keys() <= _CUSTOMER_FIELDS:
            return []
        profile = [nested.get(name) for name in ("first_name", "last_name", "phone_no")]
        if any(text is not None and not isinstance(text, str) for text in profile) or not _devices(nested):
            return []
        if nested.get("customer_id") is None and nested.get("email") is None:
            return []
    inner: Mapping[str, object] = nested if isinstance(nested, Mapping) else {}
    for kind, given in (
        (CustomerKind.ID, fields.get("customer_id")),
        (CustomerKind.EMAIL, fields.get("customer_email")),
        (CustomerKind.ID, inner.get("customer_id")),
        (CustomerKind.EMAIL, inner.get("email")),
    ):
        if given is None:
            continue
        if not isinstance(given, str) or not given or _half_surrogates(given):
            return []
        if kind is CustomerKind.EMAIL and not _is_email(given):
            return []
        found.append(Identifier(kind, given.lower() if kind is CustomerKind.EMAIL else given))
    if nested is None:
        # Beside each other, without the object that edits a customer, they join nothing: only the first one counts.
        return found[:1]
    return found


def _devices(customer: Mapping[str, object]) -> bool:
    devices = customer.get("devices")
    if devices is None:
        return True
    return isinstance(devices, list) and all(
        isinstance(device, Mapping)
        and device.keys() == _DEVICE_FIELDS
        and all(isinstance(text, str) and text for text in device.values())
        for device in devices
    )


def _is_email(text: str) -> bool:
    name, at, host = text.partition("@")
    return bool(name and at and host) and "@" not in host and not any(character.isspace() for character in text)


def _moment(given: object) -> float | None:
    if isinstance(given, str):
        try:
            at = datetime.fromisoformat(given.strip())
        except ValueError:
            return None
        return None if at.tzinfo is None else at.timestamp()
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    # Past 2**53 microseconds a double, and so JSON, is no longer exact.
    return float(given) if abs(given) < 2**53 / 1_000_000 else None


def _at(given: Given) -> float:
    return math.inf if given.moment is None else given.moment


def all_given(history: History) -> Iterator[Given]:
    """Every value of a target."""
    yield history.newest
    yield from history.older
