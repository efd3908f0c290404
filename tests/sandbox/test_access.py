"""Keys, paths, the rate limit, and the listing of attributes."""

from typing import Any

import pytest
from tests.sandbox.account import AGE, BIRTHDAY, TEXT, Account, Clock, row

from bunce_attributes.sandbox import SandboxConfig, SandboxError


@pytest.mark.parametrize("key", [None, "", "sk_live_sandbox", "Bearer sk_test_sandbox", "nonsense"])
def test_a_call_without_a_test_key_is_401(key: str | None) -> None:
    with Account() as account:
        answer = account.post([row("1")], key=key)
        assert answer.status_code == 401
        assert answer.json() == {"success": False, "message": "No valid API key provided."}
        assert account.held() == {}


def test_a_given_key_is_the_only_one_accepted() -> None:
    with Account(keys=frozenset({"sk_live_mine"})) as account:
        assert account.post([row("1")], key="sk_live_mine").status_code == 200
        assert account.post([row("1")], key="sk_test_sandbox").status_code == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/attributes/customers"),
        ("POST", "/v1/attributes/customers/"),
        ("POST", "/attributes/customers"),
        ("PUT", "/v1/attributes"),
        ("GET", "/"),
        ("GET", "/_sandboxes"),
    ],
)
def test_other_paths_are_404(method: str, path: str) -> None:
    with Account() as account:
        answer = account.request(method, path)
        assert answer.status_code == 404


def test_past_the_limit_an_address_is_refused_for_the_penalty() -> None:
    clock = Clock()
    with Account(clock=clock, requests_per_minute=3, penalty_seconds=60) as account:
        assert [account.post([row("1")]).status_code for _ in range(4)] == [200, 200, 200, 429]
        clock.now += 59.5
        answer = account.request("GET", "/v1/attributes")
        assert answer.status_code == 429
        assert answer.headers["retry-after"] == "1"
        assert answer.json() == {"success": False, "message": "You have reached maximum request limit."}
        clock.now += 0.5
        assert account.post([row("1")]).status_code == 200


def test_the_window_slides() -> None:
    clock = Clock()
    with Account(clock=clock, requests_per_minute=2) as account:
        account.post([row("1")])
        clock.now += 40
        account.post([row("1")])
        clock.now += 20
        assert account.post([row("1")]).status_code == 200, "the first one is 60 s ago"
        clock.now += 39
        assert account.post([row("1")]).status_code == 429, "the second one is only 59 s ago"


def test_requests_in_the_penalty_do_not_lengthen_it() -> None:
    clock = Clock()
    with Account(clock=clock, requests_per_minute=1, penalty_seconds=10) as account:
        statuses = []
        for _ in range(12):
            statuses.append(account.post([row("1")]).status_code)
            clock.now += 1
        assert statuses == [200, *[429] * 10, 200]


def test_each_address_has_a_limit_of_its_own() -> None:
    with Account(requests_per_minute=1) as account:
        assert account.post([row("1")], address="10.0.0.1").status_code == 200
        assert account.post([row("1")], address="10.0.0.2").status_code == 200
        assert account.post([row("1")], address="10.0.0.1").status_code == 429


def test_a_wrong_key_counts_towards_the_limit() -> None:
    with Account(requests_per_minute=1) as account:
        assert account.post([row("1")], key="wrong").status_code == 401
        assert account.post([row("1")]).status_code == 429


def test_no_limit_is_no_limit() -> None:
    with Account(requests_per_minute=None) as account:
        assert {account.post([row("1")]).status_code for _ in range(600)} == {200}


def test_reading_back_is_free() -> None:
    with Account(requests_per_minute=1) as account:
        for _ in range(3):
            account.look("/stats")
        assert account.post([row("1")]).status_code == 200


