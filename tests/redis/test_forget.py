"""`bunce-attributes forget`: a customer leaves every place, and nobody else's row is touched."""

from __future__ import annotations

import json
import threading
import time
from base64 import b64encode

import pytest
from click.testing import CliRunner, Result
from redis import Redis
from tests.redis.station import API_URL, JOB, PLAN, Station, row

from bunce_attributes.cli.forget import forget as command
from bunce_attributes.forgetting import Forgotten, QueueBusy, forget
from bunce_attributes.forgetting.messages import without_customer
from bunce_attributes.forgetting.outbox_rows import LaterLayout
from bunce_attributes.forgetting.queue import QueueEraser
from bunce_attributes.identifiers import Identifiers
from bunce_attributes.intake import LARGEST_MESSAGE_BYTES, LEASE_MS
from bunce_attributes.messages import Rows, read_message
from bunce_attributes.outbox.outbox import ClaimedMessages, IntakeBatch, IntakeBusy, LeaseLost
from bunce_attributes.outcomes import Failed, Processed

ZORA = Identifiers.of(["zora"], ["Zora@Example.com"])
ZORAS = [
    row("zora"),
    {"id": JOB, "customer_email": "ZORA@example.COM", "value": "v"},
    {"id": JOB, "value": "v", "customer": {"customer_id": "zora", "first_name": "Zora"}},
    {"id": JOB, "value": "v", "customer_id": "x1", "customer": {"email": "zora@example.com"}},
]
OTHERS = [row("zoram"), row("bob"), {"id": JOB, "customer_email": "not-zora@example.com", "value": "v"}]


