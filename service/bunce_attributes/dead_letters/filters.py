"""Which dead letters are meant: by reason, attribute, customer and time. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from bunce_attributes.dead_letters.letters import DeadLetter, Kind
from bunce_attributes.identifiers import Identifiers
from bunce_attributes.messages import Unreadable

_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])").fullmatch
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


class UnusableMoment(ValueError):  # noqa: N818 - reads as what it is where it is caught
    """A moment that is none; ``str()`` says what would be."""


def moment_ms(text: str, now_ms: int) -> int:
    """Milliseconds since 1970 from ISO 8601 (UTC where no offset is given), or from an age such as ``2h``.

    Raises:
        UnusableMoment: it is neither.
    """
    ago = _AGO(text.strip())
    if ago is not None:
        return now_ms - round(float(ago[1]) * _SECONDS[ago[2]] * 1000)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UnusableMoment(
            f"{text!r} is no moment: write an age such as 30m, 2h or 7d, or a date such as 2026-01-31 or "
            "2026-01-31T12:00:00Z (UTC without an offset)"
        ) from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class Filter:
    """All that is given must fit; an empty filter means every dead letter. Times are ms since 1970, both included."""

    reasons: frozenset[str] = frozenset()
    attribute: str | None = None
    customer: Identifiers | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    @property
    def everything(self) -> bool:
        """Whether nothing is given."""
        return self == Filter()

    @property
    def by_index(self) -> bool:
        """Whether times alone decide, which the index knows: no dead letter need be read."""
        return not self.reasons and self.attribute is None and self.customer is None

    def matches(self, letter: DeadLetter) -> bool:
        """Whether this dead letter is meant."""
        return (
            (not self.reasons or letter.reason_class in self.reasons)
            and (self.since_ms is None or letter.died_at_ms >= self.since_ms)
            and (self.until_ms is None or letter.died_at_ms <= self.until_ms)
            and (self.attribute is None or self._has_attribute(letter))
            and (self.customer is None or names(letter, self.customer))
        )

    def _has_attribute(self, letter: DeadLetter) -> bool:
        if letter.kind is not Kind.MESSAGE:
            return letter.attribute is not None and letter.attribute.lower() == self.attribute
        return any(isinstance(row, dict) and row.get("id") == self.attribute for row in letter.rows)


def names(letter: DeadLetter, customer: Identifiers) -> bool:
    """Whether a dead letter is about the customer; one that cannot be read is, if a name stands in it."""
    if letter.kind is Kind.MESSAGE and isinstance(letter.message, Unreadable):
        return customer.found_in(letter.raw or b"")
    return any(customer.named_in(row) for row in letter.rows)
