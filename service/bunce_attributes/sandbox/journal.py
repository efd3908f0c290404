"""What happened, in order: every call, every application of its rows, and the counts."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from bunce_attributes.sandbox.rows import NamedRow

HUNG_UP: Final = "hung_up"


@dataclass(slots=True, eq=False)
class Call:
    """One POST of attribute values. Times are seconds of the wall clock since 1970.

    Attributes:
        seq: 1, 2, 3, … in order of arrival.
        status: None while it is in flight, and for ever if the connection was closed without an answer.
        errors: Indexes of the rows that were refused by themselves.
        applied_at: When the rows outside `errors` were saved; None if they were not (yet).
        fault: The `do` of the fault rule that took the call, if one did.
    """

    seq: int
    received_at: float
    answered_at: float | None = None
    status: int | None = None
    rows: tuple[NamedRow, ...] = ()
    errors: tuple[int, ...] = ()
    applied_at: float | None = None
    fault: str | None = None

    def as_json(self, *, with_rows: bool) -> dict[str, Any]:
        return {
            "seq": self.seq,
            "received_at": self.received_at,
            "answered_at": self.answered_at,
            "status": self.status,
            "errors": list(self.errors),
            "saved": self.applied_at is not None,
            "applied_at": self.applied_at,
            "fault": self.fault,
            "row_count": len(self.rows),
            **({"rows": [row_as_json(row) for row in self.rows]} if with_rows else {}),
        }


def row_as_json(row: NamedRow) -> dict[str, str]:
    return {
        "id": row.attribute_id,
        "identity_kind": row.kind,
        "identity": row.identity,
        "value": row.value,
    }


@dataclass(slots=True)
class Counts:
    """Sums since the start. `requests` is by status, over all operations; closed connections are `hung_up`."""

    requests: Counter[str] = field(default_factory=Counter)
    rows_per_call: Counter[int] = field(default_factory=Counter)
    rows_received: int = 0
    rows_saved: int = 0
    rows_refused: int = 0
    in_flight: int = 0
    max_in_flight: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "requests": dict(sorted(self.requests.items())),
            "rows_per_call": {str(rows): calls for rows, calls in sorted(self.rows_per_call.items())},
            "rows_received": self.rows_received,
            "rows_saved": self.rows_saved,
            "rows_refused": self.rows_refused,
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
        }


class Journal:
    """Counts everything; with `log` remembers the calls and the order in which rows were applied."""

    def __init__(self, *, log: bool) -> None:
        self.log = log
        self.counts = Counts()
        self._calls: list[Call] = []
        self._applied: list[Call] = []
        # How many rows were applied before each entry of _applied.
        self._applied_before: list[int] = []
        self._last_seq = 0

    def begin(self, received_at: float) -> Call:
        """A call has arrived."""
        self._last_seq += 1
        call = Call(self._last_seq, received_at)
        if self.log:
            self._calls.append(call)
        counts = self.counts
        counts.in_flight += 1
        counts.max_in_flight = max(counts.max_in_flight, counts.in_flight)
        return call

    def read(self, call: Call, rows: list[NamedRow]) -> None:
        """The rows of a call are known."""
        self.counts.rows_received += len(rows)
        self.counts.rows_per_call[len(rows)] += 1
        if self.log:
            call.rows = tuple(rows)

    def applied(self, call: Call, saved: int, at: float) -> None:
        """The rows of a call outside its errors, so many, were saved now."""
        if self.log and saved:
            self._applied.append(call)
            self._applied_before.append(self.counts.rows_saved)
        call.applied_at = at
        self.counts.rows_saved += saved

    def ended(self, call: Call, status: int | None, at: float) -> None:
        """A call was answered, or hung up on."""
        call.status = status
        call.answered_at = at
        self.counts.in_flight -= 1

    def calls(self, *, after: int, limit: int, with_rows: bool) -> list[dict[str, Any]]:
        """Calls with a `seq` above `after`, in order."""
        return [call.as_json(with_rows=with_rows) for call in self._calls[after : after + limit]]

    def sends(self, *, after: int, limit: int) -> list[dict[str, Any]]:
        """Applied rows in the order of their application; `n` counts them from 1."""
        return list(islice(self._sends(after), limit))

    def _sends(self, after: int) -> Iterator[dict[str, Any]]:
        first = max(0, bisect_right(self._applied_before, after) - 1)
        for position in range(first, len(self._applied)):
            call = self._applied[position]
            number = self._applied_before[position]
            refused = frozenset(call.errors)
            for index, row in enumerate(call.rows):
                if index in refused:
                    continue
                number += 1
                if number > after:
                    yield {
                        "n": number,
                        "call": call.seq,
                        "index": index,
                        "applied_at": call.applied_at,
                        **row_as_json(row),
                    }
