"""What can happen to a message and to a call: closed sets of frozen types.

``answers.py`` makes the outcomes of calls, ``decisions.py`` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Processed:
    """2xx and readable: rows in ``refusals`` (index → message) were refused, all others saved."""

    status: int
    refusals: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class RefusedRows:
    """400 or 422 that names rows: only these are at fault; nothing was saved."""

    status: int
    refusals: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class RefusedCall:
    """400 or 422 that names no row: some row of the call is at fault; nothing was saved."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class TooLarge:
    """413."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """2xx whose body does not say what was saved; nothing is assumed saved."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class RateLimited:
    """429: nobody may call for ``retry_after_seconds``."""

    status: int
    retry_after_seconds: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The server or the way to it failed: 5xx, 408, 425, a timeout, a broken connection, TLS.

    ``unknown`` tells whether the server may have applied the call, or may yet apply it.
    ``status`` is 0 without an answer.
    """

    status: int
    message: str
    unknown: bool
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Misconfigured:
    """401, 403, 404, a redirect or any other status that says that the caller, not a row, is wrong."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class TakenMessage:
    """What became of one message, for those who follow it; no row is in it.

    ``rows`` were in it, ``invalid`` of them became dead letters. ``reason`` tells why none of them was taken in; it is
    empty if any was. ``claimed_at`` is in Unix seconds on the reader's clock.
    """

    task_id: str
    rows: int
    invalid: int
    reason: str
    claimed_at: float


CallOutcome = Processed | RefusedRows | RefusedCall | TooLarge | Unreadable | RateLimited | Failed | Misconfigured
