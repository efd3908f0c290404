"""What an update is: the row of the API reference, its key, and what is wrong with a row that is none.

Pure: no clock, no input or output. Producers and workers share it, so it needs pydantic alone.

Rules without another source are those of the API reference for ``POST /attributes/customers``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from hashlib import blake2b
from json.encoder import encode_basestring
from math import isfinite
from reprlib import Repr
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints, ValidationError, model_validator
from pydantic_core import PydanticCustomError

DIGEST_BYTES = 16
"""128 bits: two keys of a billion collide with a chance below 1 in 10**20."""

TIMESTAMP_FORMAT = "YYYY-MM-DDTHH:MM:SSZ"
_SHOWN_CHARACTERS = 60
_MOST_FAULTS = 100
_LARGEST_EXPONENT = 10_000
_BRIEF = Repr()
_BRIEF.maxlevel, _BRIEF.maxstring, _BRIEF.maxlong, _BRIEF.maxother = 3, _SHOWN_CHARACTERS, _SHOWN_CHARACTERS, 200
_CANONICAL_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+").fullmatch


class Lane(StrEnum):
    """Which rows go first: today's changes before an import, which always keeps a share of the calls."""

    LIVE = "live"
    BULK = "bulk"


class IdentityKind(StrEnum):
    """What names the customer; part of the key, so that an id that looks like an address is no address."""

    CUSTOMER_ID = "id"
    EMAIL = "email"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a row: the field, what is wrong and how to mend it, the value (shortened)."""

    field: str
    problem: str
    value: str | None = None

    def __str__(self) -> str:
        shown = "" if self.value is None else f" (got {self.value})"
        return f"{self.field}: {self.problem}{shown}"


class InvalidUpdate(ValueError):  # noqa: N818 - reads as what it is where it is caught: an invalid update
    """A row that is no update. ``faults`` names every fault, not only the first.

    ``str()`` shows the values, which are personal data; :attr:`summary` does not.
    """

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        super().__init__("; ".join(str(fault) for fault in faults))
        self.faults = faults

    @property
    def summary(self) -> str:
        """The faults without any value of the row, for logs and metrics."""
        return "; ".join(f"{fault.field}: {fault.problem}" for fault in self.faults)


def shortened(value: object) -> str:
    """`repr` of a value, cut to 60 characters; of what is deep or long only the beginning is looked at."""
    try:
        text = repr(value[: _SHOWN_CHARACTERS + 1]) if isinstance(value, str) else _BRIEF.repr(value)
    except ValueError:
        text = f"{type(value).__name__} with too many digits"
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


def timestamp_value(moment: datetime) -> str:
    """A moment as the API wants it in an attribute of type timestamp: UTC, whole seconds, ``Z``.

    Raises:
        ValueError: the moment has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError("a datetime needs a time zone: which moment a naive one means is anybody's guess")
    # Not strftime: its %Y does not pad years below 1000 on every platform.
    return f"{moment.astimezone(UTC).replace(tzinfo=None, microsecond=0).isoformat()}Z"


def _attribute_id(value: object) -> str:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, str):
        if _CANONICAL_UUID(value):
            return value
        try:
            return str(UUID(value))
        except ValueError:
            pass
    raise PydanticCustomError(
        "attribute_id", "must be the attribute's UUID, for example 9f171295-6935-400c-af6b-fd628a46bc71"
    )


def _value(value: object) -> object:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        try:
            return str(value)
        except ValueError:
            raise PydanticCustomError("value", "has too many digits for a number; send it as a string") from None
    if isinstance(value, float):
        if isfinite(value):
            return repr(value)
        raise PydanticCustomError("value", "must be a finite number")
    if isinstance(value, Decimal):
        exponent = value.as_tuple().exponent
        if isinstance(exponent, int) and abs(exponent) > _LARGEST_EXPONENT:
            # A few bytes that would be gigabytes when they are written out.
            raise PydanticCustomError("value", "has too many digits for a number; send it as a string")
        if value.is_finite():
            return f"{value:f}"
        raise PydanticCustomError("value", "must be a finite number")
    if isinstance(value, datetime):
        try:
            return timestamp_value(value)
        except (ValueError, OverflowError):
            raise PydanticCustomError(
                "value", "must be a datetime with a time zone, for example datetime.now(timezone.utc)"
            ) from None
    raise PydanticCustomError("value", "must be a string, a number or a boolean")


