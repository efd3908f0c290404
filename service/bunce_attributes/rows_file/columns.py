"""What the columns of a CSV file mean: long form (a line is an update) or wide form (a line is a customer). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bunce_attributes.rows_file.lines import UnusableFile
from bunce_attributes.rows_file.records import LINE_COLUMN, REASON_COLUMN

ATTRIBUTE = ("id", "attribute")
CUSTOMER_ID = ("customer_id",)
EMAIL = ("customer_email", "email")
VALUE = ("value",)
OCCURRED_AT = ("occurred_at",)
PROFILE = ("first_name", "last_name", "phone_no")
_LONG = (*ATTRIBUTE, *CUSTOMER_ID, *EMAIL, *VALUE, *OCCURRED_AT, *PROFILE)
_OURS = {LINE_COLUMN, REASON_COLUMN}
# Fewer digits could be a date without dashes.
_UNIX_SECONDS = re.compile(r"-?\d{9,}(\.\d+)?").fullmatch
_UUID = re.compile(r"[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}").fullmatch

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """How the cells of a line become rows, and what the fields of a row are called in this file."""

    header: tuple[str, ...]
    rows: Callable[[Sequence[str]], list[Row]]
    cells_needed: int
    """A shorter line has lost cells; columns after these may be missing, nothing reads them."""
    columns_of_fields: Mapping[str, str]
    mapped: tuple[int, ...]
    """Wide form: the positions of the mapped columns, in the order in which they become rows."""
    notes: tuple[str, ...]

    def kept_cells(self, cells: Sequence[str], refused_rows: Sequence[int]) -> list[str]:
        """The cells of a line without those that were taken: a line mended and enqueued again sends the rest."""
        kept = list(cells)
        filled = [at for at in self.mapped if cells[at]]
        for row_index, at in enumerate(filled):
            if row_index not in refused_rows:
                kept[at] = ""
        return kept


def plan_columns(header: Sequence[str], mapping: Mapping[str, str], *, name: str) -> ColumnPlan:
    """Understand a header.

    Args:
        header: the cells of the first line.
        mapping: column → attribute id for the wide form; empty for the long form.
        name: of the file, for errors.

    Raises:
        UnusableFile: columns are missing, doubled or unknown.
    """
    columns = _Columns(tuple(header), name)
    return _wide(columns, mapping) if mapping else _long(columns)


@dataclass(frozen=True, slots=True)
class _Columns:
    header: tuple[str, ...]
    name: str

    def at(self, *names: str) -> int | None:
        """The position of the column with one of these names, whatever its case."""
        wanted = {_plain(name) for name in names}
        found = [position for position, cell in enumerate(self.header) if _plain(cell) in wanted]
        if len(found) > 1:
            twice = " and ".join(self.header[position] for position in found)
            raise UnusableFile(f"{self.name} has two columns for the same thing: {twice}; remove one")
        return found[0] if found else None

    def fault(self, problem: str) -> UnusableFile:
        shown = ", ".join(cell.strip()[:40] for cell in self.header[:30])
        return UnusableFile(f"{self.name}: {problem}; the first line has: {shown}")


def _plain(name: str) -> str:
    return name.strip().casefold()


def _long(columns: _Columns) -> ColumnPlan:
    if any(_UUID(cell.strip()) for cell in columns.header):
        raise columns.fault("the first line must name the columns, it holds data")
    attribute, value = columns.at(*ATTRIBUTE), columns.at(*VALUE)
    missing = [text for at, text in ((attribute, "id (or attribute)"), (value, "value")) if at is None]
    if columns.at(*CUSTOMER_ID) is None and columns.at(*EMAIL) is None:
        missing.append("customer_id or customer_email")
    if missing or attribute is None or value is None:
        hint = "" if value is not None else ' (one line a customer? then use --map "Column=<attribute id>")'
        raise columns.fault(f"there is no column {', no column '.join(missing)}{hint}")
    unknown = [cell for cell in columns.header if _plain(cell) not in {*_LONG, *_OURS}]
    if unknown:
        raise columns.fault(
            f"the column {unknown[0].strip()!r} is not known; known are {', '.join(_LONG)}: rename or remove it"
        )
    customer = _customer_cells(columns)
    occurred_at = columns.at(*OCCURRED_AT)

    def rows(cells: Sequence[str]) -> list[Row]:
        row: Row = {"id": cells[attribute].strip(), "value": cells[value]}
        customer(cells, row)
        if occurred_at is not None and (moment := cells[occurred_at].strip()):
            row["occurred_at"] = float(moment) if _UNIX_SECONDS(moment) else moment
        return [row]

    used = [columns.at(name) for name in _LONG if name not in {"attribute", "email"}]
    used += [columns.at("attribute"), columns.at("email")]
    return ColumnPlan(
        columns.header,
        rows,
        1 + max(at for at in used if at is not None),
        {"id": columns.header[attribute].strip(), **_customer_names(columns)},
        (),
        (),
    )


def _wide(columns: _Columns, mapping: Mapping[str, str]) -> ColumnPlan:
    customer_id, email = columns.at(*CUSTOMER_ID), columns.at(*EMAIL)
    if customer_id is None and email is None:
        raise columns.fault("there is no column customer_id or email")
    attributes: dict[int, str] = {}
    for column, attribute_id in mapping.items():
        at = columns.at(column)
        if at is None:
            raise columns.fault(f"--map names the column {column!r}, which is not there")
        attributes[at] = attribute_id
    customer = _customer_cells(columns)
    profile = [columns.at(name) for name in PROFILE]
    used = {at for at in (customer_id, email, *profile, *attributes) if at is not None}
    unused = [
        cell.strip() for at, cell in enumerate(columns.header) if at not in used and _plain(cell) not in {*_OURS, ""}
    ]

    def rows(cells: Sequence[str]) -> list[Row]:
        made: list[Row] = []
        for at, attribute_id in attributes.items():
            if cells[at]:
                row: Row = {"id": attribute_id, "value": cells[at]}
                customer(cells, row)
                made.append(row)
        return made

    return ColumnPlan(
        columns.header,
        rows,
        1 + max(used),
        _customer_names(columns),
        tuple(attributes),
        (f"columns that are not used: {', '.join(unused)}",) if unused else (),
    )


def _customer_cells(columns: _Columns) -> Callable[[Sequence[str], Row], None]:
    """What names the customer goes into a row; with a name or a phone number as the object that edits the customer."""
    customer_id, email = columns.at(*CUSTOMER_ID), columns.at(*EMAIL)
    profile = [(name, at) for name in PROFILE if (at := columns.at(name)) is not None]

    def fill(cells: Sequence[str], row: Row) -> None:
        identifier = cells[customer_id].strip() if customer_id is not None else ""
        address = cells[email].strip() if email is not None else ""
        details = {name: cells[at] for name, at in profile if cells[at]}
        if details:
            if identifier:
                details["customer_id"] = identifier
            if address:
                details["email"] = address
            row["customer"] = details
            return
        if identifier:
            row["customer_id"] = identifier
        if address:
            row["customer_email"] = address

    return fill


def _customer_names(columns: _Columns) -> dict[str, str]:
    names = {}
    for fields, known in (
        (("customer_id", "customer.customer_id"), CUSTOMER_ID),
        (("customer_email", "customer.email"), EMAIL),
    ):
        at = columns.at(*known)
        for field in fields:
            if at is not None:
                names[field] = columns.header[at].strip()
    for name in PROFILE:
        names[f"customer.{name}"] = name
    return names
