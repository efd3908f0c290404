"""`bunce-attributes check`: every fault that it is for is found, named with its mend, and makes it fail."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from click.testing import CliRunner, Result
from redis import Redis
from tests.redis.station import JOB, Station, row

from bunce_attributes.checks import Finding, Level, run_checks
from bunce_attributes.checks.redis_checks import clock, memory, persistence, server
from bunce_attributes.cli.check import check
from bunce_attributes.embedded_redis import EmbeddedRedis
from bunce_attributes.outcomes import Misconfigured
from bunce_attributes.sandbox import Sandbox
from bunce_attributes.settings import load_settings
from bunce_attributes.worker.heartbeat import Heartbeat

KEY = "sk_test_not_a_secret"
Answering = Callable[[int, bytes], str]
"""Starts a server that gives this answer to everything; its address."""


@pytest.fixture
def answering() -> Iterator[Answering]:
    servers = []

    def start(status: int, body: bytes) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(listening)
        Thread(target=listening.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{listening.server_port}"

    yield start
    for one in servers:
        one.shutdown()
        one.server_close()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def durable(monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox) -> Iterator[EmbeddedRedis]:
    """A Redis as it should be, and an environment that names it."""
    with EmbeddedRedis(appendfsync="always", config={"maxmemory": "100mb"}) as server:
        monkeypatch.setenv("REDIS_URL", server.url)
        monkeypatch.setenv("BUNCE_API_URL", sandbox.url)
        monkeypatch.setenv("BUNCE_API_KEY", KEY)
        yield server


def run(*words: str) -> Result:
    result = CliRunner().invoke(check, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_a_sound_service_passes_every_check(durable: EmbeddedRedis) -> None:
    with durable.client() as client:
        Heartbeat(client, load_settings(), "worker@host").beat()
    result = run("--strict")
    assert result.exit_code == 0, result.stdout
    lines = result.stdout.splitlines()
    assert {line.split()[0] for line in lines} == {"ok"}
    for told in ("accepts the key", "noeviction", "on disk before", "worker@host", "calls are made"):
        assert any(told in line for line in lines), told
    assert KEY not in result.stdout


def test_the_findings_are_to_be_had_as_json(durable: EmbeddedRedis) -> None:
    findings = json.loads(run("--json").stdout)
    assert {"level": "warning", "what": "workers", "found": "none gave a sign of life"}.items() <= next(
        one.items() for one in findings if one["what"] == "workers"
    )


def test_redis_out_of_reach_is_one_fault_and_ends_the_check(
    durable: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    result = run()
    assert result.exit_code == 1
    assert "FAULT Redis: Redis at redis://127.0.0.1:1/0 is not there" in result.stdout


def test_wrong_settings_are_listed_with_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNCE_MAX_ATTEMPTS", "0")
    assert run().exit_code == 2


def test_a_missing_api_key_is_a_fault(durable: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUNCE_API_KEY")
    result = run()
    assert result.exit_code == 1
    assert "FAULT API: there is no API key. Set BUNCE_API_KEY" in result.stdout


@pytest.mark.parametrize(
    ("status", "level", "told"),
    [
        (401, "FAULT", "Set the key of http://127.0.0.1:"),
        (403, "FAULT", "what the key may do"),
        (404, "FAULT", "Check BUNCE_API_URL"),
        (429, "look", "Something else calls the API"),
        (500, "FAULT", "out of order"),
    ],
)
def test_what_the_api_answers_is_told_with_the_mend(
    redis_client: Redis,
    redis_url: str,
    answering: Answering,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    level: str,
    told: str,
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("BUNCE_API_URL", answering(status, b'{"success": false, "message": "so it is"}'))
    monkeypatch.setenv("BUNCE_API_KEY", KEY)
    (line,) = [line for line in run().stdout.splitlines() if " API: " in line]
    assert line.startswith(level)
    assert f"HTTP {status} (so it is)" in line
    assert told in line


def test_a_web_page_instead_of_the_api_is_a_fault(
    redis_url: str, answering: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("BUNCE_API_URL", answering(200, b"<html>log in</html>"))
    monkeypatch.setenv("BUNCE_API_KEY", KEY)
    assert "leads to the API, not to a page" in run().stdout


def test_an_api_that_nobody_answers_for_is_a_fault(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("BUNCE_API_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("BUNCE_API_KEY", KEY)
    result = run()
    assert result.exit_code == 1
    assert "FAULT API: http://127.0.0.1:1: no connection" in result.stdout


def test_the_request_takes_a_permit_of_the_rate_limit(durable: EmbeddedRedis, sandbox: Sandbox) -> None:
    with durable.client() as client:
        station = Station(client, durable.url, api_url=sandbox.url)
        run()
        assert station.outbox.status()["gate"]["permits_used"] == 1


def test_without_a_permit_the_api_is_not_asked(
    durable: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch, sandbox: Sandbox
) -> None:
    monkeypatch.setenv("BUNCE_REQUESTS_PER_MINUTE", "1")
    with durable.client() as client:
        assert Station(client, durable.url, requests_per_minute=1, api_url=sandbox.url).outbox.take_permit("x") == 0
    began = time.monotonic()
    assert "look  API: not asked: the rate limit allows no request" in run().stdout
    assert time.monotonic() - began < 5


def texts(findings: Iterator[Finding]) -> list[tuple[Level, str]]:
    return [(one.level, str(one)) for one in findings]


def test_a_server_that_is_too_old_a_cluster_or_a_replica_is_a_fault() -> None:
    info = {"redis_version": "6.0.16", "cluster_enabled": 1, "role": "slave"}
    assert [level for level, _ in texts(server(info))] == [Level.FAULT] * 3
    assert texts(server({"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "9.1.2"})) == [
        (Level.OK, "version: valkey 9.1.2")
    ]


@pytest.mark.parametrize(
    ("info", "appendfsync", "level", "told"),
    [
        ({"aof_enabled": 0}, "always", Level.FAULT, "appendonly yes"),
        ({"aof_enabled": 1, "aof_last_write_status": "err"}, "always", Level.FAULT, "disk"),
        ({"aof_enabled": 1}, "everysec", Level.WARNING, "appendfsync everysec"),
        ({"aof_enabled": 1}, None, Level.WARNING, "CONFIG is not allowed"),
        ({"aof_enabled": 1}, "always", Level.OK, "on disk"),
    ],
)
def test_persistence_is_judged_by_what_a_crash_would_lose(
    info: dict[str, object], appendfsync: str | None, level: Level, told: str
) -> None:
    ((found, text),) = texts(persistence(info, appendfsync))
    assert found is level
    assert told in text


@pytest.mark.parametrize(
    ("info", "levels"),
    [
        ({"maxmemory": 100, "used_memory": 10, "maxmemory_policy": "noeviction"}, [Level.OK, Level.OK]),
        ({"maxmemory": 100, "used_memory": 90, "maxmemory_policy": "noeviction"}, [Level.OK, Level.FAULT]),
        ({"maxmemory": 100, "used_memory": 10, "maxmemory_policy": "allkeys-lru"}, [Level.FAULT, Level.OK]),
        ({"maxmemory": 0, "used_memory": 10, "maxmemory_policy": "allkeys-lru"}, [Level.WARNING, Level.WARNING]),
    ],
)
def test_a_redis_that_throws_rows_away_or_is_full_is_a_fault(info: dict[str, object], levels: list[Level]) -> None:
    assert [level for level, _ in texts(memory(info, 0.85))] == levels


def test_a_clock_that_is_off_is_told_and_one_that_spoils_occurred_at_is_a_fault() -> None:
    assert [clock(skew).level for skew in (0.5, -30.0, 30.0, 400.0)] == [
        Level.OK,
        Level.WARNING,
        Level.WARNING,
        Level.FAULT,
    ]


def test_the_clock_of_this_host_is_compared_with_redis(redis_client: Redis, redis_url: str) -> None:
    settings = load_settings(redis_url=redis_url, api_url="http://127.0.0.1:9")
    findings = list(run_checks(redis_client, settings, wall_clock=lambda: time.time() + 60))
    assert any(one.what == "clock" and one.level is Level.WARNING and "ahead" in one.found for one in findings)


def test_workers_with_other_settings_are_a_fault_that_names_them_without_the_key(
    durable: EmbeddedRedis, sandbox: Sandbox
) -> None:
    with durable.client() as client:
        settings = load_settings(api_key="sk_live_another", batch_max_rows=7)
        Heartbeat(client, settings, "worker@other").beat()
    result = run()
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if "worker@other has other settings" in line]
    assert "BUNCE_BATCH_MAX_ROWS is 7 there and 100 here" in line
    assert "BUNCE_API_KEY is another one there" in line
    assert "sk_live_another" not in result.stdout


def test_a_worker_that_fell_silent_is_told(durable: EmbeddedRedis) -> None:
    with durable.client() as client:
        told = {"version": "1", "at": time.time() - 60, "settings": {}}
        client.hset("bunce-attributes:workers", "worker@gone", json.dumps(told))
    assert "worker@gone has been silent for 1 min" in run().stdout


def test_lists_that_nobody_reads_are_found_with_the_way_to_move_them(durable: EmbeddedRedis) -> None:
    """A producer with priority steps of its own, and one that forgot task routing."""
    with durable.client() as client:
        station = Station(client, durable.url)
        station.enqueue(row("c1"), to="bunce-attributes\x06\x161")
        station.enqueue(row("c1"), to="celery")
        station.enqueue(row("c1"), to="mixed")
        client.lpush("somebody", "else's")
        client.lpush("mixed", '{"headers": {"task": "another"}}')
    result = run()
    assert result.exit_code == 1
    faults = [line for line in result.stdout.splitlines() if line.startswith("FAULT lists")]
    assert len(faults) == 3
    assert any("priority" in line for line in faults)
    assert any("'celery' holds 1 messages" in line and "LMOVE" in line for line in faults)
    # An application's own tasks would die in our queue.
    assert any("'mixed' holds 2 messages" in line and "LMOVE" not in line and "again" in line for line in faults)


def test_another_namespace_in_the_same_redis_is_none_of_our_business(durable: EmbeddedRedis) -> None:
    with durable.client() as client:
        other = Station(client, durable.url, namespace="other")
        other.put(row("c1"))
        other.enqueue(row("c2"))
    assert "ok    lists" in run().stdout


def test_dead_letters_brakes_and_a_paused_gate_want_a_look(
    redis_client: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = Station(redis_client, redis_url)
    station.die(row("c1"))
    station.outbox.pause(JOB)
    station.outbox.pause()
    found = {one.what: one for one in run_checks(redis_client, station.settings)}
    for what in ("dead letters", "paused attribute", "gate"):
        assert found[what].level is Level.WARNING, what
        assert found[what].mend


def test_a_gate_that_only_a_correction_opens_is_a_fault(redis_client: Redis, redis_url: str) -> None:
    station = Station(redis_client, redis_url)
    station.put(row("c1"))
    station.end_call(station.begin_call(), Misconfigured(401, "no valid key"))
    found = {one.what: one for one in run_checks(redis_client, station.settings)}
    assert found["gate"].level is Level.FAULT
    assert "no valid key" in found["gate"].found


def test_a_rate_above_the_documented_limit_wants_a_look(redis_client: Redis, redis_url: str) -> None:
    settings = load_settings(redis_url=redis_url, requests_per_minute=600)
    assert any("documented limit is 500" in one.found for one in run_checks(redis_client, settings))


def test_a_key_file_that_cannot_be_read_is_named(durable: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BUNCE_API_KEY")
    monkeypatch.setenv("BUNCE_API_KEY_FILE", "/nowhere/key")
    result = run()
    assert result.exit_code == 1
    assert "there is no API key: /nowhere/key is not there, is empty or may not be read" in result.stdout


def test_a_misspelt_setting_wants_a_look(durable: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNCE_MAX_ATEMPTS", "7")
    (line,) = [line for line in run().stdout.splitlines() if "BUNCE_MAX_ATEMPTS" in line]
    assert line.startswith("look  settings: ")
    assert "BUNCE_MAX_ATTEMPTS is" in line
