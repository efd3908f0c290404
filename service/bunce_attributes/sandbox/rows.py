"""The rules for a row, and for its value by the attribute's type."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from bunce_attributes.sandbox.config import DataType

IdentityKind = Literal["customer_id", "customer_email"]

TIMESTAMP_MESSAGE: Final = (
    "Provided value is not a valid format for timestamp attribute. "
    "ISO 8601 format is required. Example: 2022-01-01T12:00:00+00:00"
)
NUMERIC_MESSAGE: Final = "Provided value is not a valid format for numeric attribute. Example: 12.5"
UNKNOWN_ATTRIBUTE_MESSAGE: Final = "The attribute does not exist."

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)*")
_TIMESTAMP: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)

_CUSTOMER_TEXTS: Final = ("first_name", "last_name", "phone_no")


class NamedRow(NamedTuple):
    """What a row sets, named as the row names its customer. Parts that the row lacks are empty."""

    attribute_id: str
    kind: IdentityKind
    identity: str
    value: str


@dataclass(slots=True)
class ReadRows:
    """The rows of one call, all of them and in order, valid or not.

    Attributes:
        customers: Index of a row → its `customer` object.
        problems: Laravel-style path (`attributes.3.value`) → messages; any one refuses the whole call.
        bad_uuid: Some row's `id` is no UUID, which refuses the whole call too.
    """

    rows: list[NamedRow] = field(default_factory=list)
    customers: dict[int, dict[str, Any]] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)
    bad_uuid: bool = False

    @property
    def valid(self) -> bool:
        """Whether no row refuses the whole call."""
        return not (self.bad_uuid or self.problems)


class RowReader:
    """Reads rows by the rules; remembers the ids it knows to be UUIDs, so that most rows need no pattern."""

    def __init__(self) -> None:
        self._canonical_ids: dict[str, str] = {}

    def read(self, rows: list[Any]) -> ReadRows:
        """Judge every row by itself and name what it sets."""
        result = ReadRows()
        append = result.rows.append
        canonical_ids = self._canonical_ids
        for index, row in enumerate(rows):
            # The commonest row by far: three strings, of which the id was seen before.
            if type(row) is dict and len(row) == 3:
                raw_id = row.get("id")
                customer_id = row.get("customer_id")
                value = row.get("value")
                if (
                    type(raw_id) is str
                    and type(customer_id) is str
                    and type(value) is str
                    and customer_id
                    and (attribute_id := canonical_ids.get(raw_id)) is not None
                ):
                    append(NamedRow(attribute_id, "customer_id", customer_id, value))
                    continue
            append(self._read_any(index, row, result))
        return result

    def _read_any(self, index: int, row: Any, result: ReadRows) -> NamedRow:
        path = f"attributes.{index}"
        if not isinstance(row, dict):
            result.problems[path] = [f"The {path} field must be an object."]
            return NamedRow("", "customer_id", "", "")

        raw_id = row.get("id")
        attribute_id = self._canonical_id(raw_id)
        if attribute_id is None:
            result.bad_uuid = True
        value = row.get("value")
        if value is None:
            result.problems[f"{path}.value"] = [f"The {path}.value field is required."]
        elif not isinstance(value, str):
            result.problems[f"{path}.value"] = [f"The {path}.value field must be a string."]

        if all(row.get(name) is None for name in ("customer_id", "customer_email", "customer")):
            result.problems[f"{path}.customer_id"] = [
                f"The {path}.customer_id field is required when none of customer_email / customer are present."
            ]
        _check_text(row, "customer_id", path, result)
        _check_email(row, "customer_email", path, result)
        customer = row.get("customer")
        if customer is not None:
            result.problems.update(_customer_problems(customer, f"{path}.customer"))
            if isinstance(customer, dict):
                result.customers[index] = customer
        kind, identity = _identity(row)
        return NamedRow(attribute_id if attribute_id is not None else _text(raw_id), kind, identity, _text(value))

    def _canonical_id(self, raw_id: Any) -> str | None:
        if not isinstance(raw_id, str) or not is_uuid(raw_id):
            return None
        canonical = raw_id.lower()
        self._canonical_ids[raw_id] = canonical
        return canonical


def is_uuid(text: str) -> bool:
    """Whether this reads 8-4-4-4-12 hexadecimal digits, in either case."""
    return _UUID.fullmatch(text) is not None


def value_problem(data_type: DataType, value: str) -> str | None:
    """Why an attribute of this type refuses the value, in the API's words; None if it does not."""
    match data_type:
        case "text":
            return None
        case "timestamp":
            return None if _is_timestamp(value) else TIMESTAMP_MESSAGE
        case "numeric":
            return None if _NUMBER.fullmatch(value) else NUMERIC_MESSAGE


def _is_timestamp(value: str) -> bool:
    if not _TIMESTAMP.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


class _Identity(NamedTuple):
    kind: IdentityKind
    identity: str


def _identity(row: dict[str, Any]) -> _Identity:
    nested = row.get("customer")
    customer: dict[str, Any] = nested if isinstance(nested, dict) else {}
    if customer_id := _text(row.get("customer_id")):
        return _Identity("customer_id", customer_id)
    if email := _text(row.get("customer_email")):
        return _Identity("customer_email", email.lower())
    if customer_id := _text(customer.get("customer_id")):
        return _Identity("customer_id", customer_id)
    return _Identity("customer_email", _text(customer.get("email")).lower())


def _check_text(holder: dict[str, Any], name: str, path: str, result: ReadRows) -> None:
    value = holder.get(name)
    if value is not None and not (isinstance(value, str) and value):
        result.problems[f"{path}.{name}"] = [f"The {path}.{name} field must be a string."]


def _check_email(holder: dict[str, Any], name: str, path: str, result: ReadRows) -> None:
    value = holder.get(name)
    if value is not None and not (isinstance(value, str) and _EMAIL.fullmatch(value)):
        result.problems[f"{path}.{name}"] = [f"The {path}.{name} field must be a valid email address."]


def _customer_problems(customer: Any, path: str) -> dict[str, list[str]]:
    if not isinstance(customer, dict):
        return {path: [f"The {path} field must be an object."]}
    found = ReadRows()
    if customer.get("customer_id") is None and customer.get("email") is None:
        found.problems[f"{path}.customer_id"] = [f"The {path}.customer_id field is required when email is not present."]
    _check_text(customer, "customer_id", path, found)
    _check_email(customer, "email", path, found)
    for name in _CUSTOMER_TEXTS:
        value = customer.get(name)
        if value is not None and not isinstance(value, str):
            found.problems[f"{path}.{name}"] = [f"The {path}.{name} field must be a string."]
    found.problems.update(_device_problems(customer.get("devices"), f"{path}.devices"))
    return found.problems


def _device_problems(devices: Any, path: str) -> dict[str, list[str]]:
    if devices is None:
        return {}
    if not isinstance(devices, list):
        return {path: [f"The {path} field must be an array."]}
    return {
        f"{path}.{index}.{name}": [f"The {path}.{index}.{name} field is required."]
        for index, device in enumerate(devices)
        for name in ("device_type", "device_token")
        if not (isinstance(device, dict) and isinstance(device.get(name), str) and device[name])
    }
