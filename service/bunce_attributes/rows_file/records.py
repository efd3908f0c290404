"""What a file consists of for its readers and writers: records, each with the rows made of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from bunce_attributes.updates import InvalidUpdate

LINE_COLUMN = "line"
REASON_COLUMN = "reason"
"""Columns that a file of refused rows has beside the others; they are ignored when it is enqueued again."""


class Record(NamedTuple):
    """One record: a line, or several if a quoted cell has line ends."""

    line: int
    last_line: int
    rows: Sequence[Mapping[str, object]]
    """The updates of this record, not judged yet."""
    problem: str | None = None
    """Why the record cannot be read; it has no rows then."""
    cells: Sequence[str] | None = None
    """As read from CSV."""
    text: str = ""
    """As it stands in the file; only for JSON lines, and for CSV that cannot be taken apart."""

    def verbatim(self) -> str:
        """The line as it was, with one line end; nothing of a line that was too long to be kept."""
        return f"{text}\n" if (text := self.text.rstrip("\r\n")) else ""


class Refusal(NamedTuple):
    """A row of a record that is no update."""

    row_index: int
    error: InvalidUpdate


class RowsReader(Protocol):
    """A file whose header has been understood."""

    @property
    def notes(self) -> Sequence[str]:
        """What its reader should know before it is enqueued, for example columns that are not used."""

    def __iter__(self) -> Iterator[Record]: ...

    def reasons(self, refusals: Sequence[Refusal]) -> str:
        """Why rows of one record are refused, in the words of the file: its columns' names."""

    def rejects_head(self) -> str:
        """The first line of a file of refused rows, or nothing."""

    def rejects_line(self, record: Record, refusals: Sequence[Refusal], reason: str) -> str:
        """A record in a form that can be mended and enqueued again, without the rows that were taken."""
