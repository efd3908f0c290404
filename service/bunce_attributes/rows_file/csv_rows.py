"""CSV → records. One bad line costs itself alone, also when it is a quote that is never closed."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from bunce_attributes.rows_file.columns import ColumnPlan, plan_columns
from bunce_attributes.rows_file.lines import Line, Lines, UnusableFile
from bunce_attributes.rows_file.records import LINE_COLUMN, REASON_COLUMN, Record, Refusal

DELIMITERS = (",", ";", "\t")
_FIELD_LIMIT = csv.field_size_limit()


class _TooLong(Exception):  # noqa: N818 - a signal between two classes of this module, no error
    """A line that is not kept stands inside a record."""


class _Feed:
    """Lines for the csv module: remembers those of the record it reads, and gives them again if it is none."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._again: deque[Line] = deque()
        self.taken: list[Line] = []

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._lines)
        self.taken.append(line)
        if not line.text:
            raise _TooLong
        return line.text

    def give_again(self) -> Line:
        """Only the first line of the record is lost: what follows is read anew."""
        first, *rest = self.taken
        self._again.extendleft(reversed(rest))
        self.taken.clear()
        return first


class CsvRows:
    """A CSV file in long or wide form."""

    def __init__(self, lines: Lines, first: Line, rest: Iterator[Line], mapping: Mapping[str, str]) -> None:
        """Understand the header.

        Raises:
            UnusableFile: with what is wrong with it.
        """
        if first.problem is not None:
            raise UnusableFile(f"{lines.name}, line 1: {first.problem}")
        self._delimiter = _delimiter(first.text)
        self._feed = _Feed(_with_first(first, rest))
        self._reader = csv.reader(self._feed, delimiter=self._delimiter, strict=True)
        try:
            header = next(self._reader)
        except (csv.Error, _TooLong) as error:
            raise UnusableFile(f"{lines.name}, line 1: the names of the columns are no CSV: {error}") from None
        self._feed.taken.clear()
        self._plan: ColumnPlan = plan_columns(header, mapping, name=lines.name)
        self.notes = self._plan.notes

    def __iter__(self) -> Iterator[Record]:
        feed, reader, plan = self._feed, self._reader, self._plan
        most, needed, make_rows = len(plan.header), plan.cells_needed, plan.rows
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except (csv.Error, _TooLong) as error:
                yield self._broken(error)
                continue
            taken = feed.taken
            if len(cells) > most or len(cells) < needed:
                if not any(cells):
                    taken.clear()
                elif len(taken) > 1:
                    yield self._broken(csv.Error())
                else:
                    # Of a short line nobody knows which cell is lost: it stays as it is, so that it is refused again.
                    kept = None if len(cells) < needed else cells
                    yield self._refused(kept, self._wrong_count(len(cells)))
                continue
            if len(taken) == 1 and taken[0].problem is None:
                number = taken[0].number
                taken.clear()
                if any(cells):
                    yield Record(number, number, make_rows(cells), None, cells)
                continue
            problem = next((line.problem for line in taken if line.problem is not None), None)
            if problem is not None:
                yield self._refused(cells, problem)
                continue
            first, last = taken[0].number, taken[-1].number
            taken.clear()
            yield Record(first, last, make_rows(cells), None, cells)

    def _refused(self, cells: list[str] | None, problem: str) -> Record:
        first, last = self._feed.taken[0], self._feed.taken[-1]
        self._feed.taken.clear()
        return Record(first.number, last.number, (), problem, cells, first.text)

    def _broken(self, error: Exception) -> Record:
        line = self._feed.give_again()
        problem = line.problem or _csv_problem(str(error))
        return Record(line.number, line.number, (), problem, None, line.text)

    def _wrong_count(self, cells: int) -> str:
        shown = {",": "comma", ";": "semicolon", "\t": "tab"}[self._delimiter]
        most = len(self._plan.header)
        mend = (
            f'a {shown} or a quote inside a value needs "quotes" around the value'
            if cells > most
            else f"write the missing cells; an empty one needs its {shown} too"
        )
        return f"has {cells} {'cell' if cells == 1 else 'cells'} where the first line has {most}: {mend}"

    def reasons(self, refusals: Sequence[Refusal]) -> str:
        """Every fault once, under the name of its column."""
        names = self._plan.columns_of_fields
        texts: dict[str, None] = {}
        for refusal in refusals:
            for fault in refusal.error.faults:
                shown = "" if fault.value is None else f" (got {fault.value})"
                texts[f"{names.get(fault.field, fault.field)}: {fault.problem}{shown}"] = None
        return "; ".join(texts)

    def rejects_head(self) -> str:
        """The columns of the file, and why each line is there."""
        return self._written([*self._data_cells(self._plan.header), LINE_COLUMN, REASON_COLUMN])

    def rejects_line(self, record: Record, refusals: Sequence[Refusal], reason: str) -> str:
        """A line that cannot be taken apart stands as it was, with nothing beside it."""
        if record.cells is None:
            return record.verbatim()
        cells = list(record.cells)
        if refusals:
            cells = self._plan.kept_cells(cells, [refusal.row_index for refusal in refusals])
        if len(cells) <= len(self._plan.header):
            cells = self._data_cells(cells + [""] * (len(self._plan.header) - len(cells)))
        return self._written([*cells, str(record.line), reason])

    def _data_cells(self, cells: Sequence[str]) -> list[str]:
        ours = {LINE_COLUMN, REASON_COLUMN}
        return [
            cell for cell, name in zip(cells, self._plan.header, strict=True) if name.strip().casefold() not in ours
        ]

    def _written(self, cells: Sequence[str]) -> str:
        text = io.StringIO()
        csv.writer(text, delimiter=self._delimiter, lineterminator="\n").writerow(cells)
        return text.getvalue()


def _with_first(first: Line, rest: Iterator[Line]) -> Iterator[Line]:
    yield first
    yield from rest


def _delimiter(header: str) -> str:
    # The one that takes the header apart most; a comma if none does.
    return max(DELIMITERS, key=lambda one: (header.count(one), one == ","))


def _csv_problem(error: str) -> str:
    if "new-line" in error:
        return "a carriage return stands alone in the line: write line ends as \\n or \\r\\n"
    if "expected after" in error:
        return 'a "quoted" cell goes on after its closing quote: double the quotes inside the cell'
    if "field limit" in error or "end of data" in error or not error:
        return (
            'a "quote" opens here and is never closed (or a cell is longer than '
            f"{_FIELD_LIMIT:,} characters): close it, or double the quotes inside the cell"
        )
    return f"is no CSV ({error})"
