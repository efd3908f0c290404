"""Every fault that can be asked for, as far as it shows without a real connection."""

import json
from typing import Any

import pytest
from tests.sandbox.account import AGE, TEXT, Account, Clock, row

from bunce_attributes.sandbox.delivery import HungUpError


def _account(*rules: dict[str, Any], **more: Any) -> Account:
    return Account({"calls": list(rules)}, **more)


def _statuses(account: Account, count: int) -> list[int]:
    return [account.post([row("1")]).status_code for _ in range(count)]


def test_a_row_is_refused_as_often_as_asked() -> None:
    with Account({"refuse": [{"customer_id": "bad", "times": 2, "message": "No."}]}) as account:
        for expected in ({"1": "No."}, {"1": "No."}, {}):
            answer = account.set_values({"good": "x", "bad": "x"})
            assert answer.status_code == 200
            assert answer.json()["data"]["errors"] == expected
        assert account.look("/stats")["rows_refused"] == 2
        assert account.held() == {"good": "x", "bad": "x"}


def test_a_row_without_a_number_of_times_is_always_refused() -> None:
    with Account({"refuse": [{"value": ["evil", "worse"]}]}) as account:
        for _ in range(6):
            assert list(account.set_values({"1": "evil", "2": "good", "3": "worse"}).json()["data"]["errors"]) == [
                "0",
                "2",
            ]


@pytest.mark.parametrize(
    ("match", "refused"),
    [
        ({"id": AGE}, ["2"]),
        ({"customer_id": "1"}, ["0", "2"]),
        ({"customer_email": "1@B.co"}, ["1"]),
        ({"identity": ["1", "1@b.co"]}, ["0", "1", "2"]),
        ({"value_contains": "eve"}, ["0", "1"]),
        ({"customer_id": "1", "id": TEXT}, ["0"]),
        ({"customer_id": "1@b.co"}, []),
        ({}, ["0", "1", "2"]),
    ],
)
def test_all_given_fields_must_fit(match: dict[str, Any], refused: list[str]) -> None:
    with Account({"refuse": [match]}) as account:
        answer = account.post([row("1"), row("1@B.co"), row("1", "5", AGE)])
        assert list(answer.json()["data"]["errors"]) == refused


def test_a_share_of_rows_is_the_same_in_every_sandbox() -> None:
    def refused(seed: int, times: int = 1) -> list[list[str]]:
        faults = {"refuse_share": 0.1, "refuse_times": times, "refuse_message": "Chance.", "seed": seed}
        with Account(faults) as account:
            values = {str(number): "x" for number in range(1_000)}
            return [list(account.set_values(values).json()["data"]["errors"]) for _ in range(times + 1)]

    chosen, then = refused(seed=7)
    assert 60 < len(chosen) < 140
    assert then == []
    assert refused(seed=7, times=2) == [chosen, chosen, []]
    assert refused(seed=8)[0] != chosen


def test_a_poison_row_refuses_its_call_without_naming_itself() -> None:
    with _account({"do": "answer", "status": 422, "customer_id": "poison"}) as account:
        answer = account.set_values({"1": "x", "poison": "x"})
        assert answer.status_code == 422
        assert answer.json() == {"success": False, "message": "The given data was invalid."}
        assert account.set_values({"1": "x"}).status_code == 200
        assert account.held() == {"1": "x"}
        assert [call["fault"] for call in account.look("/calls")] == ["answer", None]


def test_a_poison_row_can_be_named() -> None:
    with _account({"do": "answer", "status": 422, "name_rows": True, "value": "evil"}) as account:
        answer = account.set_values({"1": "x", "2": "evil", "3": "x", "4": "evil"})
        assert answer.json()["errors"] == {
            "attributes.1.id": ["The selected attributes.1.id is invalid."],
            "attributes.3.id": ["The selected attributes.3.id is invalid."],
        }


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 408, 413, 422, 425, 500, 502, 503])
def test_any_status_has_the_documented_body(status: int) -> None:
    with _account({"do": "answer", "status": status}) as account:
        answer = account.post([row("1")])
        assert answer.status_code == status
        assert list(answer.json()) == ["success", "message"]
        assert answer.json()["success"] is False
        assert account.held() == {}


