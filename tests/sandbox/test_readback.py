"""What can be read back: checkers of lost, stale and doubled rows stand on it."""

import itertools

import pytest
from tests.sandbox.account import AGE, BIRTHDAY, TEXT, Account, row

from bunce_attributes.sandbox import control


def test_the_call_log_tells_what_became_of_every_call() -> None:
    with Account() as account:
        account.post([row("1"), row("Ada@Example.com", "x", BIRTHDAY)])
        account.post([row("1")], key="wrong")
        account.post([row("1"), {"id": "nonsense"}])
        first, second, third = account.look("/calls")
        assert first == {
            "seq": 1,
            "received_at": first["received_at"],
            "answered_at": first["answered_at"],
            "status": 200,
            "errors": [1],
            "saved": True,
            "applied_at": first["applied_at"],
            "fault": None,
            "row_count": 2,
            "rows": [
                {"id": TEXT, "identity_kind": "customer_id", "identity": "1", "value": "Developer"},
                {"id": BIRTHDAY, "identity_kind": "customer_email", "identity": "ada@example.com", "value": "x"},
            ],
        }
        assert first["received_at"] <= first["applied_at"] <= first["answered_at"]
        assert [(call["status"], call["saved"], call["row_count"]) for call in (second, third)] == [
            (401, False, 1),
            (422, False, 2),
        ]


def test_sends_are_the_applied_rows_in_order() -> None:
    with Account() as account:
        account.post([row("1", "a"), row("2", "no number", AGE), row("3", "c")])
        account.post([row("9", "refused")], key="wrong")
        account.post([row("1", "d")])
        sends = account.look("/sends")
        assert [(send["n"], send["call"], send["index"], send["identity"], send["value"]) for send in sends] == [
            (1, 1, 0, "1", "a"),
            (2, 1, 2, "3", "c"),
            (3, 3, 0, "1", "d"),
        ]


def test_pages_of_any_size_add_up_to_all_calls_and_sends() -> None:
    with Account() as account:
        for size in (1, 3, 2, 5):
            account.post([row(str(number), "12", AGE) for number in range(size)] + [row("x", "no number", AGE)])
        for path, key, count in (("calls", "seq", 4), ("sends", "n", 11)):
            everything = account.look(f"/{path}")
            assert [each[key] for each in everything] == list(range(1, count + 1))
            for limit in (1, 2, 3, 7):
                pages, after = [], 0
                while page := account.look(f"/{path}?after={after}&limit={limit}"):
                    assert len(page) <= limit
                    pages.append(page)
                    after = page[-1][key]
                assert list(itertools.chain(*pages)) == everything
            assert account.look(f"/{path}?after={count}") == []


def test_calls_can_be_read_without_their_rows() -> None:
    with Account() as account:
        account.post([row("1")])
        (call,) = account.look("/calls?rows=0")
        assert "rows" not in call
        assert call["row_count"] == 1


@pytest.mark.parametrize("query", ["after=-1", "after=x", "limit=1.5"])
def test_an_impossible_page_is_refused_with_the_mend(query: str) -> None:
    with Account() as account:
        answer = account.request("GET", f"/_sandbox/calls?{query}")
        assert answer.status_code == 400
        assert "whole number" in answer.json()["error"]


def test_values_are_all_there_whatever_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_VALUES_PER_CHUNK", 7)
    with Account() as account:
        for count in (0, 1, 7, 8, 50):
            account.set_values({str(number): f"value {number}" for number in range(count)})
            assert account.held() == {str(number): f"value {number}" for number in range(count)}


def test_stats_count_rows_and_requests() -> None:
    with Account() as account:
        account.post([row("1"), row("2"), row("3", "no number", AGE)])
        account.post([row("1")])
        account.post([row("1")], key="wrong")
        account.request("GET", "/v1/attributes")
        assert account.look("/stats") == {
            "requests": {"200": 3, "401": 1},
            "rows_per_call": {"1": 2, "3": 1},
            "rows_received": 5,
            "rows_saved": 3,
            "rows_refused": 1,
            "in_flight": 0,
            "max_in_flight": 1,
            "customers": 2,
            "values": 2,
        }


def test_without_a_log_all_else_is_still_there() -> None:
    with Account(log=False) as account:
        account.post([row("1")])
        assert account.held() == {"1": "Developer"}
        assert account.look("/stats")["rows_saved"] == 1
        for path in ("calls", "sends"):
            answer = account.request("GET", f"/_sandbox/{path}")
            assert answer.status_code == 400
            assert "--no-log" in answer.json()["error"]


def test_an_unknown_customer_is_404() -> None:
    with Account() as account:
        assert account.request("GET", "/_sandbox/customers/nobody").status_code == 404


def test_instant_mode_remembers_every_row_it_did_not_look_at() -> None:
    with Account(instant=True) as account:
        assert account.post([row("1", "a"), row("a@b.co", "b")]).json()["data"] == {"saved": [], "errors": {}}
        account.post([row("1", "c")])
        assert account.held() == {"1": "c", "a@b.co": "b"}
        assert [send["value"] for send in account.look("/sends")] == ["a", "b", "c"]
        stats = account.look("/stats")
        assert (stats["rows_received"], stats["rows_saved"], stats["rows_per_call"]) == (3, 3, {"1": 1, "2": 1})


def test_instant_mode_saves_no_call_that_breaks_a_rule() -> None:
    with Account(instant=True) as account:
        for broken in ([row("1"), {"id": TEXT}], "nonsense", [{"id": TEXT, "value": "x", "customer": {"devices": 5}}]):
            assert account.post(broken).status_code == 200
        assert account.held() == {}


def test_instant_mode_still_wants_a_key_and_keeps_the_limit() -> None:
    with Account(instant=True, requests_per_minute=2) as account:
        assert account.post([row("1")], key="wrong").status_code == 401
        assert account.post([row("1")]).status_code == 200
        assert account.post([row("1")]).status_code == 429


def test_a_fault_ends_instant_mode_while_it_is_set() -> None:
    with Account(instant=True) as account:
        account.put_faults({"refuse": [{"customer_id": "1"}]})
        assert list(account.post([row("1")]).json()["data"]["errors"]) == ["0"]
        account.put_faults({})
        assert account.post([row("1")]).json()["data"]["errors"] == {}
