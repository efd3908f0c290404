"""Whatever bytes lie in the queue: rows, or a reason that holds no data of the message."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zlib
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.serialization import dumps as kombu_dumps

from bunce_attributes.messages import MOST_BODY_BYTES, Rows, Unreadable, read_message
from bunce_attributes.updates import Lane

ROW = {"id": "9f171295-6935-400c-af6b-fd628a46bc71", "customer_id": "1", "value": "Ada"}
EMBED = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def envelope(body: str | None = None, *, headers: Any = None, properties: Any = None, **more: Any) -> bytes:
    document = {
        "body": json.dumps([[[ROW]], {}, EMBED]) if body is None else body,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"task": "bunce_attributes.update", "id": "an-id"} | (headers or {}),
        "properties": {"body_encoding": "utf-8"} if properties is None else properties,
        **more,
    }
    return json.dumps(document).encode()


def call(*args: Any, embed: Any = EMBED, headers: Any = None, **kwargs: Any) -> Rows | Unreadable:
    return read_message(envelope(json.dumps([args, kwargs, embed]), headers=headers))


def rows_of(message: Rows | Unreadable) -> list[Any]:
    assert isinstance(message, Rows), message
    return message.rows


def reason_of(message: Rows | Unreadable) -> str:
    assert isinstance(message, Unreadable)
    return message.reason


# -- the body -----------------------------------------------------------------------------------------------------


def test_a_row_or_a_list_of_rows() -> None:
    assert rows_of(call(ROW)) == [ROW]
    assert rows_of(call([ROW, ROW])) == [ROW, ROW]
    assert rows_of(call(rows=[ROW])) == [ROW]
    assert rows_of(call([])) == []


def test_what_is_no_row_is_still_one_row_to_be_judged() -> None:
    assert rows_of(call(None)) == [None]
    assert rows_of(call("text")) == ["text"]
    assert rows_of(call([[ROW], 5])) == [[ROW], 5]


def test_the_lane_may_be_the_second_argument_or_named() -> None:
    for message in (call([ROW], "bulk"), call([ROW], lane="bulk"), call(rows=[ROW], lane="bulk")):
        assert isinstance(message, Rows)
        assert message.lane is Lane.BULK
    live = call([ROW])
    assert isinstance(live, Rows)
    assert live.lane is Lane.LIVE


@pytest.mark.parametrize("lane", ["fast", "", None, 1, [], {}, ["live"]])
def test_a_lane_that_is_none_is_named_as_the_fault(lane: Any) -> None:
    assert "lane" in reason_of(call([ROW], lane))


@pytest.mark.parametrize(
    "message",
    [
        call(),
        call(lane="live"),
        call(ROW, "live", 3),
        call(ROW, rows=ROW),
        call(ROW, "live", lane="live"),
        call(ROW, priority=3),
    ],
)
def test_other_arguments_are_refused(message: Rows | Unreadable) -> None:
    assert isinstance(message, Unreadable)


@pytest.mark.parametrize(
    "body", ["{}", "[]", "[[]]", "[[], {}, {}, {}]", "null", '"x"', "[{}, {}, {}]", "[[], [], {}]"]
)
def test_a_body_of_another_shape_is_refused(body: str) -> None:
    assert isinstance(read_message(envelope(body)), Unreadable)


def test_kwargs_and_embed_may_be_missing_or_null() -> None:
    """What a hand-written producer leaves out."""
    assert rows_of(read_message(envelope(json.dumps([[ROW], {}])))) == [ROW]
    assert rows_of(read_message(envelope(json.dumps([[ROW], None, None])))) == [ROW]


@pytest.mark.parametrize("name", ["callbacks", "errbacks", "chain", "chord"])
def test_callbacks_are_refused_because_nobody_would_run_them(name: str) -> None:
    assert "callbacks" in reason_of(call(ROW, embed={**EMBED, name: [{"task": "other"}]}))


def test_both_body_encodings() -> None:
    body = json.dumps([[[ROW]], {}, EMBED])
    assert rows_of(read_message(envelope(body, properties={}))) == [ROW]
    base64 = b64encode(body.encode()).decode()
    assert rows_of(read_message(envelope(base64, properties={"body_encoding": "base64"}))) == [ROW]
    assert "base64" in reason_of(read_message(envelope("§", properties={"body_encoding": "base64"})))


@pytest.mark.parametrize("encoding", ["rot13", 5, [], {}, ["base64"], True])
def test_another_body_encoding_is_refused(encoding: Any) -> None:
    assert "body_encoding" in reason_of(read_message(envelope(properties={"body_encoding": encoding})))


@pytest.mark.parametrize(
    "content_type", ["application/x-python-serialize", "application/x-yaml", "pickle", None, [], {"a": 1}, 5]
)
def test_only_json_is_accepted(content_type: Any) -> None:
    assert "content-type" in reason_of(read_message(envelope(**{"content-type": content_type})))


@pytest.mark.parametrize("encoding", ["latin-9000", "hex", "base64", "undefined", "a\0b", "\ud800", "x" * 10_000])
def test_a_text_encoding_that_is_none_is_refused(encoding: str) -> None:
    assert isinstance(read_message(envelope(**{"content-encoding": encoding})), Unreadable)


@pytest.mark.parametrize("encoding", [None, 5, [], "", "UTF8", "utf-8"])
def test_a_missing_text_encoding_is_utf_8(encoding: Any) -> None:
    assert rows_of(read_message(envelope(**{"content-encoding": encoding}))) == [ROW]


def test_values_that_kombu_tags_with_their_type_are_read() -> None:
    moment = datetime.fromisoformat("2026-01-31T12:00:00+00:00")
    row = {"id": UUID(int=7), "value": moment, "occurred_at": moment, "n": Decimal("1.50")}
    _, _, text = kombu_dumps([[[row]], {}, EMBED], serializer="json")  # type: ignore[no-untyped-call]  # kombu has no annotations
    assert rows_of(read_message(envelope(text))) == [row]


@pytest.mark.parametrize(
    "tagged",
    [
        {"__type__": "uuid", "__value__": {"hex": 5}},
        {"__type__": "datetime", "__value__": 5},
        {"__type__": "decimal", "__value__": "x"},
        {"__type__": "bytes", "__value__": 5},
        {"__type__": [], "__value__": 5},
        {"__type__": "other", "__value__": 5},
    ],
)
def test_a_tagged_value_that_is_broken_raises_nothing(tagged: Any) -> None:
    assert isinstance(call(tagged), Rows | Unreadable)


# -- compression --------------------------------------------------------------------------------------------------

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "application/x-gzip": zlib.compress,
    "zlib": zlib.compress,
    "gzip": gzip.compress,
    "application/x-bz2": bz2.compress,
    "bzip2": bz2.compress,
    "application/x-lzma": lzma.compress,
    "xz": lzma.compress,
}


def compressed(data: bytes, name: Any) -> Rows | Unreadable:
    body = b64encode(data).decode()
    return read_message(envelope(body, headers={"compression": name}, properties={"body_encoding": "base64"}))


@pytest.mark.parametrize("name", COMPRESSORS)
def test_each_compression(name: str) -> None:
    data = COMPRESSORS[name](json.dumps([[[ROW] * 50], {}, EMBED]).encode())
    assert rows_of(compressed(data, name)) == [ROW] * 50


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("data", [b"", b"\x00" * 20, b"not compressed at all"])
def test_a_broken_compressed_body_is_refused(name: str, data: bytes) -> None:
    assert isinstance(compressed(data, name), Unreadable)
    whole = COMPRESSORS[name](json.dumps([[[ROW] * 50], {}, EMBED]).encode())
    assert isinstance(compressed(whole[: len(whole) // 2], name), Unreadable)


@pytest.mark.parametrize("name", ["application/x-gzip", "bzip2", "xz"])
def test_a_decompression_bomb_is_refused_before_it_fills_the_memory(name: str) -> None:
    bomb = COMPRESSORS[name](b" " * (MOST_BODY_BYTES + 1))
    assert len(bomb) < MOST_BODY_BYTES / 100
    assert "64 MiB" in reason_of(compressed(bomb, name))


@pytest.mark.parametrize("name", ["zstd", "application/x-brotli", 5, ["zlib"], {"a": 1}])
def test_another_compression_is_refused(name: Any) -> None:
    assert "compression" in reason_of(compressed(b"", name))


# -- the envelope -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00",
        b"\xff\xfe\xfd",
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"{}",
        b'{"headers": []}',
        b'{"headers": {"id": "x"}}',
        b'{"headers": {"task": "bunce_attributes.update"}}',
        b'{"headers": {"task": "bunce_attributes.update"}, "body": 5}',
        b'{"headers": {"task": "bunce_attributes.update"}, "body": null, "properties": []}',
        b'{"headers": {"task": ["bunce_attributes.update"]}, "body": ""}',
        b'{"headers": {"task": "bunce_attributes.update"}, "body": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"9" * 100_000,
        b'{"headers": {"n": ' + b"9" * 5000 + b"}}",
    ],
)
def test_garbage_is_unreadable_and_raises_nothing(raw: bytes) -> None:
    assert isinstance(read_message(raw), Unreadable)


def test_protocol_1_is_refused_with_the_mend() -> None:
    old = {"task": "bunce_attributes.update", "id": "x", "args": [ROW], "kwargs": {}}
    message = read_message(envelope(json.dumps(old)).replace(b'"task": "bunce_attributes.update", ', b"", 1))
    assert "task_protocol to 2" in reason_of(message)


@pytest.mark.parametrize("task", ["celery.backend_cleanup", "", None, 5, []])
def test_a_message_for_another_task_is_refused(task: Any) -> None:
    assert "another task" in reason_of(read_message(envelope(headers={"task": task})))


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        ("2026-01-31T12:00:00+00:00", 1769860800.0),
        ("2026-01-31T13:00:00+01:00", 1769860800.0),
        ("2026-01-31T12:00:00", 1769860800.0),
        ("2026-01-31T12:00:00.500000Z", 1769860800.5),
        (1769860800, 1769860800.0),
        (1769860800.5, 1769860800.5),
        (None, None),
    ],
)
def test_eta_and_expires_as_celery_writes_them(moment: Any, seconds: float | None) -> None:
    message = call(ROW, headers={"eta": moment, "expires": moment})
    assert isinstance(message, Rows)
    assert (message.eta, message.expires) == (seconds, seconds)


@pytest.mark.parametrize("name", ["eta", "expires"])
@pytest.mark.parametrize("moment", ["soon", "", [], {}, True, 1e300, -1e300, 10**400, float("nan"), float("inf")])
def test_a_moment_that_is_none_is_refused(name: str, moment: Any) -> None:
    assert name in reason_of(call(ROW, headers={name: moment}))


@pytest.mark.parametrize("stamp", [None, "now", True, -1, 0, 2**41, float("nan"), [], {}])
def test_a_strange_moment_of_enqueueing_is_ignored(stamp: Any) -> None:
    message = call(ROW, headers={"enqueued_at": stamp})
    assert isinstance(message, Rows)
    assert message.enqueued_at is None


@pytest.mark.parametrize("task_id", [None, 5, [], "x" * 101])
def test_a_strange_id_is_ignored(task_id: Any) -> None:
    message = call(ROW, headers={"id": task_id})
    assert isinstance(message, Rows)
    assert message.task_id == ""


def test_a_huge_number_costs_its_own_row_alone() -> None:
    """Python refuses to read integers of more than 4,300 digits, and with them the whole message."""
    digits = "9" * 5_000
    body = json.dumps([[[ROW, "HERE"]], {}, EMBED]).replace('"HERE"', f'{{"value": {digits}, "n": 7}}')
    rows = rows_of(read_message(envelope(body)))
    assert rows[0] == ROW
    assert rows[1] == {"value": Decimal(digits), "n": 7}


@pytest.mark.parametrize("depth", [10, 500, 900, *range(960, 1000), 100_000])
def test_any_depth_is_read_or_refused(depth: int) -> None:
    body = json.dumps([["HERE"], {}, EMBED]).replace('"HERE"', "[" * depth + "]" * depth)
    assert isinstance(read_message(envelope(body)), Rows | Unreadable)


SECRET = "ada.lovelace@example.com"


@pytest.mark.parametrize(
    "raw",
    [
        SECRET.encode(),
        json.dumps(SECRET).encode(),
        envelope(SECRET),
        envelope(headers={"task": SECRET}),
        envelope(headers={"eta": SECRET}),
        envelope(headers={"compression": SECRET}),
        envelope(properties={"body_encoding": SECRET}),
        envelope(**{"content-type": SECRET}),
        envelope(**{"content-encoding": SECRET}),
        envelope(json.dumps([[ROW, SECRET], {}, EMBED])),
        envelope(json.dumps([[ROW], {SECRET: 1}, EMBED])),
    ],
)
def test_no_reason_holds_data_of_the_message(raw: bytes) -> None:
    assert SECRET not in reason_of(read_message(raw))


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.binary(max_size=60))
def test_no_bytes_raise(raw: bytes) -> None:
    assert isinstance(read_message(raw), Unreadable)


@given(
    part=st.sampled_from(
        ["headers", "properties", "body", "content-type", "content-encoding", "task", "eta", "expires"]
    ),
    value=_json,
)
def test_no_json_in_any_place_raises(part: str, value: Any) -> None:
    document = json.loads(envelope())
    if part in {"task", "eta", "expires"}:
        document["headers"][part] = value
    else:
        document[part] = value
    assert isinstance(read_message(json.dumps(document).encode()), Rows | Unreadable)
    document["headers"], document["body"] = {"task": "bunce_attributes.update"}, json.dumps(value)
    assert isinstance(read_message(json.dumps(document).encode()), Rows | Unreadable)
