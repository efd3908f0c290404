"""The account's customers and what their attributes hold."""

from collections.abc import Iterator
from typing import Any, Final

from bunce_attributes.sandbox.rows import NamedRow

_DETAILS: Final = ("first_name", "last_name", "phone_no")


class Customer:
    """One customer. Slots and no dataclass: a benchmark makes a million of them."""

    __slots__ = ("customer_id", "details", "devices", "email", "values")

    def __init__(self) -> None:
        self.customer_id: str | None = None
        self.email: str | None = None
        self.details: dict[str, str] | None = None
        self.devices: dict[str, str] | None = None
        self.values: dict[str, str] = {}

    def as_json(self) -> dict[str, Any]:
        details = self.details or {}
        return {
            "customer_id": self.customer_id,
            "email": self.email,
            **{name: details.get(name) for name in _DETAILS},
            "devices": [
                {"device_type": device_type, "device_token": token}
                for token, device_type in (self.devices or {}).items()
            ],
            "attributes": dict(self.values),
        }


class Customers:
    """All customers, found by `customer_id` or by email (in lower case)."""

    def __init__(self) -> None:
        self._by_id: dict[str, Customer] = {}
        self._by_email: dict[str, Customer] = {}

    def set_value(self, row: NamedRow) -> None:
        """Set one value, creating the customer where needed."""
        if row.kind == "customer_id":
            customer = self._by_id.get(row.identity)
            if customer is None:
                customer = self._by_id[row.identity] = Customer()
                customer.customer_id = row.identity
        else:
            customer = self._by_email.get(row.identity)
            if customer is None:
                customer = self._by_email[row.identity] = Customer()
                customer.email = row.identity
        customer.values[row.attribute_id] = row.value

    def edit(self, row: NamedRow, details: dict[str, Any]) -> None:
        """Write a row's `customer` object; to be called before the row's value is set.

        The row's identity names the customer. Where the object's other identifier belongs to a customer that has
        none of its own kind, the two are one and the same; where not, the identifier moves to the one named here.
        """
        customer = (self._by_id if row.kind == "customer_id" else self._by_email).get(row.identity) or Customer()
        customer_id = row.identity if row.kind == "customer_id" else details.get("customer_id")
        email = row.identity if row.kind == "customer_email" else (details.get("email") or "").lower()
        if customer_id:
            customer = self._join(customer, self._by_id.get(customer_id), "customer_id")
            if customer.customer_id not in (None, customer_id):
                del self._by_id[customer.customer_id]
            self._by_id[customer_id] = customer
            customer.customer_id = customer_id
        if email:
            customer = self._join(customer, self._by_email.get(email), "email")
            if customer.email not in (None, email):
                del self._by_email[customer.email]
            self._by_email[email] = customer
            customer.email = email
        given = {name: details[name] for name in _DETAILS if details.get(name) is not None}
        if given:
            customer.details = {**(customer.details or {}), **given}
        for device in details.get("devices") or []:
            customer.devices = {**(customer.devices or {}), device["device_token"]: device["device_type"]}

    def find(self, identity: str) -> Customer | None:
        """The customer with this `customer_id`, else the one with this email."""
        return self._by_id.get(identity) or self._by_email.get(identity.lower())

    def __iter__(self) -> Iterator[Customer]:
        """Every customer once; safe against changes made while it is read."""
        yield from list(self._by_id.values())
        yield from [customer for customer in list(self._by_email.values()) if customer.customer_id is None]

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def _join(self, customer: Customer, other: Customer | None, by: str) -> Customer:
        if other is None or other is customer:
            return customer
        if by == "email":
            other.email = None
        else:
            other.customer_id = None
        if other.customer_id is not None or other.email is not None:
            return customer
        customer.values = {**other.values, **customer.values}
        if other.details:
            customer.details = {**other.details, **(customer.details or {})}
        if other.devices:
            customer.devices = {**other.devices, **(customer.devices or {})}
        return customer
