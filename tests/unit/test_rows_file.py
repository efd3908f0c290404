"""Files of updates: what is read, what is refused with which words, and that one bad line costs itself alone."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunce_attributes.rows_file import Lines, Record, Refusal, RowsReader, UnusableFile, read_rows
from bunce_attributes.rows_file.csv_rows import CsvRows
from bunce_attributes.rows_file.lines import MAX_LINE_BYTES
from bunce_attributes.updates import InvalidUpdate, parse_update

ATTRIBUTE = "9f171295-6935-400c-af6b-fd628a46bc71"
OTHER = "9f171295-6935-400c-af6b-fd628a46bc72"
LONG = "id,customer_id,customer_email,value,occurred_at,first_name,last_name,phone_no\n"

Read = Callable[..., list[Record]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "people"


@pytest.fixture
def read(path: Path) -> Read:
    def reading(content: str | bytes, mapping: Mapping[str, str] | None = None) -> list[Record]:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        with Lines(str(path)) as lines:
            return list(read_rows(lines, mapping or {}))

    return reading


def rows(records: list[Record]) -> list[Mapping[str, object]]:
    return [row for record in records for row in record.rows]


def problems(records: list[Record]) -> dict[int, str]:
    return {record.line: record.problem for record in records if record.problem is not None}


def unusable(read: Read, content: str | bytes, mapping: Mapping[str, str] | None = None) -> str:
    with pytest.raises(UnusableFile) as raised:
        read(content, mapping)
    return str(raised.value)


class TestLongForm:
    def test_a_line_is_an_update(self, read: Read) -> None:
        assert rows(read(f"id,customer_id,value\n{ATTRIBUTE},1,x\n{ATTRIBUTE},2,y\n")) == [
            {"id": ATTRIBUTE, "customer_id": "1", "value": "x"},
            {"id": ATTRIBUTE, "customer_id": "2", "value": "y"},
        ]

    @pytest.mark.parametrize(
        "header", ["attribute,email,value", "ID , Customer_Email,VALUE", '"id","customer_email","value"']
    )
    def test_columns_have_other_names_and_any_case(self, read: Read, header: str) -> None:
        assert rows(read(f"{header}\n{ATTRIBUTE},a@b.c,x\n")) == [
            {"id": ATTRIBUTE, "customer_email": "a@b.c", "value": "x"}
        ]

    def test_a_value_stays_as_it_stands_and_names_lose_blanks_around_them(self, read: Read) -> None:
        assert rows(read(f"id,customer_id,value\n {ATTRIBUTE} , 1 ,  007 \n")) == [
            {"id": ATTRIBUTE, "customer_id": "1", "value": "  007 "}
        ]

    def test_an_empty_value_is_a_value(self, read: Read) -> None:
        assert rows(read(f"id,customer_id,value\n{ATTRIBUTE},1,\n"))[0]["value"] == ""

    def test_a_name_makes_a_customer_to_be_edited(self, read: Read) -> None:
        records = read(f"{LONG}{ATTRIBUTE},1,a@b.c,x,,Ada,,0123\n{ATTRIBUTE},2,,x,,,,\n")
        assert rows(records) == [
            {
                "id": ATTRIBUTE,
                "value": "x",
                "customer": {"customer_id": "1", "email": "a@b.c", "first_name": "Ada", "phone_no": "0123"},
            },
            {"id": ATTRIBUTE, "value": "x", "customer_id": "2"},
        ]
        for row in rows(records):
            parse_update(row)

    @pytest.mark.parametrize(
        ("cell", "moment"),
        [
            ("1769860800", 1769860800.0),
            ("1769860800.5", 1769860800.5),
            ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ],
    )
    def test_a_moment_is_iso_8601_or_unix_seconds(self, read: Read, cell: str, moment: object) -> None:
        row = rows(read(f"{LONG}{ATTRIBUTE},1,,x,{cell},,,\n"))[0]
        assert row["occurred_at"] == moment
        parse_update(row)

    def test_a_date_without_dashes_is_no_number_of_seconds(self, read: Read) -> None:
        with pytest.raises(InvalidUpdate, match="needs an offset"):
            parse_update(rows(read(f"{LONG}{ATTRIBUTE},1,,x,20260131,,,\n"))[0])

    @pytest.mark.parametrize(
        ("header", "said"),
        [
            ("customer_id,value", "no column id (or attribute)"),
            ("id,customer_id", "no column value"),
            ("id,value", "no column customer_id or customer_email"),
            ("id,attribute,customer_id,value", "two columns for the same thing: id and attribute"),
            ("id,customer_id,value,occured_at", "'occured_at' is not known"),
            ("email,Job Title", '--map "Column=<attribute id>"'),
            (f"{ATTRIBUTE},1,x", "the first line must name the columns"),
            ('"id,value', "line 1: the names of the columns are no CSV"),
        ],
    )
    def test_a_header_that_will_not_do_is_one_error(self, read: Read, header: str, said: str) -> None:
        assert said in unusable(read, f"{header}\nx,y,z\n")


class TestWideForm:
    def test_a_line_is_a_customer_and_a_mapped_column_an_attribute(self, read: Read) -> None:
        mapping = {"Job Title": ATTRIBUTE, "plan": OTHER}
        records = read("email,Job Title,Plan,Notes\na@b.c,Developer,gold,x\nd@e.f,,silver,\n", mapping)
        assert rows(records) == [
            {"id": ATTRIBUTE, "customer_email": "a@b.c", "value": "Developer"},
            {"id": OTHER, "customer_email": "a@b.c", "value": "gold"},
            {"id": OTHER, "customer_email": "d@e.f", "value": "silver"},
        ]

    def test_a_line_without_values_changes_nothing(self, read: Read) -> None:
        assert [record.rows for record in read("email,Job\na@b.c,\n", {"Job": ATTRIBUTE})] == [[]]

    def test_the_vendors_customer_columns_edit_the_customer(self, read: Read) -> None:
        content = "email,customer_id,first_name,last_name,phone_no,Job\na@b.c,1,Ada,Lovelace,0123,Dev\n"
        assert rows(read(content, {"Job": ATTRIBUTE})) == [
            {
                "id": ATTRIBUTE,
                "value": "Dev",
                "customer": {
                    "customer_id": "1",
                    "email": "a@b.c",
                    "first_name": "Ada",
                    "last_name": "Lovelace",
                    "phone_no": "0123",
                },
            }
        ]

    def test_columns_that_are_not_used_are_named(self, path: Path) -> None:
        path.write_text("email,Job,Notes,line,reason\n", encoding="utf-8")
        with Lines(str(path)) as lines:
            assert list(read_rows(lines, {"Job": ATTRIBUTE}).notes) == ["columns that are not used: Notes"]

    @pytest.mark.parametrize(
        ("header", "said"),
        [
            ("email,Title", "--map names the column 'Job', which is not there"),
            ("Job,name", "no column customer_id or email"),
            ("email,Job,job", "two columns for the same thing: Job and job"),
            ("email,customer_email,Job", "two columns for the same thing"),
        ],
    )
    def test_a_header_that_will_not_do_is_one_error(self, read: Read, header: str, said: str) -> None:
        assert said in unusable(read, f"{header}\n", {"Job": ATTRIBUTE})


class TestBadCsv:
    HEAD = "id,customer_id,value\n"
    GOOD = f"{ATTRIBUTE},1,x\n"

    def test_line_numbers_count_lines_within_cells(self, read: Read) -> None:
        records = read(f'{self.HEAD}{ATTRIBUTE},1,"a\nb\n\nc"\n{self.GOOD}')
        assert [(record.line, record.last_line) for record in records] == [(2, 5), (6, 6)]
        assert rows(records)[0]["value"] == "a\nb\n\nc"

    def test_blank_lines_and_lines_of_empty_cells_are_no_records(self, read: Read) -> None:
        assert [record.line for record in read(f"\n{self.HEAD}\n{self.GOOD},,\n,,,,\n{self.GOOD}")] == [4, 7]

    def test_a_quote_that_is_never_closed_costs_its_own_line(self, read: Read) -> None:
        records = read(f'{self.HEAD}{ATTRIBUTE},1,"open\n{self.GOOD * 3}')
        assert list(problems(records)) == [2]
        assert "never closed" in problems(records)[2]
        assert len(rows(records)) == 3

    def test_it_does_so_in_a_file_of_any_length(self, read: Read) -> None:
        records = read(f'{self.HEAD}{ATTRIBUTE},1,"open\n{self.GOOD * 5000}')
        assert list(problems(records)) == [2]
        assert len(rows(records)) == 5000

    def test_it_does_so_when_a_later_quote_seems_to_close_it(self, read: Read) -> None:
        records = read(f'{self.HEAD}{ATTRIBUTE},1,"open\n{self.GOOD}{ATTRIBUTE},2,"closed"\n{self.GOOD}')
        assert list(problems(records)) == [2]
        assert [row["customer_id"] for row in rows(records)] == ["1", "2", "1"]

    def test_text_after_a_closing_quote_costs_its_own_line(self, read: Read) -> None:
        records = read(f'{self.HEAD}{ATTRIBUTE},1,"Bob "the" builder"\n{self.GOOD}')
        assert "double the quotes" in problems(records)[2]
        assert len(rows(records)) == 1

    @pytest.mark.parametrize(
        ("line", "mend"), [(f"{ATTRIBUTE},1,a,b", 'needs "quotes"'), (f"{ATTRIBUTE},1", "write the missing cells")]
    )
    def test_a_wrong_number_of_cells_costs_its_own_line(self, read: Read, line: str, mend: str) -> None:
        records = read(f"{self.HEAD}{line}\n{self.GOOD}")
        assert "cells where the first line has 3" in problems(records)[2]
        assert mend in problems(records)[2]
        assert len(rows(records)) == 1

    def test_a_cell_of_any_length_beyond_the_limit_costs_its_own_line(self, read: Read) -> None:
        records = read(f"{self.HEAD}{ATTRIBUTE},1,{'x' * 200_000}\n{self.GOOD}")
        assert list(problems(records)) == [2]
        assert len(rows(records)) == 1

    def test_an_endless_line_costs_itself_and_no_memory(self, read: Read) -> None:
        records = read(f"{self.HEAD}{ATTRIBUTE},1,{'x' * (3 * MAX_LINE_BYTES)}\n{self.GOOD}")
        assert "longer than" in problems(records)[2]
        assert [record.line for record in records] == [2, 3]
        assert len(records[0].text) == 0

    def test_an_endless_line_within_a_cell_costs_the_lines_it_is_part_of(self, read: Read) -> None:
        records = read(f'{self.HEAD}{ATTRIBUTE},1,"a\n{"x" * (2 * MAX_LINE_BYTES)}\n{self.GOOD}')
        assert list(problems(records)) == [2, 3]
        assert len(rows(records)) == 1

    def test_another_encoding_costs_the_lines_that_show_it(self, read: Read) -> None:
        records = read(f"{self.HEAD}{ATTRIBUTE},1,José\n{self.GOOD}".encode("latin-1"))
        assert "byte 0xE9 at position 43 is no UTF-8" in problems(records)[2]
        assert "iconv" in problems(records)[2]
        assert len(rows(records)) == 1

    def test_a_lone_carriage_return_is_named(self, read: Read) -> None:
        assert "carriage return" in problems(read(f"{self.HEAD}{ATTRIBUTE},1,x\ry\n"))[2]

    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    def test_line_ends_of_any_kind_and_a_last_line_without(self, read: Read, end: str) -> None:
        assert [
            row["value"] for row in rows(read(f"{self.HEAD}{self.GOOD}{self.GOOD}".replace("\n", end).rstrip()))
        ] == ["x", "x"]

    @pytest.mark.parametrize("delimiter", [";", "\t"])
    def test_other_delimiters_are_found_out(self, read: Read, delimiter: str) -> None:
        assert rows(read(f"{self.HEAD}{self.GOOD}".replace(",", delimiter))) == [
            {"id": ATTRIBUTE, "customer_id": "1", "value": "x"}
        ]

    @given(st.binary(max_size=300))
    def test_no_bytes_end_the_reading(self, garbage: bytes) -> None:
        source = io.BufferedReader(io.BytesIO(self.HEAD.encode() + garbage + b"\n" + self.GOOD.encode() * 2))  # type: ignore[arg-type]  # BytesIO is raw enough
        lines = Lines.__new__(Lines)
        lines.name, lines.number, lines._raw, lines._bytes = "x", 0, source, source
        numbered = iter(lines)
        records = list(CsvRows(lines, next(numbered), numbered, {}))
        assert sum(len(record.rows) for record in records) >= 1


class TestJsonLines:
    def test_a_line_is_a_row_of_the_api(self, read: Read) -> None:
        row = {"id": ATTRIBUTE, "customer": {"email": "a@b.c"}, "value": 3, "occurred_at": 1.5, "accepted_at": 2}
        records = read(f"\n{json.dumps(row)}\n\n{json.dumps(row)}")
        assert rows(records) == [row, row]
        assert [record.line for record in records] == [2, 4]

    def test_a_line_of_a_file_of_refused_rows_is_its_row(self, read: Read) -> None:
        assert rows(read('{"line": 7, "reason": "x", "row": {"id": 1}}')) == [{"id": 1}]

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("{", "is no JSON"),
            ("[1]", "must be a JSON object"),
            ("3", "must be a JSON object"),
            ('{"a": ' * 100_000, "nested too deeply"),
            ('{"value": ' + "1" * 5000 + "}", "too many digits"),
        ],
    )
    def test_a_bad_line_costs_itself(self, read: Read, line: str, said: str) -> None:
        records = read(f'{{"id": 1}}\n{line}\n{{"id": 2}}')
        assert said in problems(records)[2]
        assert [row["id"] for row in rows(records)] == [1, 2]

    def test_another_encoding_costs_the_lines_that_show_it(self, read: Read) -> None:
        assert "no UTF-8" in problems(read(b'{"id": 1}\n{"value": "Jos\xe9"}\n'))[2]

    def test_one_list_of_everything_is_answered_with_the_mend(self, read: Read) -> None:
        assert "jq -c '.[]'" in unusable(read, '[{"id": 1}]')

    def test_a_map_of_columns_does_not_fit(self, read: Read) -> None:
        assert "--map is for CSV" in unusable(read, '{"id": 1}', {"Job": ATTRIBUTE})


class TestSources:
    CONTENT = f"id,customer_id,value\n{ATTRIBUTE},1,é\n".encode()

    @pytest.mark.parametrize(
        "content",
        [CONTENT, b"\xef\xbb\xbf" + CONTENT, gzip.compress(CONTENT), gzip.compress(b"\xef\xbb\xbf" + CONTENT)],
    )
    def test_plain_or_gzip_with_or_without_a_mark(self, read: Read, content: bytes) -> None:
        assert rows(read(content)) == [{"id": ATTRIBUTE, "customer_id": "1", "value": "é"}]

    @pytest.mark.parametrize("content", [CONTENT, gzip.compress(CONTENT)])
    def test_the_standard_input_is_read_the_same_way(self, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
        class Stdin:
            buffer = io.BufferedReader(io.BytesIO(content))  # type: ignore[arg-type]  # BytesIO is raw enough

        monkeypatch.setattr(sys, "stdin", Stdin)
        with Lines("-") as lines:
            assert lines.size is None
            assert len(rows(list(read_rows(lines, {})))) == 1
        assert not Stdin.buffer.closed

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "is empty"),
            (b"\n\n", "is empty"),
            (b"PK\x03\x04xlsx", "save it as CSV"),
            ("id,value".encode("utf-16"), "iconv -f UTF-16"),
            (b"BZh91AY", "use gzip"),
        ],
    )
    def test_what_is_no_such_file_is_named(self, read: Read, content: bytes, said: str) -> None:
        assert said in unusable(read, content)

    def test_a_file_that_is_not_there_is_named(self) -> None:
        with pytest.raises(UnusableFile, match="nowhere cannot be opened: No such file"):
            Lines("nowhere")

    def test_a_folder_is_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(UnusableFile, match="directory"):
            Lines(str(tmp_path))

    def test_a_damaged_archive_says_how_far_it_could_be_read(self, read: Read) -> None:
        content = gzip.compress(b"id,customer_id,value\n" + b"".join(b"%d,1,x\n" % number for number in range(100_000)))
        said = unusable(read, content[: len(content) // 2])
        assert "cannot be read after line" in said
        assert "ends early" in said


class TestRefusedRows:
    """What is written to the file of refused rows is read again as the same rows."""

    def reader(
        self, path: Path, content: str | bytes, mapping: Mapping[str, str] | None = None
    ) -> tuple[RowsReader, list[Record]]:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        with Lines(str(path)) as lines:
            reader = read_rows(lines, mapping or {})
            return reader, list(reader)

    def refused(self, reader: RowsReader, record: Record) -> list[Refusal]:
        refusals = []
        for index, row in enumerate(record.rows):
            with pytest.raises(InvalidUpdate) as raised:
                parse_update(row)
            refusals.append(Refusal(index, raised.value))
        return refusals

    def test_csv_has_the_same_columns_and_the_reason(self, path: Path) -> None:
        reader, (record,) = self.reader(path, f'attribute,email,value\n{ATTRIBUTE},"no, mail","a\nb"\n')
        refusals = self.refused(reader, record)
        reason = reader.reasons(refusals)
        assert reason == "email: must be an e-mail address, for example ada@example.com (got 'no, mail')"
        written = reader.rejects_head() + reader.rejects_line(record, refusals, reason)
        again, (same,) = self.reader(path, written)
        assert same.rows == record.rows
        # Refused once more, the notes of the first time are not doubled.
        assert again.rejects_head() == reader.rejects_head()
        assert again.rejects_line(same, refusals, reason) == reader.rejects_line(record, refusals, reason)

    def test_of_a_wide_line_only_what_was_refused_is_left(self, path: Path) -> None:
        content = "email;A;B;C\na@b.c;1;2;3\n"
        mapping = {"A": ATTRIBUTE, "B": OTHER, "C": "9f171295-6935-400c-af6b-fd628a46bc73"}
        reader, (record,) = self.reader(path, content, mapping)
        refusal = Refusal(1, InvalidUpdate(()))
        _, (same,) = self.reader(path, reader.rejects_head() + reader.rejects_line(record, [refusal], "x"), mapping)
        assert same.rows == [record.rows[1]]

    def test_of_a_wide_line_the_reason_is_said_once(self, path: Path) -> None:
        reader, (record,) = self.reader(path, "E-Mail,email,A,B\nx,nobody,1,2\n", {"A": ATTRIBUTE, "B": OTHER})
        assert reader.reasons(self.refused(reader, record)).count("must be an e-mail address") == 1

    @pytest.mark.parametrize(
        "line",
        [f'{ATTRIBUTE},1,"open', f"{ATTRIBUTE},1", f"{ATTRIBUTE},1,a,b"],
    )
    def test_csv_that_is_none_is_refused_again(self, path: Path, line: str) -> None:
        reader, (record,) = self.reader(path, f"id,customer_id,value\n{line}\n")
        assert record.problem is not None
        written = reader.rejects_line(record, (), record.problem)
        assert line.partition(",1")[0] in written
        _, (again,) = self.reader(path, reader.rejects_head() + written)
        assert again.problem is not None

    def test_bytes_of_another_encoding_are_kept(self, path: Path) -> None:
        reader, (record,) = self.reader(path, f"id,customer_id,value\n{ATTRIBUTE},1,José\n".encode("latin-1"))
        written = reader.rejects_line(record, (), record.problem or "").encode(errors="surrogateescape")
        assert f"{ATTRIBUTE},1,José,2,".encode("latin-1") in written

    def test_json_has_the_row_with_its_line_and_the_reason(self, path: Path) -> None:
        reader, (record,) = self.reader(path, '{"id": "é", "customer_id": "1", "value": "x"}\n')
        refusals = self.refused(reader, record)
        written = reader.rejects_line(record, refusals, reader.reasons(refusals))
        noted: dict[str, Any] = json.loads(written)
        assert noted["line"] == 1
        assert "must be the attribute's UUID" in noted["reason"]
        _, (same,) = self.reader(path, written)
        assert same.rows == record.rows

    def test_json_that_is_none_stands_as_it_was(self, path: Path) -> None:
        reader, records = self.reader(path, '{"id": 1}\n{broken\r\n')
        assert reader.rejects_line(records[1], (), "x") == "{broken\n"
