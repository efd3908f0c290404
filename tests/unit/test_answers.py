"""The API's answer → what it means: every documented shape, and those that the reference leaves open."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunce_attributes.answers import Answer, message_text, read_answer, retry_after_seconds
from bunce_attributes.outcomes import (
    CallOutcome,
    Failed,
    Misconfigured,
    Processed,
    RateLimited,
    RefusedCall,
    RefusedRows,
    TooLarge,
    Unreadable,
)

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)


def read(status: int, document: Any, rows: int = 5, **headers: str) -> CallOutcome:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return read_answer(Answer(status, {k.replace("_", "-"): v for k, v in headers.items()}, body), rows, NOW)


def processed(errors: Any, rows: int = 5) -> CallOutcome:
    return read(200, {"success": True, "data": {"saved": [], "errors": errors}, "message": "ok"}, rows)


def test_the_example_of_the_reference_names_the_row_that_was_refused() -> None:
    reason = "Provided value is not a valid format for timestamp attribute."
    assert processed({"0": reason}) == Processed(200, {0: reason})


@pytest.mark.parametrize("errors", [{}, [], None])
def test_every_way_to_say_that_nothing_was_refused_is_understood(errors: Any) -> None:
    assert processed(errors) == Processed(200, {})


def test_absent_errors_mean_that_nothing_was_refused() -> None:
    assert read(201, {"success": True, "data": {"saved": []}}) == Processed(201, {})
    assert read(200, {"data": {}}) == Processed(200, {})


def test_a_list_of_errors_is_a_map_with_the_keys_from_zero() -> None:
    """A PHP back end writes a map with the keys 0…n-1 as a list."""
    assert processed(["first", "second"]) == Processed(200, {0: "first", 1: "second"})


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("a  string\n of two lines", "a string of two lines"),
        (["one", "two"], "one; two"),
        ({"value": ["is bad", "is old"], "id": "x"}, "value: is bad; is old; id: x"),
        ([], ""),
        (17, "17"),
        (True, "true"),
        ([{"code": 7}], "code: 7"),
    ],
)
def test_a_message_may_be_a_string_a_list_or_an_object(message: Any, text: str) -> None:
    assert processed({"3": message}) == Processed(200, {3: text})


def test_a_long_message_is_cut() -> None:
    assert message_text("ä" * 1000) == "ä" * 299 + "…"


def test_half_a_surrogate_pair_in_a_message_does_not_reach_redis() -> None:
    """JSON can write one; UTF-8 and the JSON reader of Redis' scripts cannot, and the call could never be settled."""
    outcome = read(500, b'{"message": "broken \\ud83d"}')
    assert outcome == Failed(500, "broken ?", unknown=True)
    assert processed({"0": "\ud83d"}) == Processed(200, {0: "?"})


@pytest.mark.parametrize("depth", [100, 400, 500, 900, 985, 100_000])
def test_a_message_of_any_depth_is_shown_or_told_to_be_too_deep(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    assert isinstance(read(200, b'{"data":{"errors":{"1":' + deep + b"}}}"), Processed | Unreadable)
    assert isinstance(read(422, b'{"message":' + deep + b"}"), RefusedCall)
    assert isinstance(read(422, b'{"errors":{"attributes.1.id":' + deep + b"}}"), RefusedRows | RefusedCall)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html>All is well</html>",
        b"\xff\xfe\x00",
        b'{"data": {"errors": {}}',
        [],
        "saved",
        {},
        {"success": True},
        {"data": None},
        {"data": []},
        {"data": "saved"},
        {"success": False, "data": {"saved": [], "errors": {}}},
        {"data": {"errors": "none"}},
        {"data": {"errors": 0}},
        {"data": {"errors": {"5": "there are only five rows"}}},
        {"data": {"errors": {"-1": "no"}}},
        {"data": {"errors": {"first": "no"}}},
        {"data": {"errors": {"0": "no", "attributes.1.id": "no"}}},
        {"data": {"errors": {"1.0": "no"}}},
        {"data": {"errors": {"٣": "no"}}},
        {"data": {"errors": {"": "no"}}},
        {"data": {"errors": {"9" * 5000: "no"}}},
        {"data": {"errors": {"0": None}}},
        {"data": {"errors": ["a", "b", "c", "d", "e", "f"]}},
    ],
)
def test_an_answer_that_does_not_say_what_was_saved_saves_nothing(document: Any) -> None:
    assert isinstance(read(200, document), Unreadable)


def test_no_content_saves_nothing() -> None:
    assert isinstance(read(204, b""), Unreadable)


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize(
    "document",
    [
        {"success": False, "errors": {"attributes.3.id": ["is no UUID"]}},
        {"errors": {"attributes[3].id": ["is no UUID"]}},
        {"errors": {"attributes.3": "is no UUID"}},
        {"errors": {"3": "is no UUID"}},
        {"errors": {"[3]": "is no UUID"}},
        {"error": {"errors": {"3": "is no UUID"}}},
        {"error": {"attributes.3.id": ["is no UUID"]}},
        {"data": {"errors": {"3": ["is no UUID"]}}},
    ],
)
def test_a_refusal_that_names_rows_costs_only_these(status: int, document: Any) -> None:
    assert read(status, document) == RefusedRows(status, {3: "is no UUID"})


def test_two_faults_of_one_row_are_one_refusal_with_both_messages() -> None:
    outcome = read(422, {"errors": {"attributes.3.id": ["bad id"], "attributes.3.value": ["bad value"], "1": "x"}})
    assert outcome == RefusedRows(422, {3: "bad id; bad value", 1: "x"})


