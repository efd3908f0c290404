"""The bodies the API answers with: the documented ones, and the broken ones on demand."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from bunce_attributes.sandbox.faults import AnswerRule, MalformedKind, Shapes
from bunce_attributes.sandbox.rows import NamedRow, ReadRows

Headers = tuple[tuple[bytes, bytes], ...]

CUSTOMERS_MESSAGE: Final = "Customer attributes successfully updated."
INVALID_MESSAGE: Final = "The given data was invalid."
LIMIT_MESSAGE: Final = "You have reached maximum request limit."
BAD_UUID_MESSAGE: Final = "ID param is not valid UUID"

_STATUS_MESSAGES: Final[Mapping[int, str]] = {
    400: "The request was unacceptable.",
    401: "No valid API key provided.",
    403: "This action is unauthorized.",
    404: "The resource does not exist.",
    413: "The request is too large.",
    422: INVALID_MESSAGE,
    429: LIMIT_MESSAGE,
}
_DEFAULT_MESSAGE: Final = "Something went wrong."
_JSON: Final[Headers] = ((b"content-type", b"application/json"),)
_HTML: Final[Headers] = ((b"content-type", b"text/html"),)
_NOT_JSON: Final = b"<html><body><h1>Please stand by</h1></body></html>"

encode_json: Final = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back. `cut` declares the whole body, sends half of it and closes the connection."""

    status: int
    body: bytes
    headers: Headers = _JSON
    trickle_seconds: float = 0.0
    cut: bool = False


@dataclass(frozen=True, slots=True)
class HangUp:
    """The connection is closed without an answer: in order, or by a reset."""

    reset: bool = False


Reply = Answer | HangUp


class Wording:
    """Writes messages in the shape that was asked for, with the caller's key in them if it was asked to."""

    def __init__(self, shapes: Shapes, key: str) -> None:
        self._shapes = shapes
        self._key = key

    def text(self, message: str) -> str:
        return f"{message} (key {self._key})" if self._shapes.echo_key else message

    def row_message(self, message: str) -> str | list[str] | dict[str, str]:
        text = self.text(message)
        match self._shapes.messages:
            case "string":
                return text
            case "list":
                return [text]
            case "object":
                return {"message": text}

    def failure(
        self, status: int, message: str | None = None, *, errors: Mapping[str, list[str]] | None = None
    ) -> Answer:
        """A whole-call failure with the documented body; `errors` are its details."""
        chosen = message if message is not None else _STATUS_MESSAGES.get(status, _DEFAULT_MESSAGE)
        body: dict[str, Any] = {"success": False, "message": self.text(chosen)}
        if errors:
            body["errors"] = errors
        return Answer(status, encode_json(body).encode())

    def processed(self, rows: list[Any], errors: Mapping[int, str]) -> dict[str, Any]:
        """The body of a processed call: the rows as they came, and the refused ones by index."""
        data: dict[str, Any] = {"saved": []}
        if self._shapes.saved == "rows":
            data["saved"] = [row for index, row in enumerate(rows) if index not in errors] if errors else rows
        if errors:
            dense = self._shapes.dense_errors == "list" and set(errors) == set(range(len(errors)))
            messages = {str(index): self.row_message(errors[index]) for index in sorted(errors)}
            data["errors"] = list(messages.values()) if dense else messages
        else:
            match self._shapes.no_errors:
                case "object":
                    data["errors"] = {}
                case "list":
                    data["errors"] = []
                case "null":
                    data["errors"] = None
                case "absent":
                    pass
        return {"success": True, "data": data, "message": CUSTOMERS_MESSAGE}

    def invalid(self, read: ReadRows) -> Answer:
        """The 422 for rows that break a rule."""
        if read.bad_uuid:
            return self.failure(422, BAD_UUID_MESSAGE)
        return self.failure(422, errors=read.problems)

    def on_demand(self, rule: AnswerRule, rows: list[NamedRow], ordinary: Answer) -> Answer:
        """The answer a fault rule asks for; a status of 2xx goes out with the body of the ordinary one."""
        if rule.body is not None:
            answer = Answer(rule.status, encode_json(rule.body).encode())
        elif rule.status < 300:
            answer = replace(ordinary, status=rule.status)
        else:
            named = {
                f"attributes.{index}.id": [self.text(f"The selected attributes.{index}.id is invalid.")]
                for index, row in enumerate(rows)
                if rule.name_rows and rule.fits(row)
            }
            answer = self.failure(rule.status, rule.message, errors=named)
        retry_after = rule.retry_after
        if rule.status == 429 and "retry_after" not in rule.model_fields_set:
            retry_after = "60"
        headers = dict(rule.headers)
        if retry_after is not None:
            headers["retry-after"] = retry_after
        return replace(answer, headers=(*_JSON, *((k.lower().encode(), v.encode()) for k, v in headers.items())))


def limited(wording: Wording, seconds: int) -> Answer:
    """The documented 429."""
    answer = wording.failure(429)
    return replace(answer, headers=(*_JSON, (b"retry-after", str(seconds).encode())))


def encoded(body: dict[str, Any], status: int = 200) -> Answer:
    return Answer(status, encode_json(body).encode())


def spoiled(kind: MalformedKind, body: dict[str, Any], row_count: int) -> Answer:
    """A broken answer to a processed request, made from the proper body of it."""
    data = body["data"] if isinstance(body["data"], dict) else {}
    errors = data.get("errors") or {}
    if isinstance(errors, list):
        errors = {str(index): message for index, message in enumerate(errors)}
    match kind:
        case "not_json":
            return Answer(200, _NOT_JSON, _HTML)
        case "not_an_object":
            return Answer(200, b"[]")
        case "no_content":
            return Answer(204, b"", ())
        case "no_data":
            return encoded({"success": True, "message": body["message"]})
        case "success_false":
            return encoded({**body, "success": False})
        case "index_out_of_range":
            bogus: dict[str, Any] = {**errors, str(row_count): "The value could not be saved."}
            return encoded({**body, "data": {**data, "errors": bogus}})
        case "index_not_number":
            bogus = {**errors, "first": "The value could not be saved."}
            return encoded({**body, "data": {**data, "errors": bogus}})
        case "truncated":
            return replace(encoded(body), cut=True)
