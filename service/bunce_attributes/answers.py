"""The API's answer to a call → what happened to the call. The only place that knows the answer's wire format.

Pure. Source of the documented shapes: the API reference. It is silent about the shape of an empty ``errors``
(a PHP back end writes ``[]`` for an empty map and a list for a map with the keys 0…n-1) and of a message; every
reading is accepted, and what allows none is :class:`Unreadable`, so that nothing is assumed saved.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Any

from bunce_attributes.outcomes import (
    CallOutcome,
    Failed,
    Misconfigured,
    Processed,
    RateLimited,
    RefusedCall,
    RefusedRows,
    TooLarge,
    Unreadable,
)

PENALTY_SECONDS = 60.0
"""The documented penalty after the limit; taken where ``Retry-After`` is missing or makes no sense."""
LONGEST_RETRY_AFTER_SECONDS = 3600.0
SHORTEST_RETRY_AFTER_SECONDS = 1.0
MESSAGE_CHARACTERS = 300

_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]*)?").fullmatch
_ROW_NAME = re.compile(r"(?:attributes)?[.\[]?(\d{1,9})(?:[.\]].*)?", re.DOTALL).fullmatch


@dataclass(frozen=True, slots=True)
class Answer:
    """What came over the wire. Header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _NoReadingError(Exception):
    pass


def read_answer(answer: Answer, rows: int, now: datetime) -> CallOutcome:
    """What an answer means for a call of ``rows`` rows; ``now`` places a ``Retry-After`` that is a date."""
    status = answer.status
    if 200 <= status < 300:
        try:
            return Processed(status, _refusals(answer.body, rows))
        except _NoReadingError as error:
            return Unreadable(status, str(error))
    message = _message_of(answer.body) or f"HTTP {status}"
    if status in {400, 422}:
        named = _named_rows(answer.body, rows)
        return RefusedRows(status, named) if named else RefusedCall(status, message)
    if status == 413:
        return TooLarge(status, message)
    if status == 429:
        asked = retry_after_seconds(answer.headers, now)
        return RateLimited(status, PENALTY_SECONDS if asked is None else asked)
    if status >= 500 or status in {408, 425}:
        asked = retry_after_seconds(answer.headers, now) if status == 503 else None
        return Failed(status, message, unknown=True, retry_after_seconds=asked)
    return Misconfigured(status, message)


def retry_after_seconds(headers: Mapping[str, str], now: datetime) -> float | None:
    """How long ``Retry-After`` asks to wait; None if it is missing or absurd.

    Seconds or an HTTP date (RFC 9110, 10.2.3). 0 and a date that has passed mean the shortest pause, 1 s, lest
    a server that is wrong about itself be stormed; a negative number, one above an hour and anything unreadable
    are absurd.
    """
    text = headers.get("retry-after", "").strip()
    if _NUMBER(text):
        seconds = float(text)
        if not isfinite(seconds) or seconds < 0:
            return None
    else:
        moment = _http_date(text)
        if moment is None:
            return None
        seconds = (moment - _server_time(headers, now)).total_seconds()
    if seconds > LONGEST_RETRY_AFTER_SECONDS:
        return None
    return max(seconds, SHORTEST_RETRY_AFTER_SECONDS)


def _server_time(headers: Mapping[str, str], now: datetime) -> datetime:
    # The server's own clock, so that a worker whose clock is off by minutes does not wait minutes too long.
    return _http_date(headers.get("date", "")) or now


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def message_text(message: object) -> str:
    """A message of the API (a string, a list of strings or an object) as one line, cut to 300 characters."""
    try:
        text = _flat(message)
    except RecursionError:
        text = "a message that is nested too deeply to be shown"
    # Half a surrogate pair: JSON can write it, UTF-8 and so Redis cannot.
    text = " ".join(text.split()).encode(errors="replace").decode()
    return text if len(text) <= MESSAGE_CHARACTERS else f"{text[: MESSAGE_CHARACTERS - 1]}…"


def _flat(message: object) -> str:
    if isinstance(message, str):
        return message
    if isinstance(message, list):
        return "; ".join(_flat(part) for part in message)
    if isinstance(message, dict):
        return "; ".join(f"{name}: {_flat(part)}" for name, part in message.items())
    return json.dumps(message)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _message_of(body: bytes) -> str:
    document = _json(body)
    if not isinstance(document, dict):
        return ""
    for name in ("message", "error", "errors"):
        if document.get(name):
            return message_text(document[name])
    return ""


def _refusals(body: bytes, rows: int) -> dict[int, str]:
    document = _json(body)
    if not isinstance(document, dict):
        raise _NoReadingError("the answer is not a JSON object")
    if document.get("success") is False:
        raise _NoReadingError("the answer says success: false")
    data = document.get("data")
    if not isinstance(data, dict):
        raise _NoReadingError("the answer has no data")
    errors = data.get("errors")
    if errors is None:
        return {}
    if isinstance(errors, list):
        errors = {str(index): message for index, message in enumerate(errors)}
    if not isinstance(errors, dict):
        raise _NoReadingError("data.errors is neither a map nor a list")
    refusals: dict[int, str] = {}
    for name, message in errors.items():
        if not (name.isascii() and name.isdigit()):
            raise _NoReadingError("data.errors names a row by something that is no index")
        if len(name) > 9 or int(name) >= rows:
            raise _NoReadingError("data.errors names a row that was not in the call")
        if message is None:
            raise _NoReadingError("data.errors names a row without a message")
        refusals[int(name)] = message_text(message)
    return refusals


def _named_rows(body: bytes, rows: int) -> dict[int, str]:
    """Row index → message, empty unless the body names rows of this call and nothing else."""
    document = _json(body)
    if not isinstance(document, dict):
        return {}
    for place in (document, document.get("error"), document.get("data")):
        if isinstance(place, dict):
            named = _row_names(place.get("errors"), rows)
            if named:
                return named
    return _row_names(document.get("error"), rows)


def _row_names(errors: object, rows: int) -> dict[int, str]:
    if not isinstance(errors, dict):
        return {}
    named: dict[int, str] = {}
    for name, message in errors.items():
        match = _ROW_NAME(name)
        if match is None or int(match[1]) >= rows:
            return {}
        index = int(match[1])
        text = message_text(message)
        named[index] = message_text(f"{named[index]}; {text}") if index in named else text
    return named