def test_attributes_are_created_and_listed() -> None:
    with Account(attributes={}) as account:
        created = account.request("POST", "/v1/attributes", json={"name": "role", "data_type": "text"})
        assert created.status_code == 201
        attribute = created.json()["data"]
        assert (attribute["name"], attribute["data_type"]) == ("role", "text")
        listed = account.request("GET", "/v1/attributes").json()
        assert listed["success"] is True
        assert listed["data"] == [attribute]
        assert listed["meta"] == {
            "has_next_page": False,
            "has_prev_page": False,
            "next_page_cursor": None,
            "prev_page_cursor": None,
            "per_page": 20,
        }


@pytest.mark.parametrize("count", [41, 45, 60])
def test_cursors_lead_through_all_attributes_and_back(count: int) -> None:
    with Account(attributes={}) as account:
        names = [f"attribute {number}" for number in range(count)]
        for name in names:
            account.request("POST", "/v1/attributes", json={"name": name, "data_type": "numeric"})

        def pages(direction: str, cursor: str | None) -> list[list[str]]:
            found = []
            while True:
                parameters: dict[str, Any] = {"per_page": 20, **({"cursor": cursor} if cursor else {})}
                page = account.request("GET", "/v1/attributes", params=parameters).json()
                found.append([each["name"] for each in page["data"]])
                if not page["meta"][f"has_{direction}_page"]:
                    return found
                cursor = last_cursor[0] = page["meta"][f"{direction}_page_cursor"]

        last_cursor: list[str | None] = [None]
        forward = pages("next", None)
        assert forward == [names[:20], names[20:40], names[40:]]
        assert pages("prev", last_cursor[0]) == forward[::-1]


@pytest.mark.parametrize(
    "query", ["per_page=0", "per_page=101", "per_page=x", "cursor=x", "cursor=%FF", "cursor=c3RhcnQ6LTE="]
)
def test_a_page_that_cannot_be_is_422(query: str) -> None:
    with Account() as account:
        answer = account.request("GET", f"/v1/attributes?{query}")
        assert answer.status_code == 422
        assert answer.json()["success"] is False


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({}, ["name", "data_type"]),
        ({"name": "x", "data_type": "date"}, ["data_type"]),
        ({"name": 7, "data_type": "text"}, ["name"]),
        ([], ["name", "data_type"]),
    ],
)
def test_an_attribute_that_cannot_be_is_422(body: Any, wrong: list[str]) -> None:
    with Account() as account:
        answer = account.request("POST", "/v1/attributes", json=body)
        assert answer.status_code == 422
        assert list(answer.json()["errors"]) == wrong


def test_an_attribute_that_is_no_json_is_400() -> None:
    with Account() as account:
        assert account.request("POST", "/v1/attributes", content=b"{").status_code == 400


def test_the_type_of_an_attribute_can_be_changed_while_it_runs() -> None:
    with Account() as account:
        account.post([row("1", "text is fine")])
        changed = account.request("PUT", f"/_sandbox/attributes/{TEXT}", json={"data_type": "numeric", "name": "n"})
        assert changed.json() == {"id": TEXT, "name": "n", "data_type": "numeric"}
        assert list(account.post([row("1", "no longer")]).json()["data"]["errors"]) == ["0"]
        listed = account.request("GET", "/v1/attributes").json()["data"]
        assert [each["id"] for each in listed] == [TEXT, BIRTHDAY, AGE]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("nonsense", b'{"data_type": "text"}'),
        (TEXT, b'{"data_type": "date"}'),
        (TEXT, b"{}"),
        (TEXT, b"[]"),
        (TEXT, b"{"),
    ],
)
def test_an_impossible_attribute_is_refused_with_the_mend(path: str, body: bytes) -> None:
    with Account() as account:
        answer = account.request("PUT", f"/_sandbox/attributes/{path}", content=body)
        assert answer.status_code == 400
        assert answer.json()["error"].endswith(".")


@pytest.mark.parametrize(
    "config",
    [
        {"requests_per_minute": 0},
        {"penalty_seconds": -1.0},
        {"penalty_seconds": float("nan")},
        {"max_rows": 0},
        {"max_body_bytes": 0},
    ],
)
def test_an_impossible_configuration_names_its_field(config: dict[str, Any]) -> None:
    with pytest.raises(SandboxError, match=next(iter(config))):
        SandboxConfig(**config)
