"""The bytes of a Celery message → rows, or why it is unreadable. Pure, and it never raises on any bytes.

Format: Celery message protocol 2 on kombu's Redis transport (docs/producing.md). JSON only; bodies may be plain or
base64, and compressed with zlib, bzip2 or lzma. A compressed body may not unpack to more than 64 MiB.
"""

from __future__ import annotations

import bz2
import json
import lzma
import zlib
from base64 import b64decode
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from kombu.exceptions import KombuError
from kombu.serialization import loads as kombu_loads

from bunce_attributes.celery_message import TASK_NAME
from bunce_attributes.updates import Lane

MOST_BODY_BYTES = 64 * 1024 * 1024
_LONGEST_ID = 100


@dataclass(frozen=True, slots=True)
class Rows:
    """A message that was understood. Rows are not judged yet; moments are Unix seconds, None if absent."""

    rows: list[Any]
    lane: Lane
    eta: float | None = None
    expires: float | None = None
    enqueued_at: float | None = None
    task_id: str = ""
    """As the producer named it; empty if it is no ordinary id."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A message that is none; ``reason`` names the fault and the mend, and holds no data of the message."""

    reason: str


class _FaultError(Exception):
    pass


def message_id(raw: bytes) -> str:
    """The task id of a message that is otherwise unreadable; empty if it has none."""
    try:
        task_id = json.loads(raw)["headers"]["id"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    return task_id if isinstance(task_id, str) and len(task_id) <= _LONGEST_ID else ""


def read_message(raw: bytes) -> Rows | Unreadable:
    """Judge one message of the queue."""
    try:
        return _read(raw)
    except _FaultError as fault:
        return Unreadable(str(fault))
    except RecursionError:
        return Unreadable("The message is nested too deeply.")
    except Exception:
        # Bytes of any kind lie in a queue: what nobody foresaw must not stop the messages behind it.
        return Unreadable("The message cannot be read.")


def _read(raw: bytes) -> Rows:
    envelope = _load(raw, "The message is not JSON; write a Celery message (protocol 2).")
    if not isinstance(envelope, dict):
        raise _FaultError("The message is not a JSON object; write a Celery message (protocol 2).")
    headers = envelope.get("headers")
    properties = envelope.get("properties")
    if not isinstance(headers, dict) or "task" not in headers:
        raise _FaultError("The message has no header named task; set Celery's task_protocol to 2.")
    if headers["task"] != TASK_NAME:
        raise _FaultError(f"The message is for another task; only {TASK_NAME} belongs on this queue.")
    body = _body(envelope, headers, properties if isinstance(properties, dict) else {})
    args, kwargs, embed = _arguments(body)
    if any(embed.get(name) for name in ("callbacks", "errbacks", "chain", "chord")):
        raise _FaultError("The message has callbacks (link, chain or chord), which are never run on this queue.")
    rows, lane = _call(args, kwargs)
    task_id = headers.get("id")
    return Rows(
        rows,
        lane,
        eta=_moment(headers.get("eta"), "eta"),
        expires=_moment(headers.get("expires"), "expires"),
        enqueued_at=_stamp(headers.get("enqueued_at")),
        task_id=task_id if isinstance(task_id, str) and len(task_id) <= _LONGEST_ID else "",
    )


def _load(data: bytes | str, fault: str) -> Any:
    try:
        return _loads(data)
    except ValueError:
        raise _FaultError(fault) from None


def _loads(text: bytes | str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        # Python refuses integers of more than 4,300 digits; one such value is no reason to lose its neighbours.
        return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 4_000 else Decimal(digits))


def _body(envelope: dict[str, Any], headers: dict[str, Any], properties: dict[str, Any]) -> Any:
    body = envelope.get("body")
    if not isinstance(body, str):
        raise _FaultError("The body of the message is not a string.")
    encoding = properties.get("body_encoding")
    if encoding not in (None, "base64", "utf-8"):
        raise _FaultError("The body_encoding of the message is neither base64 nor utf-8.")
    data = body.encode("utf-8", errors="surrogatepass")
    if encoding == "base64":
        try:
            data = b64decode(data, validate=True)
        except ValueError:
            raise _FaultError("The body of the message is not base64, as its body_encoding says.") from None
    content_type = envelope.get("content-type", "application/json")
    if content_type not in ("application/json", "json"):
        raise _FaultError("The content-type of the message is not application/json; set task_serializer to json.")
    compression = headers.get("compression")
    if compression:
        data = _decompressed(data, compression)
    text_encoding = envelope.get("content-encoding") or "utf-8"
    if b"__type__" not in data:
        # kombu's decoder only differs where values are tagged with their type, and calls a hook for each object.
        try:
            return _loads(data.decode(text_encoding if isinstance(text_encoding, str) else "utf-8"))
        except (ValueError, LookupError):
            raise _FaultError("The body of the message is not JSON.") from None
    try:
        return kombu_loads(data, "application/json", text_encoding, accept={"application/json"})
    except (KombuError, ValueError, LookupError, TypeError, ArithmeticError):
        raise _FaultError("The body of the message is not JSON.") from None


def _decompressed(data: bytes, compression: object) -> bytes:
    try:
        match compression:
            case "application/x-gzip" | "gzip" | "zlib":
                unzip = zlib.decompressobj(zlib.MAX_WBITS | 32)
                text, more = unzip.decompress(data, MOST_BODY_BYTES), bool(unzip.unconsumed_tail)
            case "application/x-bz2" | "bzip2" | "bzip":
                bunzip = bz2.BZ2Decompressor()
                text = bunzip.decompress(data, MOST_BODY_BYTES)
                more = not bunzip.eof and len(text) >= MOST_BODY_BYTES
            case "application/x-lzma" | "lzma" | "xz":
                unxz = lzma.LZMADecompressor(memlimit=MOST_BODY_BYTES * 2)
                text = unxz.decompress(data, MOST_BODY_BYTES)
                more = not unxz.eof and len(text) >= MOST_BODY_BYTES
            case _:
                raise _FaultError("The compression of the message is not supported; use zlib, bzip2 or lzma, or none.")
    except (zlib.error, OSError, EOFError, ValueError, lzma.LZMAError):
        raise _FaultError("The body of the message cannot be decompressed.") from None
    if more:
        raise _FaultError("The body of the message unpacks to more than 64 MiB; send fewer rows a message.")
    return text


def _arguments(body: Any) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
    if not isinstance(body, list) or not 2 <= len(body) <= 3:
        raise _FaultError("The body of the message is not [args, kwargs, embed]; set Celery's task_protocol to 2.")
    args, kwargs, embed = body[0], body[1], body[2] if len(body) == 3 else None
    if not isinstance(args, list) or not isinstance(kwargs, dict | None) or not isinstance(embed, dict | None):
        raise _FaultError("The body of the message is not [args, kwargs, embed]; set Celery's task_protocol to 2.")
    return args, kwargs or {}, embed or {}


def _call(args: list[Any], kwargs: dict[str, Any]) -> tuple[list[Any], Lane]:
    if (
        len(args) > 2
        or set(kwargs) - {"rows", "lane"}
        or ("rows" in kwargs and args)
        or ("lane" in kwargs and len(args) == 2)
    ):
        raise _FaultError(f'The arguments of the message are not those of {TASK_NAME}(rows, lane="live").')
    if not args and "rows" not in kwargs:
        raise _FaultError(f'The message has no rows: the arguments are {TASK_NAME}(rows, lane="live").')
    rows = args[0] if args else kwargs["rows"]
    lane = args[1] if len(args) == 2 else kwargs.get("lane", "live")
    if lane not in ("live", "bulk"):
        raise _FaultError("The lane of the message is neither live nor bulk.")
    return (rows if isinstance(rows, list) else [rows]), Lane(lane)


def _moment(value: object, name: str) -> float | None:
    if value is None:
        return None
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC).timestamp()
    except (ValueError, OverflowError, OSError):
        pass
    raise _FaultError(f"The {name} of the message is no ISO 8601 moment.")


def _stamp(value: object) -> float | None:
    valid = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 2**40
    return float(value) if valid and isinstance(value, int | float) else None