@pytest.mark.parametrize(
    "document",
    [
        {"success": False, "message": "ID param is not valid UUID"},
        {"message": "no", "errors": {}},
        {"message": "no", "errors": []},
        {"message": "no", "errors": {"attributes": ["is required"]}},
        {"message": "no", "errors": {"attributes.3.id": ["bad"], "attributes": ["bad"]}},
        {"message": "no", "errors": {"attributes.7.id": ["of no row of this call"]}},
        {"message": "no", "errors": {"attributes.x.id": ["bad"]}},
        {"error": "no"},
        {"errors": "no"},
        [],
        b"",
        b"<html>",
    ],
)
def test_a_refusal_that_names_no_row_is_a_refusal_of_the_call(document: Any) -> None:
    assert isinstance(read(422, document), RefusedCall)


def test_the_message_of_a_refused_call_is_kept_for_the_dead_letter() -> None:
    assert read(400, {"success": False, "message": "bad"}) == RefusedCall(400, "bad")
    assert read(422, {"errors": {"attributes": ["are required"]}}) == RefusedCall(422, "attributes: are required")
    assert read(422, b"") == RefusedCall(422, "HTTP 422")


def test_too_large() -> None:
    assert read(413, b"<html>") == TooLarge(413, "HTTP 413")


@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 507, 520, 599, 408, 425])
def test_the_servers_faults_leave_open_whether_the_call_was_applied(status: int) -> None:
    assert read(status, {"message": "sorry"}) == Failed(status, "sorry", unknown=True)


@pytest.mark.parametrize("status", [401, 403, 404, 405, 409, 410, 418, 451, 301, 302, 307, 308, 304, 300, 101])
def test_all_other_answers_mean_that_the_caller_is_wrong(status: int) -> None:
    assert read(status, {"message": "no"}) == Misconfigured(status, "no")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("4", 4.0),
        (" 4 ", 4.0),
        ("1.5", 1.5),
        ("3600", 3600.0),
        ("0", 1.0),
        ("0.2", 1.0),
        ("-0", 1.0),
        ("-1", None),
        ("3601", None),
        ("86400", None),
        ("9" * 400, None),
        ("1e3", None),
        ("nan", None),
        ("inf", None),
        ("1_0", None),
        ("٣", None),
        ("", None),
        ("soon", None),
        ("4, 4", None),
        ("Sat, 31 Jan 2026 12:00:30 GMT", 30.0),
        ("Sat, 31 Jan 2026 13:00:30 +0100", 30.0),
        ("Saturday, 31-Jan-26 12:00:30 GMT", 30.0),
        ("Sat Jan 31 12:00:30 2026", 30.0),
        ("Sat, 31 Jan 2026 11:00:00 GMT", 1.0),
        ("Sun, 01 Feb 2026 12:00:00 GMT", None),
        ("Sat, 31 Jan 99999999999999999999 12:00:30 GMT", None),
        ("Sat, 31 Jan 2026 12:00:30 +99999999999999999999", None),
        ("Sat, 31 Jan 2026 99:00:30 GMT", None),
    ],
)
def test_retry_after_in_every_form(value: str, seconds: float | None) -> None:
    """Seconds or a date; 0 and the past are the shortest pause; the negative, absurd and unreadable are none."""
    assert retry_after_seconds({"retry-after": value}, NOW) == seconds


def test_a_retry_after_date_is_measured_on_the_servers_clock() -> None:
    headers = {"retry-after": "Sat, 31 Jan 2026 14:00:30 GMT", "date": "Sat, 31 Jan 2026 14:00:00 GMT"}
    assert retry_after_seconds(headers, NOW) == 30.0
    assert retry_after_seconds({**headers, "date": "garbage"}, NOW) is None


@pytest.mark.parametrize(("header", "seconds"), [("4", 4.0), ("soon", 60.0), ("-4", 60.0), ("", 60.0)])
def test_a_429_without_a_sensible_retry_after_means_the_documented_penalty(header: str, seconds: float) -> None:
    assert read(429, b"", retry_after=header) == RateLimited(429, seconds)


def test_a_429_without_the_header_means_the_documented_penalty() -> None:
    assert read(429, {"success": False, "message": "You have reached maximum request limit."}) == RateLimited(429, 60.0)


def test_only_a_503_may_ask_for_time() -> None:
    assert read(503, b"", retry_after="7") == Failed(503, "HTTP 503", unknown=True, retry_after_seconds=7.0)
    assert read(503, b"", retry_after="soon") == Failed(503, "HTTP 503", unknown=True)
    assert read(500, b"", retry_after="7") == Failed(500, "HTTP 500", unknown=True)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_errors = st.dictionaries(st.sampled_from(["0", "4", "5", "attributes.2.id", "x", "-1"]), _json, max_size=3)
_document = st.one_of(
    _json,
    st.fixed_dictionaries({}, optional={"success": _json, "message": _json, "data": _json, "errors": _errors | _json}),
    st.fixed_dictionaries({"data": st.fixed_dictionaries({}, optional={"errors": _errors | _json})}),
)


@given(
    status=st.integers(100, 599),
    body=st.binary(max_size=30) | _document.map(lambda d: json.dumps(d).encode()),
    header=st.text(max_size=12),
    rows=st.integers(1, 6),
)
def test_no_answer_raises_and_none_names_a_row_that_was_not_sent(
    status: int, body: bytes, header: str, rows: int
) -> None:
    outcome = read_answer(Answer(status, {"retry-after": header}, body), rows, NOW)
    assert outcome.status == status
    if isinstance(outcome, Processed | RefusedRows):
        assert all(0 <= index < rows for index in outcome.refusals)
    if isinstance(outcome, RateLimited):
        assert 1.0 <= outcome.retry_after_seconds <= 3600.0
    assert isinstance(outcome, Processed | Unreadable) == (200 <= status < 300)
