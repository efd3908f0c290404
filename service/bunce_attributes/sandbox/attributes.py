"""The account's attributes and the documented paging through them."""

import base64
import binascii
import uuid
from dataclasses import asdict, dataclass
from typing import Any, Final

from bunce_attributes.sandbox.config import DATA_TYPES, DataType, SandboxError
from bunce_attributes.sandbox.rows import is_uuid

DEFAULT_PER_PAGE: Final = 20
MAX_PER_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute as the API shows it; `id` is a UUID in lower case."""

    id: str
    name: str
    data_type: DataType


class BadPageError(Exception):
    """`per_page` or `cursor` of a listing cannot be used; the text is the API's message."""


class Attributes:
    """All attributes in order of their creation."""

    def __init__(self) -> None:
        self._by_id: dict[str, Attribute] = {}
        self.any_typed = False

    def __contains__(self, attribute_id: str) -> bool:
        return attribute_id in self._by_id

    def get(self, attribute_id: str) -> Attribute | None:
        return self._by_id.get(attribute_id)

    def create(self, name: str, data_type: DataType) -> Attribute:
        """A new attribute under an id of our choosing."""
        return self.put(str(uuid.uuid4()), data_type, name)

    def put(self, attribute_id: str, data_type: str, name: str | None = None) -> Attribute:
        """Create an attribute under this id, or change its type.

        Raises:
            SandboxError: The id is no UUID, or the type is unknown.
        """
        if not is_uuid(attribute_id):
            raise SandboxError(f"{attribute_id!r} is no UUID: an attribute's id reads 8-4-4-4-12 hexadecimal digits.")
        known = next((known for known in DATA_TYPES if known == data_type), None)
        if known is None:
            raise SandboxError(f"{data_type!r} is no attribute type: give one of {', '.join(DATA_TYPES)}.")
        attribute_id = attribute_id.lower()
        attribute = Attribute(attribute_id, name or f"attribute-{attribute_id[:8]}", known)
        self._by_id[attribute_id] = attribute
        self.any_typed = any(each.data_type != "text" for each in self._by_id.values())
        return attribute

    def create_missing(self, attribute_ids: set[str]) -> None:
        """Create those that do not exist yet, as text."""
        for attribute_id in sorted(attribute_ids - self._by_id.keys()):
            self._by_id[attribute_id] = Attribute(attribute_id, f"attribute-{attribute_id[:8]}", "text")

    def page(self, per_page: str | None, cursor: str | None) -> dict[str, Any]:
        """The `data` and `meta` of one page of the listing.

        Raises:
            BadPageError: A parameter cannot be used.
        """
        size = _page_size(per_page)
        start = _start(cursor)
        everything = list(self._by_id.values())
        has_next = start + size < len(everything)
        has_prev = start > 0
        return {
            "data": [asdict(attribute) for attribute in everything[start : start + size]],
            "meta": {
                "has_next_page": has_next,
                "has_prev_page": has_prev,
                "next_page_cursor": _cursor(start + size) if has_next else None,
                "prev_page_cursor": _cursor(max(0, start - size)) if has_prev else None,
                "per_page": size,
            },
        }


def _page_size(per_page: str | None) -> int:
    if per_page is None:
        return DEFAULT_PER_PAGE
    if not (per_page.isascii() and per_page.isdigit() and 1 <= int(per_page[:9]) <= MAX_PER_PAGE):
        raise BadPageError(f"The per_page field must be between 1 and {MAX_PER_PAGE}.")
    return int(per_page)


# A cursor is opaque to the client; attributes are never deleted, so a position is all it needs to hold.
def _cursor(start: int) -> str:
    return base64.urlsafe_b64encode(f"start:{start}".encode()).decode()


def _start(cursor: str | None) -> int:
    if not cursor:
        return 0
    try:
        label, _, number = base64.urlsafe_b64decode(cursor.encode()).decode().partition(":")
        if label != "start" or not number.isdigit():
            raise BadPageError("The cursor is not valid.")
        return int(number)
    except (binascii.Error, ValueError) as error:
        raise BadPageError("The cursor is not valid.") from error
