"""`bunce-attributes status`: figures that add up, and a page that says why and what to do."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from click.testing import CliRunner, Result
from redis import Redis
from tests.redis.station import API_URL, JOB, Station, row

from bunce_attributes.cli.status import status
from bunce_attributes.outcomes import CallOutcome, Failed, Misconfigured, Processed, RateLimited, Unreadable
from bunce_attributes.status import Pace, Snapshot, read_snapshot
from bunce_attributes.updates import Lane
from bunce_attributes.worker.heartbeat import Heartbeat


@pytest.fixture
def station(redis_client: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Station:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("BUNCE_API_URL", API_URL)
    monkeypatch.setenv("COLUMNS", "200")
    return Station(redis_client, redis_url)


def run(*words: str) -> Result:
    result = CliRunner().invoke(status, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def shown(station: Station) -> dict[str, object]:
    told: dict[str, object] = json.loads(run("--json").stdout)
    return told


def adds_up(snapshot: Snapshot) -> None:
    ends = snapshot.saved + snapshot.superseded + snapshot.dead + snapshot.purged
    assert snapshot.received == ends + snapshot.waiting
    assert snapshot.waiting == snapshot.due + snapshot.leased + snapshot.retrying + snapshot.braked


def test_an_empty_namespace_has_every_figure_at_zero(station: Station) -> None:
    told = shown(station)
    names = ("received", "saved", "superseded", "dead", "purged", "waiting", "due", "leased", "retrying")
    assert [told[name] for name in (*names, "queued_messages", "calls")] == [0] * 11
    assert told["gate"] == {
        "state": "open",
        "reason": "",
        "seconds_left": 0.0,
        "since": None,
        "detail": "",
        "permits_used": 0,
    }


def test_the_figures_add_up_at_every_step_of_a_row(redis_client: Redis, redis_url: str) -> None:
    station = Station(redis_client, redis_url, max_attempts=2, retry_base_seconds=60.0, retry_max_seconds=60.0)
    seen = []

    def look() -> None:
        seen.append(read_snapshot(station.outbox))
        adds_up(seen[-1])

    look()
    station.enqueue(row("c1"), row("c2"), row("c3"), row("c2", "newer"), {"id": JOB}, lane=Lane.BULK)
    look()
    station.take_in()
    look()
    call = station.begin_call()
    look()
    station.put(row("c1", "newer"))
    look()
    station.end_call(call, Processed(200, {0: "no", 2: "no"}))
    look()
    station.letters.purge([letter.id for letter in station.letters.walk()])
    look()
    assert [(one.queued_messages, one.due, one.leased, one.retrying, one.dead, one.purged) for one in seen] == [
        (0, 0, 0, 0, 0, 0),
        (1, 0, 0, 0, 0, 0),
        (0, 3, 0, 0, 1, 0),
        (0, 0, 3, 0, 1, 0),
        (0, 1, 3, 0, 1, 0),
        (0, 0, 0, 2, 1, 0),
        (0, 0, 0, 2, 0, 1),
    ]


def test_rows_of_a_failed_call_count_as_retrying_until_they_are_due(station: Station) -> None:
    station.put(row("c1"), row("c2"))
    station.end_call(station.begin_call(), Failed(0, "no connection", unknown=False))
    told = shown(station)
    assert (told["waiting"], told["retrying"], told["due"]) == (2, 2, 0)


def fail_calls(station: Station, outcome: CallOutcome) -> None:
    for i in range(3):
        station.put(row(f"c{i}"))
    for _ in range(3):
        claim = station.claim()
        if not hasattr(claim, "rows"):
            break
        station.end_call(claim, outcome)  # type: ignore[arg-type]  # hasattr is no narrowing


@pytest.mark.parametrize(
    ("outcome", "reason", "mend"),
    [
        (RateLimited(429, 60.0), "rate_limited", "BUNCE_REQUESTS_PER_MINUTE"),
        (Failed(503, "down", unknown=True, retry_after_seconds=30.0), "outage", "no row loses an attempt"),
        (Misconfigured(401, "bad key"), "misconfigured", "Correct BUNCE_API_KEY"),
    ],
)
def test_a_paused_gate_tells_why_for_how_long_and_what_to_do(
    station: Station, outcome: CallOutcome, reason: str, mend: str
) -> None:
    fail_calls(station, outcome)
    gate = json.loads(run("--json").stdout)["gate"]
    assert (gate["state"], gate["reason"]) == ("paused", reason)
    assert 0 < gate["seconds_left"] <= 61
    page = run().stdout
    assert "No calls are made" in page
    assert mend in page


def test_unreadable_answers_pause_the_gate_with_their_own_reason(station: Station) -> None:
    for i in range(3):
        station.put(row(f"c{i}"))
        station.end_call(station.begin_call(), Unreadable(200, "the answer is no JSON"))
    gate = json.loads(run("--json").stdout)["gate"]
    assert (gate["state"], gate["reason"]) == ("paused", "unreadable")
    assert "the answer is no JSON" in run().stdout


def test_a_pause_by_an_operator_has_no_end_of_its_own(station: Station) -> None:
    station.outbox.pause()
    gate = json.loads(run("--json").stdout)["gate"]
    assert (gate["state"], gate["reason"], gate["seconds_left"]) == ("paused", "operator", None)
    assert gate["since"].startswith("20")
    assert "bunce-attributes resume" in run().stdout


def test_a_braked_attribute_is_shown_with_the_way_out(redis_client: Redis, redis_url: str, station: Station) -> None:
    station = Station(redis_client, redis_url, brake_min_rows=2, max_attempts=3)
    station.put(*(row(f"c{i}") for i in range(5)))
    station.refuse_everything()
    page = run().stdout
    assert f"Attribute {JOB} is paused by the brake" in page
    assert "The API says: no such attribute" in page
    assert f"resume --attribute {JOB}" in page
    adds_up(read_snapshot(station.outbox))


def test_dead_letters_are_told_by_reason_and_those_that_left_no_more(station: Station) -> None:
    station.put({"id": JOB}, {"id": JOB})
    (letter,) = station.die(row("c1"))[2:]
    assert shown(station)["dead_by_reason"] == {"attempts": 1, "invalid": 2}
    station.letters.purge([letter.id])
    assert shown(station)["dead_by_reason"] == {"invalid": 2}


def test_the_page_tells_that_no_worker_is_there_or_which(station: Station) -> None:
    assert "No worker gave a sign of life" in run().stdout
    Heartbeat(station.client, station.settings, "worker@host").beat()
    page = run().stdout
    assert "No worker" not in page
    assert "worker@host" in page


def test_a_worker_that_fell_silent_or_stopped_is_counted_no_longer(station: Station) -> None:
    silent = json.dumps({"version": "1", "at": time.time() - 60, "settings": {}})
    station.client.hset(f"{station.ns}:workers", "silent@host", silent)
    stopped = Heartbeat(station.client, station.settings, "stopped@host")
    stopped.beat()
    assert "Workers: 1 (stopped@host)" in run().stdout
    stopped.leave()
    page = run().stdout
    assert "No worker gave a sign of life" in page
    assert "Workers: 0" in page


def test_redis_out_of_reach_is_one_sentence_and_exit_code_1(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    for words in ([], ["--json"], ["--watch"], ["--watch", "--json"]):
        result = run(*words)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith("Redis at redis://127.0.0.1:1/0 is not there")


def test_wrong_settings_are_listed_with_exit_code_2(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNCE_BATCH_MAX_ROWS", "none")
    result = run()
    assert result.exit_code == 2
    assert "BUNCE_BATCH_MAX_ROWS" in result.stderr


def snapshot(station: Station, at_ms: int, **figures: int) -> Snapshot:
    from dataclasses import replace

    return replace(read_snapshot(station.outbox), at_ms=at_ms, **figures)


def test_the_estimate_follows_the_rate_of_the_last_minute(station: Station) -> None:
    pace = Pace()
    assert pace.note(snapshot(station, 0, waiting=1_000)) is None
    rates = pace.note(snapshot(station, 10_000, waiting=900, saved=100, calls=5))
    assert rates is not None
    assert (rates.saved, rates.calls_a_minute, rates.empty_in_seconds) == (10.0, 30.0, 90.0)
    growing = pace.note(snapshot(station, 20_000, waiting=2_000, saved=200, calls=10))
    assert growing is not None
    assert growing.empty_in_seconds is None


def test_the_estimate_counts_messages_that_were_not_read_yet_by_their_mean_size(station: Station) -> None:
    pace = Pace()
    figures = {"received": 1_000, "messages": 10}
    pace.note(snapshot(station, 0, queued_messages=20, **figures))
    rates = pace.note(snapshot(station, 10_000, queued_messages=10, **figures))
    assert rates is not None
    assert rates.empty_in_seconds == 10.0


def test_watch_refreshes_in_place_and_ctrl_c_ends_it_quietly(station: Station, redis_url: str) -> None:
    """On a terminal, as an operator has it."""
    leader, follower = pty.openpty()
    # Whoever runs these tests in the background of a script ignores SIGINT, and so would the command.
    heeds_ctrl_c = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    start = f"{heeds_ctrl_c}; from bunce_attributes.cli import main; main()"
    command = [sys.executable, "-c", start, "status", "--watch"]
    process = subprocess.Popen(
        [*command, "--interval", "0.1"],
        stdout=follower,
        stderr=follower,
        env={**os.environ, "REDIS_URL": redis_url, "TERM": "xterm"},
    )
    os.close(follower)
    seen = read_until(leader, lambda text: text.count("Calls are made") >= 3)
    assert "\x1b[" in seen
    station.outbox.pause()
    read_until(leader, lambda text: "somebody paused it" in text)
    process.send_signal(2)
    # A terminal that nobody reads takes some kilobytes, and then holds up who writes.
    with suppress(OSError):
        read_until(leader, lambda _: process.poll() is not None)
    assert process.wait(10) == 0
    os.close(leader)


def read_until(leader: int, enough: Callable[[str], bool]) -> str:
    seen, ends = "", time.monotonic() + 20
    while not enough(seen):
        assert time.monotonic() < ends, seen
        seen += os.read(leader, 65_536).decode(errors="replace")
    return seen
