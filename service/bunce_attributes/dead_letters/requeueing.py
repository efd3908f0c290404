"""Dead letters that were never updates → messages for the queue, and lines of an export. Pure."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any

from kombu.utils.json import dumps as kombu_dumps

from bunce_attributes.celery_message import update_message
from bunce_attributes.dead_letters.letters import DeadLetter, Kind, iso_from_ms, iso_from_us
from bunce_attributes.messages import Rows, Unreadable
from bunce_attributes.rows_file.json_rows import ROW_FIELD
from bunce_attributes.rows_file.records import LINE_COLUMN, REASON_COLUMN
from bunce_attributes.updates import InvalidUpdate, Lane, parse_update

ROWS_A_MESSAGE = 500


def messages_for(letter: DeadLetter, queue: str, *, force: bool) -> list[bytes] | Unreadable:
    """What goes into the queue when a row or message is replayed; why nothing can, unless forced.

    Each row keeps its place among the values of its key: it is as old as the dead letter.
    """
    if letter.kind is Kind.MESSAGE and isinstance(letter.message, Unreadable):
        return [letter.raw or b""] if force else letter.message
    rows = letter.rows
    if letter.kind is Kind.ROW and not force:
        try:
            parse_update(rows[0])
        except InvalidUpdate as error:
            return Unreadable(f"it is still invalid ({error.summary}): export it, mend it and enqueue it")
    lane = letter.message.lane if letter.kind is Kind.MESSAGE and isinstance(letter.message, Rows) else None
    encoded = [_tagged(_with_version(row, letter)) for row in rows]
    return [
        update_message(
            encoded[first : first + ROWS_A_MESSAGE],
            queue=queue,
            lane=lane or Lane(letter.lane or Lane.LIVE),
            enqueued_at=time.time(),
        )
        for first in range(0, len(encoded), ROWS_A_MESSAGE)
    ]


def export_lines(letter: DeadLetter, number: int) -> Iterator[str]:
    """A dead letter as JSON lines for ``enqueue``; none for a message that cannot be read.

    An update is its row with ``accepted_at`` (its version) and ``occurred_at``, if it has one. A row that was never
    valid has the form of a refused one: ``{"line", "reason", "row"}``, to be mended in ``row``.

    Args:
        number: which dead letter of the export this is, from 1.
    """
    match letter.kind:
        case Kind.UPDATE:
            moments = {"accepted_at": iso_from_us(letter.version_us)}
            if letter.occurred_at_us is not None:
                moments = {"occurred_at": iso_from_us(letter.occurred_at_us), **moments}
            yield _line({**letter.row, **moments})
        case Kind.ROW:
            yield _line(
                {LINE_COLUMN: number, REASON_COLUMN: _faults(letter), ROW_FIELD: _with_version(letter.row, letter)}
            )
        case Kind.MESSAGE:
            for row in letter.rows:
                yield _refused(number, letter.reason, row, letter)


def verbatim_line(letter: DeadLetter) -> str:
    """A message that cannot be read, as a JSON line: ``{"id", "died_at", "reason", "message"}``.

    Bytes that are no UTF-8 stand as ``message_base64`` instead.
    """
    raw = letter.raw or b""
    try:
        content = {"message": raw.decode()}
    except UnicodeDecodeError:
        content = {"message_base64": b64encode(raw).decode("ascii")}
    return _line({"id": letter.id, "died_at": iso_from_ms(letter.died_at_ms), "reason": letter.reason, **content})


def _refused(number: int, reason: str, row: Any, letter: DeadLetter) -> str:
    return _line({LINE_COLUMN: number, REASON_COLUMN: reason, ROW_FIELD: _with_version(row, letter)})


def _faults(letter: DeadLetter) -> str:
    told = [f"{fault['field']}: {fault['problem']}" + _got(fault.get("value")) for fault in letter.faults]
    return "; ".join(told) or letter.reason


def _got(value: object) -> str:
    return "" if value is None else f" (got {value})"


def _with_version(row: Any, letter: DeadLetter) -> Any:
    if not isinstance(row, Mapping) or "accepted_at" in row:
        return row
    return {**row, "accepted_at": iso_from_us(letter.version_us)}


def _tagged(row: Any) -> str:
    # kombu's own: a row that its decoder took from a message may hold dates, which only its encoder writes back.
    return str(kombu_dumps(row))  # type: ignore[no-untyped-call]  # kombu does not annotate it


def _line(content: object) -> str:
    # ASCII: a row that was never valid may hold half a surrogate pair.
    return json.dumps(content, default=str) + "\n"