@pytest.mark.parametrize(
    ("rule", "retry_after"),
    [
        ({"status": 429}, "60"),
        ({"status": 429, "retry_after": "Fri, 31 Dec 1999 23:59:59 GMT"}, "Fri, 31 Dec 1999 23:59:59 GMT"),
        ({"status": 429, "retry_after": "-5"}, "-5"),
        ({"status": 429, "retry_after": None}, None),
        ({"status": 503, "retry_after": "2"}, "2"),
        ({"status": 503}, None),
    ],
)
def test_retry_after_is_sent_as_given(rule: dict[str, Any], retry_after: str | None) -> None:
    with _account({"do": "answer", **rule}) as account:
        assert account.post([row("1")]).headers.get("retry-after") == retry_after


def test_headers_body_and_message_can_be_chosen() -> None:
    with _account(
        {"do": "answer", "status": 302, "headers": {"Location": "http://elsewhere/"}, "times": 1},
        {"do": "answer", "status": 422, "body": {"errors": ["odd"]}, "times": 1},
        {"do": "answer", "status": 400, "message": "Why."},
    ) as account:
        assert account.post([row("1")]).headers["location"] == "http://elsewhere/"
        assert account.post([row("1")]).json() == {"errors": ["odd"]}
        assert account.post([row("1")]).json()["message"] == "Why."


@pytest.mark.parametrize(
    ("when", "statuses"),
    [
        ({"every": 3}, [200, 200, 500, 200, 200, 500, 200]),
        ({"times": 2}, [500, 500, 200, 200, 200, 200, 200]),
        ({"skip": 2, "times": 1}, [200, 200, 500, 200, 200, 200, 200]),
        ({"skip": 1, "every": 2, "times": 2}, [200, 200, 500, 200, 500, 200, 200]),
        ({"share": 0}, [200] * 7),
    ],
)
def test_rules_fire_when_they_are_told_to(when: dict[str, Any], statuses: list[int]) -> None:
    with _account({"do": "answer", "status": 500, **when}) as account:
        assert _statuses(account, 7) == statuses


def test_a_rule_ends_after_its_seconds() -> None:
    clock = Clock()
    with _account({"do": "answer", "status": 401, "for_seconds": 8}, clock=clock) as account:
        assert _statuses(account, 1) == [401]
        clock.now += 7.9
        assert _statuses(account, 1) == [401]
        clock.now += 0.1
        assert _statuses(account, 1) == [200]


def test_a_random_share_of_calls_is_repeatable() -> None:
    def statuses() -> list[int]:
        with Account({"seed": 3, "calls": [{"do": "answer", "status": 500, "share": 0.5}]}) as account:
            return _statuses(account, 40)

    assert 8 < statuses().count(500) < 32
    assert statuses() == statuses()


def test_the_first_rule_that_fits_takes_the_call() -> None:
    with _account({"do": "answer", "status": 503, "times": 1}, {"do": "answer", "status": 500, "times": 1}) as account:
        assert _statuses(account, 3) == [503, 500, 200]
        assert account.look("/faults")["calls"] == [
            {"do": "answer", "seen": 3, "fired": 1},
            {"do": "answer", "seen": 2, "fired": 1},
        ]


def test_an_answer_can_hide_that_the_rows_were_saved() -> None:
    with _account({"do": "answer", "status": 500, "save": True}) as account:
        assert account.post([row("1")]).status_code == 500
        assert account.held() == {"1": "Developer"}
        assert [(call["status"], call["saved"]) for call in account.look("/calls")] == [(500, True)]


def test_an_answer_can_claim_what_was_not_saved() -> None:
    with _account({"do": "answer", "status": 201, "save": False}) as account:
        answer = account.post([row("1")])
        assert answer.status_code == 201
        assert answer.json()["data"] == {"saved": [row("1")], "errors": {}}
        assert account.held() == {}


