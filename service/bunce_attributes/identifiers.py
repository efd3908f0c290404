"""By what a customer is named, and whether a row, or a message that cannot be read, names that customer. Pure."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from bunce_attributes.updates import IdentityKind, UpdateKey

_BODY = re.compile(rb'"body"\s*:\s*"([A-Za-z0-9+/=\s]+)"')
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+").fullmatch


class UnusableIdentifier(ValueError):  # noqa: N818 - reads as what it is where it is caught
    """An identifier that names nobody; ``str()`` says what is wrong."""


@dataclass(frozen=True, slots=True)
class Identifiers:
    """All names of one customer: ids as they are, addresses in lower case. `repr` hides them: they are personal."""

    customer_ids: frozenset[str]
    emails: frozenset[str]

    @classmethod
    def of(cls, customer_ids: Iterable[str] = (), emails: Iterable[str] = ()) -> Identifiers:
        """The names as an operator gives them.

        Raises:
            UnusableIdentifier: one is empty, or no address.
        """
        ids, addresses = frozenset(customer_ids), frozenset(email.strip().lower() for email in emails)
        if not all(name.strip() for name in ids):
            raise UnusableIdentifier("a customer id must not be empty")
        for address in addresses:
            if not _EMAIL(address):
                raise UnusableIdentifier(f"{address!r} is no e-mail address, for example ada@example.com")
        return cls(ids, addresses)

    @classmethod
    def either(cls, text: str) -> Identifiers:
        """A name that may be an id or an address."""
        return cls(frozenset({text}), frozenset({text.strip().lower()}))

    def __repr__(self) -> str:
        return f"Identifiers({len(self.customer_ids)} ids, {len(self.emails)} addresses)"

    def named_in(self, row: object) -> bool:
        """Whether a row names the customer, at its top level or inside ``customer``; it need not be valid."""
        if not isinstance(row, Mapping):
            return False
        if str(row.get("customer_id", "")) in self.customer_ids or self._is_ours(row.get("customer_email")):
            return True
        inner = row.get("customer")
        return isinstance(inner, Mapping) and (
            str(inner.get("customer_id", "")) in self.customer_ids or self._is_ours(inner.get("email"))
        )

    def found_in(self, raw: bytes) -> bool:
        """Whether a message that cannot be taken apart holds one of the names as a word of its own.

        A body in base64 is looked into, a compressed one is not.
        """
        body = _BODY.search(raw)
        texts = [raw.decode("utf-8", "replace")]
        if body is not None:
            with suppress(ValueError):
                texts.append(b64decode(body[1]).decode("utf-8", "replace"))
        return any(
            _word(name).search(text if name in self.customer_ids else text.lower())
            for text in texts
            for name in (*self.customer_ids, *self.emails)
        )

    def digests(self, attributes: Iterable[str]) -> set[bytes]:
        """The digests under which the outbox knows this customer, for these attributes (ids in canonical form)."""
        names = [(IdentityKind.CUSTOMER_ID, name) for name in self.customer_ids]
        names += [(IdentityKind.EMAIL, name) for name in self.emails]
        return {UpdateKey(attribute, kind, name).digest() for attribute in attributes for kind, name in names}

    def _is_ours(self, email: object) -> bool:
        return isinstance(email, str) and email.lower() in self.emails


def _word(name: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.+-]){re.escape(name)}(?![\w-]|\.\w)")
