"""`bunce-attributes pause` and `resume`."""

from __future__ import annotations

import pytest
from click import Command
from click.testing import CliRunner, Result
from redis import Redis
from tests.redis.station import API_URL, JOB, PLAN, Station, row

from bunce_attributes.cli.pause import pause
from bunce_attributes.cli.resume import resume
from bunce_attributes.outbox.outbox import ClaimedCall, GateClosed
from bunce_attributes.outcomes import RateLimited


@pytest.fixture
def station(redis_client: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Station:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("BUNCE_API_URL", API_URL)
    return Station(redis_client, redis_url)


def run(command: Command, *words: str) -> Result:
    result = CliRunner().invoke(command, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_pause_stops_calls_and_resume_lets_them_go_on(station: Station) -> None:
    station.put(row("c1"))
    assert "Everything is paused" in run(pause).stdout
    assert "was paused already" in run(pause).stdout
    assert isinstance(station.claim(), GateClosed)
    assert run(resume).stdout == "Calls go on.\n"
    assert station.call() == [row("c1")]
    assert run(resume).stdout == "No operator had paused everything.\n"


def test_a_pause_of_one_attribute_leaves_the_others_alone(station: Station) -> None:
    assert f"Attribute {PLAN} is paused" in run(pause, "--attribute", PLAN.upper()).stdout
    station.put(row("c1"), row("c2", attribute=PLAN))
    assert station.call() == [row("c1")]
    assert not isinstance(station.claim(), ClaimedCall)
    assert run(resume, "--attribute", PLAN).stdout == f"Attribute {PLAN} goes on; 1 of its rows waited.\n"
    assert station.call() == [row("c2", attribute=PLAN)]
    assert "was not paused" in run(resume, "--attribute", PLAN).stdout


def test_bury_lets_the_rows_of_a_braked_attribute_become_dead_letters(
    redis_client: Redis, redis_url: str, station: Station
) -> None:
    station = Station(redis_client, redis_url, brake_min_rows=3, max_attempts=2)
    station.put(*(row(f"c{i}") for i in range(5)))
    station.refuse_everything()
    assert len(station.letters) == 0
    assert "brake is off for a day" in run(resume, "--attribute", JOB, "--bury").stdout
    station.refuse_everything()
    assert len(station.letters) == 5


def test_resume_tells_that_the_gate_is_paused_for_another_reason(station: Station) -> None:
    station.put(row("c1"))
    station.end_call(station.begin_call(), RateLimited(429, 60.0))
    run(pause)
    told = run(resume).stdout
    assert "Still no calls are made" in told
    assert "rate_limited" in told


@pytest.mark.parametrize(
    ("command", "words", "told"),
    [
        (pause, ["--attribute", "Job"], "is no attribute id"),
        (resume, ["--attribute", "Job"], "is no attribute id"),
        (resume, ["--bury"], "add --attribute ID"),
    ],
)
def test_a_wrong_request_is_one_sentence_and_exit_code_2(
    station: Station, command: Command, words: list[str], told: str
) -> None:
    result = run(command, *words)
    assert result.exit_code == 2
    assert told in result.stderr


@pytest.mark.parametrize("command", [pause, resume])
def test_redis_out_of_reach_is_one_sentence(
    station: Station, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    result = run(command)
    assert result.exit_code == 1
    assert "is not there" in result.stderr
