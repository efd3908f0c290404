"""The rules of the API reference for a row, written a second time, for the demo's comparison alone. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

_FIELDS = {"id", "value", "customer_id", "customer_email", "customer", "occurred_at", "accepted_at"}
_CUSTOMER_FIELDS = {"customer_id", "email", "first_name", "last_name", "phone_no", "devices"}
_DEVICE_FIELDS = {"device_type", "device_token"}
_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII).fullmatch
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE).fullmatch


class CustomerKind(StrEnum):
    """How an identifier names a customer."""

    ID = "customer_id"
    EMAIL = "customer_email"


@dataclass(frozen=True, slots=True)
class Identifier:
    """One name of a customer; an address is in lower case."""

    kind: CustomerKind
    text: str


@dataclass(frozen=True, slots=True)
class Target:
    """What a row sets: one attribute of one customer."""

    attribute: str
    customer: Identifier


@dataclass(frozen=True, slots=True)
class Judged:
    """A row that may be enqueued; ``others`` are further names that it gives to its customer."""

    target: Target
    value: str
    moment: float | None
    others: tuple[Identifier, ...]
    exported: bool


def type_takes(data_type: str, value: str) -> bool:
    """Whether an attribute of this type takes the value."""
    if data_type == "numeric":
        return _NUMBER(value) is not None
    if data_type == "timestamp":
        return _TIMESTAMP(value) is not None and _moment(value) is not None
    return True


def judge(row: object) -> Judged | None:
    """A row by the rules of the API reference; None if it breaks one."""
    if not isinstance(row, Mapping):
        return None
    fields = {("id" if name == "attribute" else name): value for name, value in row.items()}
    if len(fields) != len(row) or not fields.keys() <= _FIELDS:
        return None
    attribute, value = _attribute(fields.get("id")), _value(fields.get("value"))
    identifiers = _identifiers(fields)
    if attribute is None or value is None or not identifiers:
        return None
    moment: float | None = None
    for name in ("occurred_at", "accepted_at"):
        if fields.get(name) is not None:
            at = _moment(fields[name])
            if at is None:
                return None
            moment = at if name == "occurred_at" else moment
    exported = fields.get("accepted_at") is not None
    return Judged(Target(attribute, identifiers[0]), value, moment, tuple(identifiers[1:]), exported)


def _attribute(given: object) -> str | None:
    try:
        return str(UUID(given)) if isinstance(given, str) else None
    except ValueError:
        return None


def _value(given: object) -> str | None:
    match given:
        case str():
            return None if _half_surrogates(given) else given
        case bool():
            return "true" if given else "false"
        case int():
            return str(given)
        case float() if math.isfinite(given):
            return repr(given)
    return None


def _half_surrogates(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _identifiers(fields: Mapping[str, object]) -> list[Identifier]:
    """What names the customer, the name that counts first; empty if nothing does or something is wrong."""
    found: list[Identifier] = []
    nested = fields.get("customer")
    if nested is not None:
        if not isinstance(nested, Mapping) or not nested.keys() <= _CUSTOMER_FIELDS:
            return []
        profile = [nested.get(name) for name in ("first_name", "last_name", "phone_no")]
        if any(text is not None and not isinstance(text, str) for text in profile) or not _devices(nested):
            return []
        if nested.get("customer_id") is None and nested.get("email") is None:
            return []
    inner: Mapping[str, object] = nested if isinstance(nested, Mapping) else {}
    for kind, given in (
        (CustomerKind.ID, fields.get("customer_id")),
        (CustomerKind.EMAIL, fields.get("customer_email")),
        (CustomerKind.ID, inner.get("customer_id")),
        (CustomerKind.EMAIL, inner.get("email")),
    ):
        if given is None:
            continue
        if not isinstance(given, str) or not given or _half_surrogates(given):
            return []
        if kind is CustomerKind.EMAIL and not _is_email(given):
            return []
        found.append(Identifier(kind, given.lower() if kind is CustomerKind.EMAIL else given))
    if nested is None:
        # Beside each other, without the object that edits a customer, they join nothing: only the first one counts.
        return found[:1]
    return found


def _devices(customer: Mapping[str, object]) -> bool:
    devices = customer.get("devices")
    if devices is None:
        return True
    return isinstance(devices, list) and all(
        isinstance(device, Mapping)
        and device.keys() == _DEVICE_FIELDS
        and all(isinstance(text, str) and text for text in device.values())
        for device in devices
    )


def _is_email(text: str) -> bool:
    name, at, host = text.partition("@")
    return bool(name and at and host) and "@" not in host and not any(character.isspace() for character in text)


def _moment(given: object) -> float | None:
    if isinstance(given, str):
        try:
            at = datetime.fromisoformat(given.strip())
        except ValueError:
            return None
        return None if at.tzinfo is None else at.timestamp()
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    # Past 2**53 microseconds a double, and so JSON, is no longer exact.
    return float(given) if abs(given) < 2**53 / 1_000_000 else None
