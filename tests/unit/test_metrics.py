"""The metrics are a closed list: what is counted is shown, what is shown is documented."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from httpx import ASGITransport, AsyncClient, Response
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from bunce_attributes import AttributeUpdates
from bunce_attributes.delivery import RejectedReason
from bunce_attributes.exporter import exporter_app
from bunce_attributes.intake import Intake
from bunce_attributes.metrics import LATENCY_BUCKETS_MS, METRICS, Figures, Kind, families, metric_of
from bunce_attributes.outbox.outbox import Outbox
from bunce_attributes.settings import Settings, load_settings
from bunce_attributes.status import snapshot_of

LUA = {file.name: file.read_text() for file in (files("bunce_attributes.outbox") / "lua").iterdir()}
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "monitoring.md"


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return load_settings(redis_url=redis_url, requests_per_minute=475)


@pytest.fixture
def status(redis_client: Redis, settings: Settings) -> dict[str, Any]:
    return Outbox(redis_client, settings).status()


def exposed(status: dict[str, Any], memory: dict[str, Any] | None = None) -> dict[str, float]:
    """Samples by `name{label="value"}`."""
    figures = Figures(snapshot_of(status), status, memory or {}, requests_per_minute=475)
    return dict(_samples(families(figures, "bunce-attributes")))


def _samples(found: Any) -> Iterator[tuple[str, float]]:
    for family in found:
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            yield sample.name.removeprefix("bunce_attributes_") + (f"{{{labels}}}" if labels else ""), sample.value


def get(settings: Settings, path: str) -> Response:
    async def request() -> Response:
        async with AsyncClient(transport=ASGITransport(exporter_app(settings)), base_url="http://exporter") as client:
            return await client.get(path)

    return asyncio.run(request())


def test_every_counter_of_the_scripts_is_shown() -> None:
    """A counter that somebody adds and nobody exports would look as if nothing happened."""
    counted = {field for text in LUA.values() for field in re.findall(r"\bcount\('([a-z_]+:?)", text)}
    assert counted >= {"received", "saved", "superseded", "dead:", "pauses:", "paused_ms:", "latency_ms:"}
    assert [field for field in counted if metric_of(field) is None] == []


def test_the_scrape_shows_exactly_the_listed_metrics(settings: Settings) -> None:
    text = get(settings, "/metrics").text
    shown = {family.name for family in text_string_to_metric_families(text)}
    assert shown == {metric.exposed_name.removesuffix("_total") for metric in METRICS}


def test_every_metric_is_documented_and_nothing_else_is() -> None:
    documented = set(re.findall(r"^\| `(bunce_attributes_[a-z_]+)`", DOCUMENTATION.read_text(), re.MULTILINE))
    assert documented == {metric.exposed_name for metric in METRICS}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_the_conventions_of_prometheus(metric: Any) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", metric.name)
    assert not re.search(r"_(ms|milliseconds|minutes|kb|count|sum|bucket|total)$", metric.name), "base units only"
    assert metric.help.endswith(".")
    assert metric.exposed_name.endswith("_total") == (metric.kind is Kind.COUNTER)


def test_counters_are_shown_as_they_are_in_redis(status: dict[str, Any]) -> None:
    status["counts"] = {
        "received": 7,
        "saved": 4,
        "dead:attempts": 2,
        "rejected:row_error": 3,
        "calls:200": 5,
        "calls:0": 1,
    }
    shown = exposed(status)
    assert shown["updates_received_total"] == 7
    assert shown["updates_saved_total"] == 4
    assert shown['updates_dead_total{reason="attempts"}'] == 2
    assert shown['updates_rejected_total{reason="row_error"}'] == 3
    assert shown['calls_total{status="200"}'] == 5
    assert shown['calls_total{status="none"}'] == 1


def test_reasons_are_shown_before_they_happen(status: dict[str, Any]) -> None:
    """Else a rate would not see the first dead letter of a reason."""
    shown = exposed(status)
    for reason in ("attempts", "too_large", "invalid", "unreadable", "expired"):
        assert shown[f'updates_dead_total{{reason="{reason}"}}'] == 0
    for reason in RejectedReason:
        assert shown[f'updates_rejected_total{{reason="{reason}"}}'] == 0


def test_durations_are_cumulative_and_in_seconds(status: dict[str, Any]) -> None:
    status["counts"] = {"call_ms": 1_100, "call_ms:100": 2, "call_ms:1000": 1, "call_ms:inf": 1}
    shown = exposed(status)
    assert shown['call_duration_seconds_bucket{le="0.05"}'] == 0
    assert shown['call_duration_seconds_bucket{le="0.1"}'] == 2
    assert shown['call_duration_seconds_bucket{le="1.0"}'] == 3
    assert shown['call_duration_seconds_bucket{le="+Inf"}'] == 4
    assert shown["call_duration_seconds_count"] == 4
    assert shown["call_duration_seconds_sum"] == pytest.approx(1.1)


def test_latency_buckets_are_those_that_the_script_counts() -> None:
    limits = re.search(r"LATENCY_MS = \{([0-9, ]+)\}", LUA["settle.lua"])
    assert limits
    assert tuple(int(limit) for limit in limits[1].split(",")) == LATENCY_BUCKETS_MS


def test_an_open_gate_shows_no_reason(status: dict[str, Any]) -> None:
    shown = exposed(status)
    assert shown["gate_open"] == 1
    assert {value for name, value in shown.items() if name.startswith("gate_paused{")} == {0}


def test_a_running_pause_is_counted_while_it_lasts(status: dict[str, Any]) -> None:
    """An outage of an hour that only counted at its end could not be seen while it lasts."""
    status["counts"] = {"paused_ms:outage": 5_000}
    status["gate"] |= {"state": "paused", "reason": "outage", "wait_ms": 4_000}
    status["gate"] |= {"paused_for": "outage", "paused_since_ms": status["now_ms"] - 30_000}
    shown = exposed(status)
    assert shown["gate_open"] == 0
    assert shown['gate_paused{reason="outage"}'] == 1
    assert shown['gate_paused_seconds_total{reason="outage"}'] == 35
    assert shown["gate_pause_remaining_seconds"] == 4


def test_a_pause_of_the_operator_is_told_apart(redis_client: Redis, settings: Settings) -> None:
    outbox = Outbox(redis_client, settings)
    outbox.pause()
    shown = exposed(outbox.status())
    assert shown["gate_open"] == 0
    assert shown['gate_paused{reason="operator"}'] == 1
    assert shown["gate_pause_remaining_seconds"] == 0


def test_a_redis_that_may_throw_rows_away_shows(status: dict[str, Any]) -> None:
    assert exposed(status, {"maxmemory_policy": "noeviction"})["redis_evicts"] == 0
    assert exposed(status, {"maxmemory_policy": "allkeys-lru"})["redis_evicts"] == 1


def test_a_scrape_without_redis_says_so_and_shows_no_figure() -> None:
    """Zeros would look like an idle service."""
    answer = get(load_settings(redis_url="redis://127.0.0.1:1/0"), "/metrics")
    assert answer.status_code == 200
    assert "bunce_attributes_redis_up 0.0" in answer.text
    assert "updates_saved" not in answer.text


def test_a_worker_that_lives_is_counted(redis_client: Redis, settings: Settings) -> None:
    now = float(redis_client.time()[0])
    redis_client.hset("bunce-attributes:workers", "worker@a", f'{{"at": {now}}}')
    redis_client.hset("bunce-attributes:workers", "worker@gone", f'{{"at": {now - 3600}}}')
    assert "bunce_attributes_workers 1.0" in get(settings, "/metrics").text


def test_the_exporter_is_alive_without_redis_but_not_ready() -> None:
    settings = load_settings(redis_url="redis://:secret@127.0.0.1:1/0")
    assert get(settings, "/healthz").status_code == 200
    answer = get(settings, "/readyz")
    assert answer.status_code == 503
    assert "connection refused" in answer.text
    assert "secret" not in answer.text


def test_the_exporter_is_ready_with_redis(settings: Settings) -> None:
    assert get(settings, "/readyz").status_code == 200


def test_an_expired_message_is_counted_by_its_own_reason(redis_client: Redis, settings: Settings) -> None:
    """Producers that ask for expiry, and producers that write rubbish, want different answers."""
    AttributeUpdates(settings.redis_url).enqueue(attribute=str(uuid4()), customer_id="1", value="x")
    envelope = json.loads(redis_client.lpop("bunce-attributes"))
    envelope["headers"]["expires"] = "2020-01-01T00:00:00Z"
    redis_client.lpush("bunce-attributes", json.dumps(envelope), "rubbish")
    outbox = Outbox(redis_client, settings)
    Intake(outbox, row_limit_bytes=1_000_000).run()
    shown = exposed(outbox.status())
    assert shown['updates_dead_total{reason="expired"}'] == 1
    assert shown['updates_dead_total{reason="unreadable"}'] == 1
    assert shown['dead_letters{reason="expired"}'] == 1
