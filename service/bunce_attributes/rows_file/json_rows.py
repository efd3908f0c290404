"""JSON lines → records: one row a line, in the API's shape or as it stands in a file of refused rows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from bunce_attributes.rows_file.lines import Line
from bunce_attributes.rows_file.records import LINE_COLUMN, REASON_COLUMN, Record, Refusal

ROW_FIELD = "row"
"""A line that has this field is a row with notes around it, as in a file of refused rows."""


class JsonRows:
    """A file with one JSON object a line."""

    notes: Sequence[str] = ()

    def __init__(self, first: Line, rest: Iterator[Line]) -> None:
        self._first = first
        self._rest = rest

    def __iter__(self) -> Iterator[Record]:
        yield from self._records(iter((self._first,)))
        yield from self._records(self._rest)

    def _records(self, lines: Iterator[Line]) -> Iterator[Record]:
        for line in lines:
            number, text, problem = line
            if problem is None:
                if not text.strip():
                    continue
                try:
                    row = json.loads(text)
                except json.JSONDecodeError as error:
                    problem = f"is no JSON ({error.msg} at position {error.pos + 1}): one object a line is wanted"
                except (ValueError, RecursionError):
                    problem = "is JSON that is nested too deeply or has a number with too many digits"
                else:
                    yield from self._judged(number, row, text)
                    continue
            yield Record(number, number, (), problem, None, text)

    def _judged(self, number: int, row: object, text: str) -> Iterator[Record]:
        if isinstance(row, Mapping) and isinstance(row.get(ROW_FIELD), Mapping):
            row = row[ROW_FIELD]
        if isinstance(row, Mapping):
            yield Record(number, number, (row,), None, None, text)
        else:
            yield Record(number, number, (), "must be a JSON object, one row a line", None, text)

    def reasons(self, refusals: Sequence[Refusal]) -> str:
        """Every fault of the row."""
        return "; ".join(str(refusal.error) for refusal in refusals)

    def rejects_head(self) -> str:
        """JSON lines have none."""
        return ""

    def rejects_line(
        self,
        record: Record,
        refusals: Sequence[Refusal],  # noqa: ARG002 - one row a line: it is always the whole line
        reason: str,
    ) -> str:
        """The row with its line and the reason; a line that is no JSON object stands as it was."""
        if not record.rows:
            return record.verbatim()
        noted = {LINE_COLUMN: record.line, REASON_COLUMN: reason, ROW_FIELD: record.rows[0]}
        return json.dumps(noted, ensure_ascii=False) + "\n"