def test_rows_can_be_applied_after_the_answer() -> None:
    with _account({"do": "answer", "status": 500, "save_after_seconds": 0.05, "times": 1}) as account:
        account.post([row("1", "late"), row("2", "no number", AGE)])
        assert account.held() == {}
        account.post([row("1", "newer")])
        account.wait_until(lambda: account.held() == {"1": "late"})
        assert [(send["call"], send["value"]) for send in account.look("/sends")] == [(2, "newer"), (1, "late")]
        late = account.look("/calls")[0]
        assert late["applied_at"] >= late["answered_at"]
        assert late["errors"] == [1]


def test_what_breaks_a_rule_is_saved_by_no_fault() -> None:
    for rule in (
        {"do": "answer", "status": 500, "save": True},
        {"do": "answer", "status": 200},
        {"do": "hang", "seconds": 0, "save": True},
        {"do": "malformed", "kind": "no_data"},
        {"do": "trickle", "seconds": 0},
    ):
        with _account(rule) as account:
            assert account.post([row("1"), {"id": TEXT}]).status_code in (422, 500)
            assert account.held() == {}


@pytest.mark.parametrize(
    ("kind", "status", "body"),
    [
        ("not_json", 200, None),
        ("no_content", 204, None),
        ("not_an_object", 200, []),
        ("no_data", 200, {"success": True, "message": "Customer attributes successfully updated."}),
    ],
)
def test_malformed_answers_without_rows(kind: str, status: int, body: Any) -> None:
    with _account({"do": "malformed", "kind": kind}) as account:
        answer = account.post([row("1")])
        assert answer.status_code == status
        if body is None:
            with pytest.raises(json.JSONDecodeError):
                json.loads(answer.content)
        else:
            assert answer.json() == body
        assert account.held() == {"1": "Developer"}


def test_malformed_answers_that_look_nearly_right() -> None:
    rows = [row("1"), row("2", "no number", AGE)]
    with Account() as account:
        for kind, success, indexes in (
            ("success_false", False, ["1"]),
            ("index_out_of_range", True, ["1", "2"]),
            ("index_not_number", True, ["1", "first"]),
        ):
            account.put_faults({"calls": [{"do": "malformed", "kind": kind}]})
            answer = account.post(rows).json()
            assert answer["success"] is success
            assert list(answer["data"]["errors"]) == indexes


@pytest.mark.parametrize(
    ("shape", "errors"), [("object", {}), ("list", []), ("null", None), ("absent", "nothing there")]
)
def test_no_errors_can_be_written_in_each_way(shape: str, errors: Any) -> None:
    with Account({"shapes": {"no_errors": shape}}) as account:
        assert account.post([row("1")]).json()["data"].get("errors", "nothing there") == errors


def test_the_first_indexes_can_be_written_as_a_list() -> None:
    faults = {"refuse": [{"value": "evil", "message": "No."}], "shapes": {"dense_errors": "list"}}
    with Account(faults) as account:
        assert account.set_values({"1": "evil", "2": "evil", "3": "x"}).json()["data"]["errors"] == ["No.", "No."]
        assert account.set_values({"1": "x", "2": "evil"}).json()["data"]["errors"] == {"1": "No."}


@pytest.mark.parametrize(("shape", "message"), [("string", "No."), ("list", ["No."]), ("object", {"message": "No."})])
def test_messages_can_be_written_in_each_way(shape: str, message: Any) -> None:
    with Account({"refuse": [{"message": "No."}], "shapes": {"messages": shape}}) as account:
        # An object or list of messages is not mistaken for the list shape of `errors` itself.
        assert account.post([row("1")]).json()["data"]["errors"] == {"0": message}


def test_saved_can_be_left_empty() -> None:
    with Account({"shapes": {"saved": "empty"}}) as account:
        assert account.post([row("1")]).json()["data"]["saved"] == []


