"""What a row is, and what is said about one that is none."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunce_attributes.updates import (
    AttributeUpdate,
    IdentityKind,
    InvalidUpdate,
    parse_update,
    shortened,
    timestamp_value,
)

ATTRIBUTE = "9f171295-6935-400c-af6b-fd628a46bc71"


def row(**changes: object) -> dict[str, object]:
    return {"id": ATTRIBUTE, "customer_id": "290000", "value": "Developer", **changes}


def faults(given: object) -> dict[str, str]:
    with pytest.raises(InvalidUpdate) as raised:
        parse_update(given)
    return {fault.field: fault.problem for fault in raised.value.faults}


@pytest.mark.parametrize(
    "example",
    [
        {"id": ATTRIBUTE, "customer_email": "verynewcustomer@gmail.com", "value": "Developer"},
        {"id": ATTRIBUTE, "customer_id": "new_id_100", "value": "Developer"},
        {
            "id": ATTRIBUTE,
            "value": "Product Manager",
            "customer": {
                "customer_id": "290000",
                "first_name": "Dami Edited",
                "last_name": "Robert Edited",
                "phone_no": "08106489348",
                "email": "mfon9000@gmail.com",
                "devices": [{"device_type": "ios", "device_token": "111118766834283"}],
            },
        },
    ],
)
def test_the_rows_of_the_api_reference_are_sent_as_they_came(example: dict[str, Any]) -> None:
    assert json.loads(parse_update(example).row_json()) == example


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("", ""),
        ("  kept  ", "  kept  "),
        (7, "7"),
        (-0.5, "-0.5"),
        (Decimal("10.20"), "10.20"),
        (Decimal("1E+3"), "1000"),
        (True, "true"),
        (False, "false"),
        (datetime(2026, 1, 31, 13, 0, 5, 999_999, tzinfo=timezone(timedelta(hours=1))), "2026-01-31T12:00:05Z"),
    ],
)
def test_values_are_written_as_the_api_wants_them(value: object, sent: str) -> None:
    assert parse_update(row(value=value)).value == sent


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("NaN"), None, [], {}, b"x", object()])
def test_other_values_are_refused(value: object) -> None:
    assert set(faults(row(value=value))) == {"value"}


def test_a_naive_datetime_is_refused_with_an_example() -> None:
    assert "datetime.now(timezone.utc)" in faults(row(value=datetime(2026, 1, 31)))["value"]  # noqa: DTZ001 - the point


def test_every_fault_is_named_at_once() -> None:
    assert set(faults({"id": "no-uuid", "customer_email": "nobody", "vlaue": "x", "occurred_at": "yesterday"})) == {
        "id",
        "value",
        "customer_email",
        "vlaue",
        "occurred_at",
    }


def test_a_missing_customer_is_named_beside_other_faults() -> None:
    assert set(faults({"id": "no-uuid", "value": "x"})) == {"id", "row"}
    assert faults({"id": ATTRIBUTE, "value": "x"}) == {"row": "needs customer_id, customer_email or customer"}


def test_an_unknown_field_is_answered_with_those_that_are_known() -> None:
    assert "phone_no" in faults(row(customer={"customer_id": "1", "phone": "1"}))["customer.phone"]
    device = {"device_type": "ios", "device_token": "t", "os": "x"}
    assert "device_token" in faults(row(customer={"customer_id": "1", "devices": [device]}))["customer.devices.0.os"]


@pytest.mark.parametrize("given", [None, [], "row", 5])
def test_what_is_no_object_is_refused(given: object) -> None:
    assert set(faults(given)) == {"row"}


def test_half_of_a_surrogate_pair_is_refused() -> None:
    assert set(faults(row(value="\ud800"))) == {"value"}


def test_the_error_shows_a_value_shortened_and_its_summary_shows_none() -> None:
    with pytest.raises(InvalidUpdate) as raised:
        parse_update(row(customer_email="secret " * 50))
    assert "'secret secret" in str(raised.value)
    assert len(str(raised.value)) < 200
    assert "secret" not in raised.value.summary


def test_the_attribute_id_is_written_in_one_way() -> None:
    assert parse_update(row(id=ATTRIBUTE.upper())).id == ATTRIBUTE
    assert parse_update(row(id=UUID(ATTRIBUTE))).id == ATTRIBUTE


@pytest.mark.parametrize(
    ("given", "microseconds"),
    [
        ("1970-01-01T00:00:01Z", 1_000_000),
        ("1970-01-01T01:00:01.5+01:00", 1_500_000),
        (1.5, 1_500_000),
        (-1, -1_000_000),
        (datetime(1970, 1, 1, 0, 0, 2, tzinfo=UTC), 2_000_000),
    ],
)
def test_a_moment_is_iso_8601_or_unix_seconds(given: object, microseconds: int) -> None:
    assert parse_update(row(occurred_at=given)).occurred_at == microseconds


@pytest.mark.parametrize(
    "given", ["2026-01-31T12:00:00", "2026-01-31", "noon", "", True, float("nan"), 1769860800000000]
)
def test_other_moments_are_refused(given: object) -> None:
    assert set(faults(row(occurred_at=given))) == {"occurred_at"}


def test_moments_are_never_sent() -> None:
    assert set(json.loads(parse_update(row(occurred_at=1, accepted_at=2)).row_json())) == {"id", "value", "customer_id"}


def test_the_identity_is_the_customer_id_before_the_address_before_the_customer() -> None:
    customer = {"customer_id": "c", "email": "c@example.com"}
    both = parse_update(row(customer_id="a", customer_email="B@example.com", customer=customer)).key
    address = parse_update(row(customer_id=None, customer_email="B@example.com", customer=customer)).key
    inner = parse_update(row(customer_id=None, customer=customer)).key
    inner_address = parse_update(row(customer_id=None, customer={"email": "C@example.com"})).key
    assert (both.kind, both.identity) == (IdentityKind.CUSTOMER_ID, "a")
    assert (address.kind, address.identity) == (IdentityKind.EMAIL, "b@example.com")
    assert (inner.kind, inner.identity) == (IdentityKind.CUSTOMER_ID, "c")
    assert (inner_address.kind, inner_address.identity) == (IdentityKind.EMAIL, "c@example.com")


def test_an_id_that_looks_like_an_address_is_no_address() -> None:
    as_id = parse_update(row(customer_id="ada@example.com")).key
    as_address = parse_update(row(customer_id=None, customer_email="ada@example.com")).key
    assert as_id.digest() != as_address.digest()


@pytest.mark.parametrize("other", [{"id": ATTRIBUTE[:-1] + "2"}, {"customer_id": "290001"}])
def test_another_attribute_or_customer_is_another_key(other: dict[str, object]) -> None:
    assert parse_update(row(**other)).key.digest() != parse_update(row()).key.digest()


def test_a_row_cannot_be_changed() -> None:
    update = parse_update(row())
    with pytest.raises(ValueError, match="frozen"):
        update.value = "other"  # type: ignore[misc]  # the point of this test


def test_deep_nesting_is_a_fault_of_the_row_and_no_crash() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidUpdate):
        parse_update(row(customer={"customer_id": "1", "devices": deep}))


@given(
    value=st.text(st.characters(exclude_categories=["Cs"])),
    customer_id=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    first_name=st.text(st.characters(exclude_categories=["Cs"])),
)
def test_any_text_arrives_as_it_was_given(value: str, customer_id: str, first_name: str) -> None:
    given_row = row(
        value=value, customer_id=customer_id, customer={"customer_id": customer_id, "first_name": first_name}
    )
    assert json.loads(parse_update(given_row).row_json()) == given_row


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_is_an_update_or_an_invalid_one(given_row: object) -> None:
    try:
        judged: object = parse_update(given_row)
    except InvalidUpdate as error:
        judged = error
    assert isinstance(judged, AttributeUpdate) or (isinstance(judged, InvalidUpdate) and judged.faults)


def test_a_name_of_a_field_that_cannot_be_encoded_is_still_a_fault_that_can() -> None:
    with pytest.raises(InvalidUpdate) as raised:
        parse_update(row(**{"\ud800\n": 1}))
    assert str(raised.value).encode().isascii()
    assert "\n" not in str(raised.value)


def test_a_number_with_too_many_digits_is_a_fault() -> None:
    assert set(faults(row(value=10**5000))) == {"value"}


def test_long_values_are_cut_for_people() -> None:
    assert len(shortened("x" * 10_000_000)) == 60
    assert shortened("x") == "'x'"


def test_years_below_1000_are_padded() -> None:
    assert timestamp_value(datetime(33, 4, 3, tzinfo=UTC)) == "0033-04-03T00:00:00Z"
