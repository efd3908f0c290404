"""Files of updates: CSV in long and wide form, and JSON lines; plain or gzip, read once, in constant memory."""

from __future__ import annotations

from collections.abc import Mapping

from bunce_attributes.rows_file.csv_rows import CsvRows
from bunce_attributes.rows_file.json_rows import JsonRows
from bunce_attributes.rows_file.lines import Lines, UnusableFile
from bunce_attributes.rows_file.records import Record, Refusal, RowsReader

__all__ = ["Lines", "Record", "Refusal", "RowsReader", "UnusableFile", "read_rows"]


def read_rows(lines: Lines, mapping: Mapping[str, str]) -> RowsReader:
    """Find out what a file is, and understand its header.

    Args:
        lines: the file.
        mapping: column → attribute id, for CSV with one line a customer; empty otherwise.

    Raises:
        UnusableFile: it is neither CSV nor JSON lines, or lacks columns; nothing has been sent by then.
    """
    numbered = iter(lines)
    first = next((line for line in numbered if line.text.strip() or line.problem), None)
    if first is None:
        raise UnusableFile(f"{lines.name} is empty: CSV begins with a line that names the columns")
    start = first.text.lstrip()
    if start.startswith("["):
        raise UnusableFile(f"{lines.name} is one JSON list: write one object a line, for example with: jq -c '.[]'")
    if not start.startswith("{"):
        return CsvRows(lines, first, numbered, mapping)
    if mapping:
        raise UnusableFile(f"{lines.name} is JSON lines: --map is for CSV with one line a customer")
    return JsonRows(first, numbered)