@pytest.fixture
def station(redis_client: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Station:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("BUNCE_API_URL", API_URL)
    return Station(redis_client, redis_url)


def forget_zora(station: Station, **options: float) -> Forgotten:
    return forget(station.outbox, station.settings, ZORA, longest_wait_seconds=options.get("wait", 5.0))


def rows_in(raw: bytes) -> list[object]:
    message = read_message(raw)
    assert isinstance(message, Rows)
    return message.rows


def everything(client: Redis) -> bytes:
    """All bytes of all keys, bodies of messages decoded."""
    parts = []
    for key in client.scan_iter():
        kind = client.type(key)
        if kind == b"hash":
            parts += [part for pair in client.hgetall(key).items() for part in pair]
        elif kind == b"list":
            parts += client.lrange(key, 0, -1)
    bodies = [json.dumps(rows_in(part)).encode() for part in parts if b'"body"' in part]
    return b"\n".join([*parts, *bodies])


def test_rows_leave_messages_of_the_queue_and_its_priorities_and_the_others_stay_in_order(station: Station) -> None:
    station.enqueue(OTHERS[0], *ZORAS, OTHERS[1], OTHERS[2])
    station.enqueue(*ZORAS[:2], to=f"{station.ns}\x06\x166")
    station.enqueue(OTHERS[1])
    result = forget_zora(station)
    assert (result.queue, result.outbox, result.dead_letters) == (6, 0, 0)
    assert [rows_in(raw) for raw in station.client.lrange(station.ns, 0, -1)] == [[OTHERS[1]], OTHERS]
    assert station.figures()["purged"] == 6
    station.take_in()
    assert station.figures() == {"received": 10, "saved": 0, "superseded": 1, "purged": 6, "dead": 0, "waiting": 3}


def test_messages_for_later_are_rewritten_too(station: Station) -> None:
    station.enqueue(ZORAS[0], OTHERS[0], headers={"eta": "2099-01-01T00:00:00+00:00"})
    station.take_in()
    assert forget_zora(station).queue == 1
    (raw,) = station.client.hvals(f"{station.ns}:scheduled:messages")
    assert rows_in(raw) == [OTHERS[0]]


def test_a_message_that_is_taken_in_halfway_goes_on_where_it_was(station: Station) -> None:
    rows = [row("zora", "1"), row("c1"), row("zora", "2"), row("c2"), row("zora", "3", PLAN), row("c3")]
    station.enqueue(*rows)
    claimed = station.outbox.claim_messages(
        "reader", lease_ms=LEASE_MS, most_messages=10, most_bytes=10**6, largest=LARGEST_MESSAGE_BYTES
    )
    assert isinstance(claimed, ClaimedMessages)
    from bunce_attributes.intake import Intake

    intake = Intake(station.outbox, row_limit_bytes=10**6)
    (whole,) = intake.batches(claimed)
    first = IntakeBatch(rows=whole.rows[:3], cursor=3)
    station.outbox.accept("reader", claimed.source, first, lease_ms=LEASE_MS)
    station.outbox.release_messages("reader")
    result = forget_zora(station)
    assert (result.queue, result.outbox) == (1, 1)
    station.take_in()
    assert sorted(sent["customer_id"] for sent in station.call()) == ["c1", "c2", "c3"]
    assert station.figures() == {"received": 6, "saved": 3, "superseded": 1, "purged": 2, "dead": 0, "waiting": 0}
    assert b"zora" not in everything(station.client)


def test_a_reader_of_the_queue_is_waited_for_and_kept_out(station: Station) -> None:
    station.enqueue(ZORAS[0], OTHERS[0])
    reader = station.outbox.claim_messages(
        "reader", lease_ms=300, most_messages=10, most_bytes=10**6, largest=LARGEST_MESSAGE_BYTES
    )
    assert isinstance(reader, ClaimedMessages)
    forget_zora(station)
    late = station.outbox.accept("reader", reader.source, IntakeBatch(forget=1), lease_ms=300)
    assert isinstance(late, LeaseLost)
    assert [rows_in(raw) for raw in station.client.lrange(station.ns, 0, -1)] == [[OTHERS[0]]]


def test_no_worker_reads_the_queue_while_it_is_rewritten(station: Station) -> None:
    eraser = QueueEraser(station.outbox, ZORA)
    eraser._take()
    station.enqueue(ZORAS[0])
    busy = station.outbox.claim_messages(
        "reader", lease_ms=300, most_messages=10, most_bytes=10**6, largest=LARGEST_MESSAGE_BYTES
    )
    assert isinstance(busy, IntakeBusy)


def test_a_queue_that_is_never_free_ends_in_one_sentence(station: Station) -> None:
    station.enqueue(ZORAS[0])
    station.outbox.claim_messages(
        "reader", lease_ms=60_000, most_messages=10, most_bytes=10**6, largest=LARGEST_MESSAGE_BYTES
    )
    with pytest.raises(QueueBusy, match="stop the workers for a moment"):
        QueueEraser(station.outbox, ZORA, longest_wait_seconds=0.1).run()


def test_rows_leave_the_outbox_wherever_they_wait(redis_client: Redis, redis_url: str) -> None:
    station = Station(redis_client, redis_url, max_attempts=3, retry_base_seconds=60, retry_max_seconds=60)
    station.put(row("zora", attribute=PLAN), row("bob", attribute=PLAN))
    station.call({"zora": "no", "bob": "no"})  # both wait for a retry
    station.outbox.pause(PLAN)
    station.put(*ZORAS[:1], row("bob"))
    station.end_call(station.begin_call(), Failed(0, "no connection", unknown=False))  # both wait in a group
    station.put(ZORAS[1], OTHERS[2])  # ready
    assert forget_zora(station).outbox == 3
    assert station.figures()["waiting"] == 3
    assert b"zora" not in everything(station.client).replace(b"not-zora@", b"")


def test_a_row_of_a_paused_attribute_leaves_without_a_trace_in_the_figures(station: Station) -> None:
    station.outbox.pause(JOB)
    station.put(ZORAS[0], OTHERS[0])
    forget_zora(station)
    assert station.outbox.status()["braked"] == 1


def test_a_row_in_a_call_is_waited_for_and_does_not_come_back(redis_client: Redis, redis_url: str) -> None:
    station = Station(redis_client, redis_url, max_attempts=3, retry_base_seconds=60, retry_max_seconds=60)
    station.put(ZORAS[0], OTHERS[0])
    call = station.begin_call()
    station.put(row("zora", "newer"))
    ended = threading.Thread(
        target=lambda: (time.sleep(0.3), station.end_call(call, Processed(200, {0: "no", 1: "no"})))
    )
    ended.start()
    result = forget_zora(station)
    ended.join()
    assert result.still_in_calls == 0
    figures = station.figures()
    assert figures["waiting"] == 1
    assert figures["purged"] + figures["superseded"] == 2
    assert b"zora" not in everything(redis_client).replace(b"zoram", b"")


def test_a_call_that_does_not_end_is_told(station: Station) -> None:
    station.put(ZORAS[0])
    station.begin_call()
    assert forget_zora(station, wait=0.0).still_in_calls == 1


def test_dead_letters_leave_and_those_of_others_stay(station: Station) -> None:
    station.die(row("zora"), row("bob"))
    station.put({"id": JOB, "customer_id": "zora"})
    station.enqueue(ZORAS[1], OTHERS[0], headers={"expires": "2020-01-01T00:00:00+00:00"})
    station.enqueue(ZORAS[1], headers={"expires": "2020-01-01T00:00:00+00:00"})
    station.take_in()
    result = forget_zora(station)
    assert (result.dead_letters, result.dead_messages_rewritten) == (3, 1)
    left = list(station.letters.walk())
    assert sorted(r["customer_id"] for letter in left for r in letter.rows) == ["bob", "zoram"]
    assert station.figures()["purged"] == 3
    assert b"zora" not in everything(station.client).replace(b"zoram", b"")


def test_a_message_that_cannot_be_read_leaves_whole_if_the_name_stands_in_it(station: Station) -> None:
    body = b64encode(b'[[{"customer_id": "zora"}], broken').decode()
    station.client.lpush(station.ns, f'{{"headers": {{"task": "another"}}, "body": "{body}"}}')
    station.client.lpush(station.ns, b'{"headers": {}, "body": "zoram"}')
    station.take_in()
    station.client.lpush(station.ns, b"\xff not JSON at all, zora@example.com")
    result = forget_zora(station)
    assert (result.unreadable_messages, result.dead_letters, result.queue) == (2, 1, 1)
    station.take_in()
    assert station.figures() == {"received": 3, "saved": 0, "superseded": 0, "purged": 2, "dead": 1, "waiting": 0}


def test_the_memory_of_delivered_versions_leaves(station: Station) -> None:
    station.put(ZORAS[0], ZORAS[1], row("zora", attribute=PLAN), row("bob"))
    station.call({})
    (seen,) = station.client.keys(f"{station.ns}:seen:*")
    assert station.client.hlen(seen) == 4
    station.enqueue(row("zora"))  # tells the attribute
    assert forget_zora(station).versions == 2
    assert station.client.hlen(seen) == 2
    result = forget(station.outbox, station.settings, ZORA, attributes=[PLAN])
    assert result.versions == 1


def test_forgetting_twice_changes_nothing_more(station: Station) -> None:
    station.put(*ZORAS, *OTHERS)
    forget_zora(station)
    again = forget_zora(station)
    assert (again.queue, again.outbox, again.dead_letters, again.versions) == (0, 0, 0, 0)


def test_an_outbox_written_by_a_later_release_is_left_alone(station: Station) -> None:
    station.client.hset(f"{station.ns}:rows", b"0123456789abcdef", b"\x09later")
    with pytest.raises(LaterLayout, match="upgrade"):
        forget_zora(station)


@pytest.mark.parametrize("tagged", [False, True])
def test_a_rewritten_message_keeps_its_headers_and_the_types_of_its_values(station: Station, tagged: bool) -> None:
    value = {"__type__": "datetime", "__value__": "2026-01-01T00:00:00+00:00"} if tagged else 3
    station.enqueue(ZORAS[0], {**row("bob"), "value": value}, headers={"eta": "2099-01-01T00:00:00+00:00"})
    (raw,) = station.client.lrange(station.ns, 0, -1)
    new = without_customer(raw, read_message(raw), ZORA)
    assert new is not None
    before, after = read_message(raw), read_message(new.message)
    assert isinstance(before, Rows)
    assert isinstance(after, Rows)
    assert after.rows == before.rows[1:]
    assert (after.lane, after.eta, after.enqueued_at, after.task_id) == (
        before.lane,
        before.eta,
        before.enqueued_at,
        before.task_id,
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b'{"customer_id":"zora"}', True),
        (b"customer zora, of", True),
        (b"zoram and canzora", False),
        (b"<ZORA@Example.com>", True),
        (b"xzora@example.com", False),
        (b"zora@example.com.au", False),
        (b"zora@example.com.", True),
    ],
)
def test_a_name_is_found_as_a_word_of_its_own(text: bytes, found: bool) -> None:
    names = Identifiers.of([], ["zora@example.com"]) if b"@" in text else Identifiers.of(["zora"])
    assert names.found_in(text) is found