def _email(value: object) -> object:
    if isinstance(value, str) and not _EMAIL(value):
        raise PydanticCustomError("email", "must be an e-mail address, for example ada@example.com")
    return value


def _moment_us(value: object) -> object:
    """Microseconds since 1970 from ISO 8601 with an offset or from Unix seconds."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            raise PydanticCustomError(
                "moment", "must be ISO 8601 with an offset, for example 2026-01-31T12:00:00Z, or Unix seconds"
            ) from None
        value = moment
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise PydanticCustomError("moment", "needs an offset, for example 2026-01-31T12:00:00Z")
        since = value - datetime(1970, 1, 1, tzinfo=UTC)
        return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    if isinstance(value, int | float) and not isinstance(value, bool):
        # 2**53 microseconds: the last whole number that a double, and so a Lua script, holds exactly.
        if abs(value) < 2**53 / 1_000_000:
            return round(value * 1_000_000)
        raise PydanticCustomError("moment", "must be Unix seconds (these look like milliseconds or more)")
    raise PydanticCustomError("moment", "must be ISO 8601 with an offset, or Unix seconds")


NonEmpty = Annotated[str, StringConstraints(min_length=1, strict=True)]
# A length constraint of any kind makes pydantic refuse half surrogate pairs, which no encoder could send.
Text = Annotated[str, StringConstraints(min_length=0, strict=True)]
Email = Annotated[str, StringConstraints(min_length=1, strict=True), BeforeValidator(_email)]
Moment = Annotated[int, BeforeValidator(_moment_us)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Device(_Strict):
    """A device of a customer; the API names ``ios`` and ``android`` and leaves the list open."""

    device_type: NonEmpty
    device_token: NonEmpty


class Customer(_Strict):
    """The ``customer`` object of a row: creates or edits that customer."""

    customer_id: NonEmpty | None = None
    email: Email | None = None
    first_name: Text | None = None
    last_name: Text | None = None
    phone_no: Text | None = None
    devices: tuple[Device, ...] | None = None

    @model_validator(mode="after")
    def _names_a_customer(self) -> Customer:
        if self.customer_id is None and self.email is None:
            raise PydanticCustomError("identity", "needs customer_id or email")
        return self


@dataclass(frozen=True, slots=True)
class UpdateKey:
    """What an update sets: one attribute of one customer."""

    attribute: str
    kind: IdentityKind
    identity: str

    def digest(self) -> bytes:
        """16 bytes that stand for the key wherever a name is needed, so that no name holds an address."""
        return blake2b(f"{self.attribute}\0{self.kind}\0{self.identity}".encode(), digest_size=DIGEST_BYTES).digest()


class AttributeUpdate(_Strict):
    """One value of one attribute for one customer: a row of the API call.

    ``occurred_at`` (microseconds since 1970; given as ISO 8601 with an offset or as Unix seconds) orders the
    values of a key and is never sent. ``accepted_at`` stands only in the export of a dead letter: the moment
    at which the service took the value in, so that enqueueing the export never revives an old value.
    """

    id: Annotated[str, BeforeValidator(_attribute_id)]
    value: Annotated[Text, BeforeValidator(_value)]
    customer_id: NonEmpty | None = None
    customer_email: Email | None = None
    customer: Customer | None = None
    occurred_at: Moment | None = None
    accepted_at: Moment | None = None

    @model_validator(mode="after")
    def _names_a_customer(self) -> AttributeUpdate:
        if self.customer_id is None and self.customer_email is None and self.customer is None:
            raise PydanticCustomError("identity", "needs customer_id, customer_email or customer")
        return self

    @property
    def key(self) -> UpdateKey:
        """The key: identity from ``customer_id``, else ``customer_email``, else ``customer``, in this order."""
        customer_id, email = self.customer_id, self.customer_email
        if customer_id is None and email is None and self.customer is not None:
            customer_id, email = self.customer.customer_id, self.customer.email
        if customer_id is not None:
            return UpdateKey(self.id, IdentityKind.CUSTOMER_ID, customer_id)
        assert email is not None
        return UpdateKey(self.id, IdentityKind.EMAIL, email.lower())

    def details_json(self) -> str:
        """The ``customer`` object as compact JSON, empty if there is none."""
        return "" if self.customer is None else self.customer.model_dump_json(exclude_none=True)

    def row_json(self) -> str:
        """The row as it is sent: compact JSON, ``id`` first, ``customer`` last.

        The order is part of the outbox' layout: its scripts cut the attribute's id and the customer details
        out of this text by position.
        """
        parts = [f'{{"id":"{self.id}","value":{encode_basestring(self.value)}']
        if self.customer_id is not None:
            parts.append(f'"customer_id":{encode_basestring(self.customer_id)}')
        if self.customer_email is not None:
            parts.append(f'"customer_email":{encode_basestring(self.customer_email)}')
        if self.customer is not None:
            parts.append(f'"customer":{self.details_json()}')
        return ",".join(parts) + "}"


def parse_update(row: object) -> AttributeUpdate:
    """Judge one row.

    Raises:
        InvalidUpdate: with every fault of the row.
    """
    # A dict is known at once; any other mapping is asked for, which takes as long as the judging.
    if not isinstance(row, dict) and not isinstance(row, Mapping):
        raise InvalidUpdate((Fault("row", "must be an object with id, value and a customer", shortened(row)),))
    try:
        return AttributeUpdate.model_validate(row)
    except ValidationError as error:
        raise InvalidUpdate((*_faults(error), *_no_identity(error, row))) from None
    except RecursionError:
        raise InvalidUpdate((Fault("row", "is nested too deeply"),)) from None


_FIELD_NAMES = {
    "AttributeUpdate": "id, value, customer_id, customer_email, customer, occurred_at",
    "Customer": "customer_id, email, first_name, last_name, phone_no, devices",
    "Device": "device_type, device_token",
}
_PLAIN_PROBLEMS = {
    "missing": "is missing",
    "string_type": "must be a string",
    "string_too_short": "must not be empty",
    "string_unicode": "has a character that is no Unicode (half of a surrogate pair)",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "tuple_type": "must be a list",
}


def _no_identity(error: ValidationError, row: Mapping[Any, Any]) -> tuple[Fault, ...]:
    # pydantic judges the whole row only when each field is sound; a user wants every fault at once.
    named = any(row.get(field) is not None for field in ("customer_id", "customer_email", "customer"))
    told = any(item["type"] == "identity" for item in error.errors(include_url=False, include_context=False))
    return () if named or told else (Fault("row", "needs customer_id, customer_email or customer"),)


def _faults(error: ValidationError) -> list[Fault]:
    if error.error_count() > _MOST_FAULTS:
        # Told one by one they would be many times the size of the row.
        known = _FIELD_NAMES["AttributeUpdate"]
        return [Fault("row", f"has {error.error_count()} faults, too many to name; known fields are {known}")]
    faults = []
    for item in error.errors(include_url=False, include_context=False):
        path = item["loc"]
        kind = item["type"]
        # A name may hold any character; repr leaves none that a terminal or an encoder stumbles over.
        field = repr(".".join(str(part) for part in path))[1:-1] or "row"
        if kind == "extra_forbidden":
            model = "AttributeUpdate" if len(path) == 1 else "Device" if "devices" in path else "Customer"
            faults.append(Fault(field[:_SHOWN_CHARACTERS], f"is no field of the API; known are {_FIELD_NAMES[model]}"))
            continue
        problem = _PLAIN_PROBLEMS.get(kind, item["msg"])
        shows_value = kind not in {"missing", "identity", "string_unicode"}
        faults.append(Fault(field, problem, shortened(item["input"]) if shows_value else None))
    return faults
