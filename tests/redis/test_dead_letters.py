"""Dead letters in Redis: found, replayed, purged, and what the sums say afterwards."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from redis import Redis
from tests.redis.station import JOB, PLAN, Station, row

from bunce_attributes.dead_letters import Filter, Kind
from bunce_attributes.identifiers import Identifiers
from bunce_attributes.outbox.outbox import ClaimedCall
from bunce_attributes.updates import Lane

NOT_JSON = b"\xff\x00 no message"


@pytest.fixture
def station(redis_client: Redis, redis_url: str) -> Station:
    return Station(redis_client, redis_url)


def test_a_dead_letter_tells_the_row_the_attempts_and_the_answers(station: Station) -> None:
    (letter,) = station.die(row("c1", "old", occurred_at="2026-01-01T00:00:00Z"))
    assert (letter.kind, letter.reason_class, letter.attribute, letter.lane) == (Kind.UPDATE, "attempts", JOB, "live")
    assert letter.row == {"id": JOB, "value": "old", "customer_id": "c1"}
    assert [(attempt.status, attempt.message) for attempt in letter.attempts] == [(200, "no such attribute")]
    assert letter.occurred_at_us == 1_767_225_600_000_000
    assert letter.accepted_at_us is not None
    assert abs(letter.accepted_at_us / 1e6 - time.time()) < 60


def test_invalid_rows_and_unreadable_messages_are_dead_letters_with_their_faults(station: Station) -> None:
    station.client.lpush(station.ns, NOT_JSON)
    station.put({"id": JOB, "customer_id": "c1"})
    message, invalid = sorted(station.letters.walk(), key=lambda letter: letter.kind)
    assert (message.kind, message.raw) == (Kind.MESSAGE, NOT_JSON)
    assert invalid.faults[0]["field"] == "value"
    assert invalid.attribute == JOB


def test_a_row_nested_deeper_than_any_parser_takes_can_be_listed_and_purged(station: Station) -> None:
    """Scripts read dead letters as text, because cjson gives up at a depth of 1,000."""
    deep = "[" * 3_000 + "]" * 3_000
    station.client.hset(
        f"{station.ns}:dead",
        "1700000000000-1",
        f'{{"layout":1,"id":"1700000000000-1","kind":"row","died_at_ms":1700000000000,"reason_class": "invalid", '
        f'"reason": "x", "row": {deep}}}',
    )
    station.client.zadd(f"{station.ns}:dead:index", {"1700000000000-1": 1700000000000})
    assert [letter.reason_class for letter in station.letters.walk()] == ["invalid"]
    assert station.letters.purge(["1700000000000-1"]) == 1


@pytest.mark.parametrize(
    ("chosen", "customers"),
    [
        (Filter(), ["c1", "c2", "c3"]),
        (Filter(attribute=PLAN), ["c2"]),
        (Filter(customer=Identifiers.either("c3")), ["c3"]),
        (Filter(customer=Identifiers.either("ADA@example.com")), ["c2"]),
        (Filter(reasons=frozenset({"attempts"})), ["c1", "c2", "c3"]),
        (Filter(reasons=frozenset({"invalid"})), []),
        (Filter(until_ms=1_000), []),
        (Filter(since_ms=1_000), ["c1", "c2", "c3"]),
    ],
)
def test_filters_find_what_is_meant(station: Station, chosen: Filter, customers: list[str]) -> None:
    station.die(
        row("c1"), row("c2", attribute=PLAN, customer={"email": "Ada@Example.com", "customer_id": "c2"}), row("c3")
    )
    assert sorted(letter.row["customer_id"] for letter in station.letters.walk(chosen)) == customers
    assert len(station.letters.find(chosen)) == len(customers)


def test_pages_neither_skip_nor_repeat_where_a_thousand_died_in_one_millisecond(station: Station) -> None:
    """A refused call buries all its rows in the same millisecond, more than a page of ids holds."""
    for burst in range(3):
        moment = 1_700_000_000_000 + burst
        for i in range(450):
            letter = f"{moment}-{burst * 450 + i}"
            station.client.hset(
                f"{station.ns}:dead",
                letter,
                f'{{"layout":1,"id":"{letter}","kind":"row","died_at_ms":{moment},"reason_class":"invalid","reason":"","row":1}}',
            )
            station.client.zadd(f"{station.ns}:dead:index", {letter: moment})
    rising = [letter.id for letter in station.letters.walk()]
    falling = [letter.id for letter in station.letters.walk(newest_first=True)]
    assert len(set(rising)) == len(rising) == 1_350
    assert rising == falling[::-1]
    assert [letter.id for letter in station.letters.walk(newest_first=True, after=falling[499])] == falling[500:]
    assert station.letters.find(Filter()) == rising


def test_a_purged_dead_letter_is_counted_and_its_key_forgets(station: Station) -> None:
    (letter,) = station.die(row("c1"))
    assert station.letters.purge([letter.id, "1700000000000-9"]) == 1
    assert station.figures() == {"received": 1, "saved": 0, "superseded": 0, "purged": 1, "dead": 0, "waiting": 0}
    assert not station.client.exists(f"{station.ns}:dead:marks", f"{station.ns}:dead", f"{station.ns}:dead:index")


def test_what_a_key_remembers_leaves_with_its_last_dead_letter(station: Station) -> None:
    first, second = station.die(row("c1", "1")) and station.die(row("c1", "2"))
    station.letters.purge([second.id])
    assert station.client.hlen(f"{station.ns}:dead:marks") == 1
    station.letters.purge([first.id])
    assert station.client.hlen(f"{station.ns}:dead:marks") == 0


def test_a_replayed_update_has_fresh_attempts_and_its_history(station: Station) -> None:
    (letter,) = station.die(row("c1", "v1", customer={"customer_id": "c1", "first_name": "Ada"}), lane=Lane.BULK)
    result = station.letters.replay([letter.id])
    assert (result.updates, result.skipped, result.gone) == (1, [], [])
    assert station.figures() == {"received": 2, "saved": 0, "superseded": 0, "purged": 1, "dead": 0, "waiting": 1}
    assert station.call({"c1": "again refused"}) == [letter.row]
    (again,) = station.letters.walk()
    assert [(attempt.message, attempt.replayed) for attempt in again.attempts] == [
        ("no such attribute", False),
        ("", True),
        ("again refused", False),
    ]
    assert again.reason.startswith("Refused 1 times")
    assert (again.lane, again.accepted_at_us) == ("bulk", letter.accepted_at_us)


def test_a_replayed_update_that_is_saved_balances_the_sum(station: Station) -> None:
    (letter,) = station.die(row("c1"))
    station.letters.replay([letter.id])
    station.call()
    assert station.figures() == {"received": 2, "saved": 1, "superseded": 0, "purged": 1, "dead": 0, "waiting": 0}


def _waits(station: Station) -> None:
    station.put(row("c1", "new"))


def _in_call(station: Station) -> None:
    station.put(row("c1", "new"))
    station.begin_call()


def _delivered(station: Station) -> None:
    station.put(row("c1", "new"))
    station.call()


def _died(station: Station) -> None:
    station.die(row("c1", "new"))


@pytest.mark.parametrize(
    ("overtake", "why"),
    [(_waits, "waiting"), (_in_call, "being sent"), (_delivered, "delivered"), (_died, "has died")],
)
def test_a_value_that_a_newer_one_has_overtaken_is_not_replayed(
    station: Station, overtake: Callable[[Station], None], why: str
) -> None:
    (letter,) = station.die(row("c1", "old"))
    overtake(station)
    before = station.figures()
    result = station.letters.replay([letter.id])
    assert result.updates == 0
    assert why in result.skipped[0].why
    assert station.figures() == before


@pytest.mark.parametrize("overtake", [_waits, _in_call, _delivered, _died])
def test_forced_a_replay_becomes_the_newest_value(station: Station, overtake: Callable[[Station], None]) -> None:
    (letter,) = station.die(row("c1", "old"))
    overtake(station)
    assert station.letters.replay([letter.id], force=True).updates == 1
    station.figures()
    (waiting,) = station.client.hvals(f"{station.ns}:rows")
    assert b'"value":"old"' in waiting


def test_a_replay_never_makes_an_old_occurred_at_new(station: Station) -> None:
    (letter,) = station.die(row("c1", "old", occurred_at="2026-01-01T00:00:00Z"))
    station.put(row("c1", "new", occurred_at="2026-01-02T00:00:00Z"))
    station.call()
    assert station.letters.replay([letter.id]).skipped


def test_of_two_dead_letters_of_a_key_only_the_newest_is_replayed(station: Station) -> None:
    station.die(row("c1", "1"))
    station.die(row("c1", "2"))
    result = station.letters.replay(station.letters.find(Filter()))
    assert (result.updates, len(result.skipped)) == (1, 1)
    assert station.call() == [row("c1", "2")]


def test_a_replay_of_a_paused_attribute_waits_for_it(station: Station) -> None:
    (letter,) = station.die(row("c1"))
    station.outbox.pause(JOB)
    station.letters.replay([letter.id])
    assert not isinstance(station.claim(), ClaimedCall)
    station.outbox.resume(JOB)
    assert station.call() == [letter.row]


def test_a_row_that_is_still_invalid_is_not_replayed_unless_forced(station: Station) -> None:
    station.put({"id": JOB, "customer_id": "c1"})
    (letter,) = station.letters.walk()
    result = station.letters.replay([letter.id])
    assert "value: is missing" in result.skipped[0].why
    assert station.letters.replay([letter.id], force=True).requeued == 1
    station.take_in()
    assert station.figures() == {"received": 2, "saved": 0, "superseded": 0, "purged": 1, "dead": 1, "waiting": 0}


def test_an_expired_message_is_replayed_as_rows_that_are_no_newer_than_it_was(station: Station) -> None:
    station.enqueue(row("c1", "old"), row("c2", "old"), headers={"expires": "2020-01-01T00:00:00+00:00"})
    station.take_in()
    (letter,) = station.letters.walk()
    assert letter.reason_class == "expired"
    time.sleep(0.002)  # the version is the millisecond of its death; the newer value must come in a later one
    station.put(row("c1", "new"))
    assert station.letters.replay([letter.id]).requeued == 1
    station.take_in()
    assert sorted((sent["customer_id"], sent["value"]) for sent in station.call()) == [("c1", "new"), ("c2", "old")]
    station.figures()


def test_an_unreadable_message_is_replayed_verbatim_only_when_forced(station: Station) -> None:
    station.client.lpush(station.ns, NOT_JSON)
    station.take_in()
    (letter,) = station.letters.walk()
    assert "not JSON" in station.letters.replay([letter.id]).skipped[0].why
    assert station.letters.replay([letter.id], force=True).requeued == 1
    assert station.client.lrange(station.ns, 0, -1) == [NOT_JSON]


def test_retention_purges_the_old_and_keeps_the_young(station: Station) -> None:
    station.die(row("c1"))
    (old,) = station.letters.walk()
    station.client.zadd(f"{station.ns}:dead:index", {old.id: old.died_at_ms - 3 * 86_400_000})
    station.die(row("c2"))
    assert station.letters.purge_expired(0) == 0
    assert station.letters.purge_expired(2.5) == 1
    assert [letter.row["customer_id"] for letter in station.letters.walk()] == ["c2"]
    assert station.figures()["purged"] == 1


def test_one_worker_at_a_time_ends_retentions(station: Station, redis_client: Redis, redis_url: str) -> None:
    station.die(*(row(f"c{i}") for i in range(50)))
    for letter in station.letters.walk():
        station.client.zadd(f"{station.ns}:dead:index", {letter.id: letter.died_at_ms - 86_400_000})
    assert station.letters.purge_expired(0.5, most=1) == 50
    station.die(row("late"))
    (late,) = station.letters.walk()
    station.client.zadd(f"{station.ns}:dead:index", {late.id: late.died_at_ms - 86_400_000})
    other = Station(redis_client, redis_url).letters
    assert other.purge_expired(0.5) == 0
    assert station.letters.purge_expired(0.5) == 1


def test_a_dead_letter_of_a_later_release_is_left_alone(station: Station) -> None:
    letter = "1700000000000-1"
    station.client.hset(f"{station.ns}:dead", letter, json.dumps({"layout": 9, "id": letter}))
    with pytest.raises(Exception, match="later release"):
        station.letters.purge([letter])
    assert station.client.hexists(f"{station.ns}:dead", letter)