def test_the_key_can_be_echoed_in_every_error() -> None:
    faults = {"refuse": [{"customer_id": "1"}], "shapes": {"echo_key": True}}
    with Account(faults, requests_per_minute=4) as account:
        assert "sk_test_leak" in account.post([row("1")], key="sk_test_leak").json()["data"]["errors"]["0"]
        assert "wrong_leak" in account.post([row("1")], key="wrong_leak").json()["message"]
        assert "sk_test_leak" in account.post([{"id": "x"}], key="sk_test_leak").json()["message"]
        assert "sk_test_leak" in account.request("GET", "/v1/none", key="sk_test_leak").json()["message"]
        assert "sk_test_leak" in account.post([row("1")], key="sk_test_leak").json()["message"]


def test_the_listing_of_attributes_can_fail_too() -> None:
    with Account() as account:
        for rule, status in (
            ({"do": "answer", "status": 403, "on": "attributes"}, 403),
            ({"do": "answer", "status": 503, "on": "any"}, 503),
            ({"do": "answer", "status": 201, "on": "any"}, 201),
            ({"do": "malformed", "kind": "no_content", "on": "any"}, 204),
            ({"do": "trickle", "seconds": 0.01, "on": "any"}, 200),
            ({"do": "hang", "seconds": 0.01, "save": True, "on": "any"}, 200),
            ({"do": "answer", "status": 500}, 200),
        ):
            account.put_faults({"calls": [rule]})
            assert account.request("GET", "/v1/attributes").status_code == status
        for rule in ({"do": "hang_up", "on": "any"}, {"do": "hang", "seconds": 0.01, "on": "any"}):
            account.put_faults({"calls": [rule]})
            with pytest.raises(HungUpError):
                account.request("GET", "/v1/attributes")


def test_latency_is_drawn_between_its_bounds() -> None:
    with Account({"latency": [0.02, 0.04]}) as account:
        account.post([row("1")])
        (call,) = account.look("/calls")
        assert call["answered_at"] - call["received_at"] >= 0.02


def test_new_faults_replace_the_old_ones_and_none_is_none() -> None:
    with _account({"do": "answer", "status": 500}) as account:
        assert _statuses(account, 1) == [500]
        assert account.put_faults({"latency": 0.001}).json() == {"faults": {"latency": 0.001}, "calls": []}
        assert _statuses(account, 1) == [200]
        account.put_faults({"calls": [{"do": "answer", "status": 500}]})
        assert account.request("DELETE", "/_sandbox/faults").json() == {"faults": {}, "calls": []}
        assert _statuses(account, 1) == [200]


@pytest.mark.parametrize(
    ("faults", "place"),
    [
        ({"latencies": 1}, "latencies"),
        ({"latency": -1}, "latency"),
        ({"latency": [2, 1]}, "lowest, highest"),
        ({"refuse_share": 2}, "refuse_share"),
        ({"refuse": [{"times": 0}]}, "refuse[0].times"),
        ({"refuse": [{"customer": "1"}]}, "refuse[0].customer"),
        ({"refuse": [{"value": [["nested"]]}]}, "refuse[0].value"),
        ({"refuse": [{"value": 5}]}, "refuse[0].value"),
        ({"calls": [{"do": "explode"}]}, "calls[0]"),
        ({"calls": [{"do": "answer", "status": 700}]}, "status"),
        ({"calls": [{"do": "answer"}]}, "status"),
        ({"calls": [{"do": "malformed", "kind": "odd"}]}, "kind"),
        ({"calls": [{"do": "hang_up", "save": True, "save_after_seconds": 1}]}, "not both"),
        ({"shapes": {"messages": "poem"}}, "shapes.messages"),
    ],
)
def test_impossible_faults_are_refused_with_their_place(faults: dict[str, Any], place: str) -> None:
    with Account({"latency": 0.001}) as account:
        answer = account.put_faults(faults)
        assert answer.status_code == 400
        assert place in answer.json()["error"]
        assert account.look("/faults")["faults"] == {"latency": 0.001}, "the old ones stay"