def run(*words: str, answer: str | None = None) -> Result:
    result = CliRunner().invoke(command, list(words), input=answer)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_the_command_asks_and_reports(station: Station) -> None:
    station.put(*ZORAS, *OTHERS)
    declined = run("--customer-id", "zora", answer="n\n")
    assert declined.exit_code == 1
    assert station.figures()["purged"] == 0
    done = run("--customer-id", "zora", "--customer-email", "zora@example.com", "--yes")
    assert done.exit_code == 0, done.output
    assert "outbox:              3 rows" in done.stdout
    assert "zora" not in done.stdout
    as_json = json.loads(run("--customer-id", "zora", "--yes", "--json").stdout)
    assert as_json["outbox"] == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "name the customer"),
        (["--customer-email", "zora", "--yes"], "is no e-mail address"),
        (["--customer-id", "", "--yes"], "must not be empty"),
        (["--customer-id", "zora", "--attribute", "Job", "--yes"], "must be the attribute's UUID"),
        (["--customer-id", "zora"], "add --yes"),
    ],
)
def test_a_wrong_request_is_one_sentence_and_exit_code_2(station: Station, words: list[str], told: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert told in result.stderr


def test_redis_out_of_reach_is_one_sentence(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    result = run("--customer-id", "zora", "--yes")
    assert result.exit_code == 1
    assert "is not there" in result.stderr
