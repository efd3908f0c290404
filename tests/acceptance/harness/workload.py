"""Values of keys, each newer than the one before, and what the producer knows of each.

The value of a row is its number within its key, so that the sandbox' journal tells by itself which value is newer.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass, field

ATTRIBUTE = "9f171295-6935-400c-af6b-fd628a46bc71"


@dataclass(slots=True)
class KeyHistory:
    """What was enqueued of one key: the newest number, and the newest one that Redis surely took."""

    given: int = 0
    taken: int = 0
    taken_rows: int = 0
    unknown_rows: int = 0


@dataclass(slots=True)
class Workload:
    """Makes rows and remembers them; safe in threads as long as each key has one writer at a time."""

    keys: dict[str, KeyHistory] = field(default_factory=lambda: defaultdict(KeyHistory))
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def next_row(self, customer: str) -> dict[str, str]:
        """A row with the next value of a customer."""
        with self._lock:
            history = self.keys[customer]
            history.given += 1
            return {"id": ATTRIBUTE, "customer_id": customer, "value": str(history.given)}

    def rows(self, customers: list[str]) -> list[dict[str, str]]:
        return [self.next_row(customer) for customer in customers]

    def took(self, rows: list[dict[str, str]]) -> None:
        """Redis took these rows."""
        with self._lock:
            for row in rows:
                history = self.keys[row["customer_id"]]
                history.taken = max(history.taken, int(row["value"]))
                history.taken_rows += 1

    def may_have_taken(self, rows: list[dict[str, str]]) -> None:
        """The connection broke: nobody knows."""
        with self._lock:
            for row in rows:
                self.keys[row["customer_id"]].unknown_rows += 1

    @property
    def surely_taken(self) -> int:
        return sum(history.taken_rows for history in self.keys.values())

    @property
    def unknown(self) -> int:
        return sum(history.unknown_rows for history in self.keys.values())
