"""What the documentation says of a call of attribute values."""

from typing import Any

import pytest
from tests.sandbox.account import AGE, BIRTHDAY, TEXT, Account, row

TIMESTAMP_REFUSAL = (
    "Provided value is not a valid format for timestamp attribute. ISO 8601 format is required. "
    "Example: 2022-01-01T12:00:00+00:00"
)
EXAMPLE = [
    {"id": TEXT, "customer_email": "verynewcustomer@gmail.com", "value": "Developer"},
    {"id": TEXT, "customer_id": "new_id_100", "value": "Developer"},
    {
        "id": TEXT,
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
]


def test_the_example_of_the_reference_is_saved() -> None:
    with Account(attributes={}) as account:
        answer = account.post(EXAMPLE)
        assert answer.status_code == 200
        assert answer.json() == {
            "success": True,
            "data": {"saved": EXAMPLE, "errors": {}},
            "message": "Customer attributes successfully updated.",
        }
        assert account.look("/customers/mfon9000@gmail.com") == {
            "customer_id": "290000",
            "email": "mfon9000@gmail.com",
            "first_name": "Dami Edited",
            "last_name": "Robert Edited",
            "phone_no": "08106489348",
            "devices": [{"device_type": "ios", "device_token": "111118766834283"}],
            "attributes": {TEXT: "Product Manager"},
        }
        assert account.held() == {
            "verynewcustomer@gmail.com": "Developer",
            "new_id_100": "Developer",
            "290000": "Product Manager",
        }


def test_customer_id_and_email_lead_to_the_same_customer() -> None:
    with Account() as account:
        account.post([row("ada@example.com", "first", AGE.replace("6", "5"))])
        account.post([{"id": TEXT, "value": "second", "customer": {"customer_id": "7", "email": "Ada@Example.com"}}])
        account.post([row("ADA@example.com", "third")])
        by_id, by_email = account.look("/customers/7"), account.look("/customers/ada@example.com")
        assert by_id == by_email
        assert by_id["attributes"] == {AGE.replace("6", "5"): "first", TEXT: "third"}
        assert account.look("/stats")["customers"] == 1


def test_a_customer_object_edits_only_what_it_brings() -> None:
    with Account() as account:
        for customer in (
            {"customer_id": "7", "first_name": "Ada", "devices": [{"device_type": "ios", "device_token": "t1"}]},
            {"customer_id": "7", "last_name": "King", "devices": [{"device_type": "android", "device_token": "t2"}]},
        ):
            account.post([{"id": TEXT, "value": "x", "customer": customer}])
        seen = account.look("/customers/7")
        assert (seen["first_name"], seen["last_name"]) == ("Ada", "King")
        assert [device["device_token"] for device in seen["devices"]] == ["t1", "t2"]


def test_an_email_moves_to_the_customer_named_with_it() -> None:
    with Account() as account:
        account.post([{"id": TEXT, "value": "old", "customer": {"customer_id": "1", "email": "a@b.co"}}])
        account.post([{"id": TEXT, "value": "new", "customer": {"customer_id": "2", "email": "a@b.co"}}])
        assert account.look("/customers/1")["email"] is None
        assert account.look("/customers/a@b.co")["customer_id"] == "2"
        assert account.held() == {"1": "old", "2": "new"}


def test_a_new_customer_id_for_an_email_replaces_the_old_one() -> None:
    with Account() as account:
        account.post([{"id": TEXT, "value": "x", "customer": {"customer_id": "1", "email": "a@b.co"}}])
        account.post(
            [
                {
                    "id": TEXT,
                    "value": "y",
                    "customer_email": "a@b.co",
                    "customer": {"customer_id": "2", "email": "a@b.co"},
                }
            ]
        )
        assert account.held() == {"2": "y"}
        assert account.request("GET", "/_sandbox/customers/1").status_code == 404


@pytest.mark.parametrize("value", ["2022-01-01T12:00:00Z", "2024-02-29T23:59:59Z"])
def test_a_timestamp_in_utc_is_saved(value: str) -> None:
    with Account() as account:
        assert account.post([row("1", value, BIRTHDAY)]).json()["data"]["errors"] == {}
        assert account.held() == {"1": value}


@pytest.mark.parametrize(
    "value", ["2022-01-01T12:00:00+00:00", "2022-01-01", "2023-02-29T00:00:00Z", "٢022-01-01T12:00:00Z", ""]
)
def test_any_other_timestamp_is_refused_by_itself(value: str) -> None:
    with Account() as account:
        answer = account.post([row("0", "kept"), row("1", value, BIRTHDAY), row("2", "kept")])
        assert answer.status_code == 200
        assert answer.json()["data"] == {
            "saved": [row("0", "kept"), row("2", "kept")],
            "errors": {"1": TIMESTAMP_REFUSAL},
        }
        assert account.held() == {"0": "kept", "2": "kept"}


def test_a_numeric_attribute_takes_numbers_only() -> None:
    with Account() as account:
        good, bad = ["0", "-12.5", "1e6", ".5"], ["twelve", "", "1,5", "NaN", "0x10"]
        rows = [row(str(number), value, AGE) for number, value in enumerate([*good, *bad])]
        errors = account.post(rows).json()["data"]["errors"]
        assert list(errors) == ["4", "5", "6", "7", "8"]
        assert sorted(account.held().values()) == sorted(good)


def test_an_id_that_is_no_uuid_refuses_the_whole_call() -> None:
    with Account() as account:
        for attribute in ("nonsense", TEXT + "0", "", 7, None, ["x"]):
            answer = account.post([row("1"), {"id": attribute, "customer_id": "2", "value": "x"}])
            assert answer.status_code == 422
            assert answer.json() == {"success": False, "message": "ID param is not valid UUID"}
        assert account.held() == {}


def test_the_case_of_a_uuid_does_not_matter() -> None:
    with Account() as account:
        account.post([row("1", "a", TEXT.upper()), row("1", "b", TEXT)])
        assert [value["id"] for value in account.look("/values")] == [TEXT]


@pytest.mark.parametrize(
    ("bad", "path"),
    [
        ({"id": TEXT, "customer_id": "1"}, "value"),
        ({"id": TEXT, "customer_id": "1", "value": 5}, "value"),
        ({"id": TEXT, "value": "x"}, "customer_id"),
        ({"id": TEXT, "value": "x", "customer_id": 5}, "customer_id"),
        ({"id": TEXT, "value": "x", "customer_id": ""}, "customer_id"),
        ({"id": TEXT, "value": "x", "customer_email": "nobody"}, "customer_email"),
        ({"id": TEXT, "value": "x", "customer": "Ada"}, "customer"),
        ({"id": TEXT, "value": "x", "customer": {"first_name": "Ada"}}, "customer.customer_id"),
        ({"id": TEXT, "value": "x", "customer": {"email": "nobody"}}, "customer.email"),
        ({"id": TEXT, "value": "x", "customer": {"customer_id": "1", "phone_no": 5}}, "customer.phone_no"),
        ({"id": TEXT, "value": "x", "customer": {"customer_id": "1", "devices": {}}}, "customer.devices"),
        (
            {"id": TEXT, "value": "x", "customer": {"customer_id": "1", "devices": [{"device_type": "ios"}]}},
            "customer.devices.0.device_token",
        ),
    ],
)
def test_a_row_that_breaks_a_rule_refuses_the_whole_call_and_is_named(bad: dict[str, Any], path: str) -> None:
    with Account() as account:
        answer = account.post([row("9"), bad])
        assert answer.status_code == 422
        body = answer.json()
        assert body["success"] is False
        assert list(body["errors"]) == [f"attributes.1.{path}"]
        assert account.held() == {}


def test_unknown_attributes_are_created_as_text() -> None:
    with Account(attributes={}) as account:
        account.post([row("1")])
        listed = account.request("GET", "/v1/attributes").json()["data"]
        assert [(attribute["id"], attribute["data_type"]) for attribute in listed] == [(TEXT, "text")]


def test_strict_attributes_refuse_rows_of_unknown_ones() -> None:
    with Account(attributes={TEXT: "text"}, strict_attributes=True) as account:
        data = account.post([row("1", "x", AGE), row("2")]).json()["data"]
        assert data == {"saved": [row("2")], "errors": {"0": "The attribute does not exist."}}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_400(body: bytes) -> None:
    with Account() as account:
        answer = account.request(
            "POST", "/v1/attributes/customers", content=body, headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 400
        assert answer.json()["success"] is False


@pytest.mark.parametrize("body", [{}, {"attributes": []}, {"attributes": {}}, {"attributes": None}])
def test_a_body_without_rows_is_422(body: Any) -> None:
    with Account() as account:
        answer = account.request("POST", "/v1/attributes/customers", json=body)
        assert answer.status_code == 422
        assert list(answer.json()["errors"]) == ["attributes"]


def test_rows_are_read_only_from_json() -> None:
    with Account() as account:
        answer = account.post([row("1")], headers={"Content-Type": "application/x-www-form-urlencoded"})
        assert answer.status_code == 422
        assert "Content-Type" in answer.json()["errors"]["attributes"][0]


def test_calls_past_the_configured_size_are_413() -> None:
    with Account(max_rows=2, max_body_bytes=1_000) as account:
        assert account.post([row("1"), row("2")]).status_code == 200
        assert account.post([row("1"), row("2"), row("3")]).status_code == 413
        answer = account.post([row("1", "x" * 1_000)])
        assert answer.status_code == 413
        assert answer.json() == {"success": False, "message": "The request is too large."}


def test_a_row_that_is_no_object_is_named() -> None:
    with Account() as account:
        assert list(account.post([row("1"), "x", None]).json()["errors"]) == ["attributes.1", "attributes.2"]
