"""What a dead letter is, and how it lies in Redis (JSON; ``outbox/lua/_common.lua`` writes it). Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any

from bunce_attributes.messages import Rows, Unreadable, read_message

_HEAD = re.compile(r'"kind":"(\w+)","died_at_ms":(\d+), ?"reason_class": ?"(\w+)"')


class Kind(StrEnum):
    """What was given up on."""

    UPDATE = "update"
    """An update that the API refused."""
    ROW = "row"
    """A row that was never valid."""
    MESSAGE = "message"
    """A message that could not be read, or had expired; it counts as one row."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One refusal by the API, or the moment of a replay. ``status`` is 0 without an answer."""

    at_ms: int
    status: int
    message: str
    replayed: bool = False


@dataclass(frozen=True)
class DeadLetter:
    """One dead letter. Moments are milliseconds (``_ms``) or microseconds (``_us``) since 1970, None if unknown.

    ``row`` is what was given up on (of a valid update as it was sent), ``raw`` the message verbatim; both are
    personal data, and `repr` shows neither.
    """

    id: str
    kind: Kind
    died_at_ms: int
    reason_class: str
    reason: str
    attribute: str | None = None
    lane: str | None = None
    accepted_at_us: int | None = None
    occurred_at_us: int | None = None
    waiting_since_ms: int | None = None
    attempts: tuple[Attempt, ...] = ()
    faults: tuple[Mapping[str, Any], ...] = ()
    row: Any = None
    raw: bytes | None = None

    def __repr__(self) -> str:
        return f"DeadLetter({self.id}, {self.kind}, {self.reason_class})"

    @property
    def version_us(self) -> int:
        """How new its value is: no replay and no export makes it newer."""
        return self.died_at_ms * 1000 if self.accepted_at_us is None else self.accepted_at_us

    @cached_property
    def message(self) -> Rows | Unreadable:
        """The message taken apart: one that had merely expired has rows."""
        return read_message(self.raw or b"")

    @property
    def rows(self) -> list[Any]:
        """Every row in it; none of a message that cannot be read."""
        if self.kind is not Kind.MESSAGE:
            return [self.row]
        return self.message.rows if isinstance(self.message, Rows) else []


def parse_letter(letter_id: str, text: bytes, raw: bytes | None) -> DeadLetter:
    """A dead letter as it lies in Redis. A row that no parser takes is missing from the result, nothing else."""
    try:
        stored = json.loads(text)
    except (ValueError, RecursionError):
        head = _HEAD.search(text[:500].decode("utf-8", "replace"))
        kind, died_at, reason_class = head.groups() if head is not None else ("row", letter_id[:13], "invalid")
        reason = "It cannot be shown: it is nested too deeply, or damaged."
        return DeadLetter(letter_id, Kind(kind), int(died_at), reason_class, reason, raw=raw)
    row = stored.get("row")
    attribute = stored.get("attribute")
    if attribute is None and isinstance(row, Mapping) and isinstance(row.get("id"), str):
        attribute = row["id"]
    return DeadLetter(
        id=letter_id,
        kind=Kind(stored["kind"]),
        died_at_ms=int(stored["died_at_ms"]),
        reason_class=stored["reason_class"],
        reason=stored["reason"],
        attribute=attribute,
        lane=stored.get("lane"),
        accepted_at_us=stored.get("accepted_at_us"),
        occurred_at_us=stored.get("occurred_at_us"),
        waiting_since_ms=stored.get("waiting_since_ms"),
        attempts=tuple(_attempt(attempt) for attempt in stored.get("attempts") or ()),
        faults=tuple(stored.get("faults") or ()),
        row=row,
        raw=raw,
    )


def _attempt(stored: Mapping[str, Any]) -> Attempt:
    return Attempt(
        int(stored.get("at_ms", 0)),
        int(stored.get("status", 0)),
        str(stored.get("message", "")),
        replayed=bool(stored.get("replayed")),
    )


def iso_from_us(us: int) -> str:
    """Microseconds since 1970 as ISO 8601 in UTC, with all six digits: versions may differ in the last one."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def iso_from_ms(ms: int) -> str:
    """Milliseconds since 1970 as ISO 8601 in UTC, whole seconds."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
    return f"{moment.replace(tzinfo=None, microsecond=0).isoformat()}Z"
