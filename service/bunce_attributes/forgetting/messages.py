"""A message without the rows of one customer; its other rows stay as they are, in their order. Pure."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from dataclasses import dataclass
from typing import Any

from kombu.utils.json import dumps as kombu_dumps

from bunce_attributes.celery_message import HIDDEN, update_message
from bunce_attributes.identifiers import Identifiers
from bunce_attributes.messages import Rows, Unreadable
from bunce_attributes.updates import Lane


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What becomes of a message that names the customer.

    ``removed``: rows that left it and had not been taken in; ``cursor``: rows of the new message that had.
    ``empty``: no row is left. ``whole``: it could not be taken apart and was emptied.
    """

    message: bytes
    removed: int
    cursor: int
    empty: bool
    whole: bool = False


def without_customer(
    raw: bytes, message: Rows | Unreadable, customer: Identifiers, cursor: int = 0
) -> Rewritten | None:
    """The message without the customer's rows; None if it does not name the customer.

    Args:
        message: the same, taken apart.
        cursor: how many of its rows were taken in before.
    """
    if isinstance(message, Unreadable):
        if not customer.found_in(raw):
            return None
        return Rewritten(_nothing(), 1, 0, empty=True, whole=True)
    taken = [row for row in message.rows[:cursor] if not customer.named_in(row)]
    waiting = [row for row in message.rows[cursor:] if not customer.named_in(row)]
    rows = taken + waiting
    if len(rows) == len(message.rows):
        return None
    removed = len(message.rows) - cursor - len(waiting)
    return Rewritten(_with_rows(raw, message, rows), removed, len(taken), empty=not rows)


def attributes_in(message: Rows | Unreadable) -> set[str]:
    """The attribute ids in a message, as they stand there."""
    rows = message.rows if isinstance(message, Rows) else []
    return {row["id"] for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)}


def _with_rows(raw: bytes, message: Rows, rows: list[Any]) -> bytes:
    try:
        envelope = json.loads(raw)
    except ValueError:
        # A number that Python does not take; nothing of such an envelope is worth more than its rows.
        envelope = json.loads(_nothing())
    body = str(kombu_dumps([[rows], {"lane": message.lane.value}, None]))  # type: ignore[no-untyped-call]  # kombu does not annotate it
    envelope["body"] = b64encode(body.encode()).decode("ascii")
    envelope["content-type"], envelope["content-encoding"] = "application/json", "utf-8"
    # What Celery's tools would show of the arguments held the customer's data too.
    envelope["headers"].update(argsrepr=HIDDEN, kwargsrepr=HIDDEN)
    envelope["headers"].pop("compression", None)
    properties = envelope.get("properties")
    envelope["properties"] = {**(properties if isinstance(properties, dict) else {}), "body_encoding": "base64"}
    return json.dumps(envelope).encode()


def _nothing() -> bytes:
    return update_message([], queue="", lane=Lane.LIVE, enqueued_at=time.time())
