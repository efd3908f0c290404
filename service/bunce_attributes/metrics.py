"""The metrics: a closed list of names, and how each is read from the figures in Redis. Pure.

Everything is counted in Redis by the scripts, in the step that makes it true. So one exporter speaks for all workers,
and neither its restart nor theirs loses a count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family

from bunce_attributes.decisions import DeadReason
from bunce_attributes.delivery import DURATION_BUCKETS_MS, ROWS_BUCKETS, RejectedReason
from bunce_attributes.status import OPERATOR, Gate, Snapshot
from bunce_attributes.version import __version__

PREFIX = "bunce_attributes_"
LATENCY_BUCKETS_MS = (1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000, 900_000, 3_600_000, 14_400_000, 86_400_000)
DEAD_REASONS = (*(reason.value for reason in DeadReason), "invalid", "unreadable", "expired")
PAUSE_REASONS = ("rate_limited", "outage", "misconfigured", "unreadable")
NO_ANSWER = "none"


class Kind(StrEnum):
    """Prometheus' types of metrics."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name without the prefix (of counters: without ``_total``), and what it tells."""

    name: str
    kind: Kind
    help: str
    label: str = ""
    values: Sequence[str] = ()
    """Values of the label that are shown from the start, so that a rate sees the first event too."""

    @property
    def exposed_name(self) -> str:
        """The name as Prometheus stores it; a histogram has ``_bucket``, ``_sum`` and ``_count`` behind it."""
        return PREFIX + self.name + ("_total" if self.kind is Kind.COUNTER else "")


def _counter(name: str, text: str, label: str = "", values: Sequence[str] = ()) -> Metric:
    return Metric(name, Kind.COUNTER, text, label, values)


def _gauge(name: str, text: str, label: str = "", values: Sequence[str] = ()) -> Metric:
    return Metric(name, Kind.GAUGE, text, label, values)


UP = _gauge("redis_up", "1 if Redis could be read for this scrape; if 0, no other figure is shown.")
BUILD_INFO = _gauge("build_info", "1; the labels tell the release of the exporter and the namespace it reads.")
ALIVE_SECONDS = 30.0
"""Workers tell that they live every 10 s."""
WORKERS = _gauge("workers", "Workers that gave a sign of life in the last 30 s.")

_COUNTERS = {
    "messages": _counter("messages", "Messages of the producers' queue that were taken in."),
    "received": _counter("updates_received", "Rows taken in; a message that cannot be read counts as one."),
    "saved": _counter("updates_saved", "Updates that the API saved."),
    "superseded": _counter("updates_superseded", "Updates that gave way to a newer value of the same key."),
    "purged": _counter("updates_purged", "Dead letters that were purged or replayed."),
    "retried": _counter("updates_retried", "Refused rows that were put back to be sent again."),
    "rejected": _counter(
        "updates_rejected",
        "Refusals of single rows by the API, each an attempt, by what the API answered.",
        "reason",
        tuple(RejectedReason),
    ),
    "dead": _counter("updates_dead", "Updates given up on, by the reason.", "reason", DEAD_REASONS),
    "calls": _counter("calls", "Calls that were settled, by HTTP status; none if there was no answer.", "status"),
    "calls_lost": _counter("calls_lost", "Calls whose worker died or came too late; their rows are sent again."),
    "pauses": _counter("gate_pauses", "Pauses of the gate, by the reason.", "reason", PAUSE_REASONS),
    "brakes": _counter("attribute_brakes", "Attributes that were paused because most of their rows were refused."),
}
"""By the field in Redis, or what stands before its colon."""

PAUSED_SECONDS = _counter(
    "gate_paused_seconds",
    "Time in which no call could be made, by the reason; one that is still going on is included.",
    "reason",
    PAUSE_REASONS,
)

CALL_SECONDS = Metric("call_duration_seconds", Kind.HISTOGRAM, "Duration of a call, from connecting to the last byte.")
CALL_ROWS = Metric("call_rows", Kind.HISTOGRAM, "Rows in a call.")
LATENCY_SECONDS = Metric(
    "update_latency_seconds",
    Kind.HISTOGRAM,
    "From enqueueing (by our client; else from intake) to saved. A value that replaced one keeps its waiting-since.",
)


@dataclass(frozen=True, slots=True)
class _Histogram:
    metric: Metric
    limits: Sequence[int]
    """In the unit of the field."""
    sum_field: str
    scale: float
    """From the unit of the field to that of the metric."""


_HISTOGRAMS = {
    "call_ms": _Histogram(CALL_SECONDS, DURATION_BUCKETS_MS, "call_ms", 0.001),
    "call_rows": _Histogram(CALL_ROWS, ROWS_BUCKETS, "call_rows", 1),
    "latency_ms": _Histogram(LATENCY_SECONDS, LATENCY_BUCKETS_MS, "latency_ms:sum", 0.001),
}

_GAUGES = {
    "queued_messages": _gauge("queued_messages", "Messages in the producers' queue, those for later included."),
    "scheduled_messages": _gauge("scheduled_messages", "Messages whose eta has not come yet."),
    "waiting": _gauge("updates_waiting", "Updates in the outbox: due, leased, retrying and braked."),
    "due": _gauge("updates_due", "Updates that wait for nothing but their call."),
    "leased": _gauge("updates_leased", "Updates that are in a call now."),
    "retrying": _gauge("updates_retrying", "Updates that wait for a moment, after a refusal or a failed call."),
    "braked": _gauge("updates_braked", "Updates of paused attributes."),
    "calls_running": _gauge("calls_running", "Calls that are being made now."),
}
"""By the field of the snapshot."""

OLDEST = _gauge("oldest_waiting_seconds", "Age of the oldest update that waits for a call; 0 if none does.")
DEAD_LETTERS = _gauge("dead_letters", "Dead letters that are kept, by the reason.", "reason", DEAD_REASONS)
PAUSED_ATTRIBUTES = _gauge("attributes_paused", "Attributes whose updates are held back.")
GATE_OPEN = _gauge("gate_open", "1 if calls may be made.")
GATE_PAUSED = _gauge("gate_paused", "1 for the reason why no call may be made.", "reason", (*PAUSE_REASONS, OPERATOR))
GATE_REMAINING = _gauge("gate_pause_remaining_seconds", "Until a call may be tried; 0 if open, or by an operator.")
LIMITER_USED = _gauge("limiter_used_requests", "Requests of the last 60 s, of all namespaces that share the limit.")
LIMITER_LIMIT = _gauge("limiter_limit_requests", "Requests allowed in 60 s (BUNCE_REQUESTS_PER_MINUTE).")
INTAKE_WAITING = _gauge("intake_waiting", "1 if nothing is taken in because Redis is nearly full.")
MEMORY_USED = _gauge("redis_memory_used_bytes", "Memory that Redis uses, whoever filled it.")
MEMORY_LIMIT = _gauge("redis_memory_limit_bytes", "Redis' maxmemory; 0 if there is none.")
MEMORY_EVICTS = _gauge("redis_evicts", "1 if Redis may throw keys away when it is full: its policy is not noeviction.")

_INDIRECT = {"paused_ms": PAUSED_SECONDS, "dead_left": DEAD_LETTERS}

METRICS: tuple[Metric, ...] = (
    UP,
    BUILD_INFO,
    WORKERS,
    *_COUNTERS.values(),
    PAUSED_SECONDS,
    *(histogram.metric for histogram in _HISTOGRAMS.values()),
    *_GAUGES.values(),
    OLDEST,
    DEAD_LETTERS,
    PAUSED_ATTRIBUTES,
    GATE_OPEN,
    GATE_PAUSED,
    GATE_REMAINING,
    LIMITER_USED,
    LIMITER_LIMIT,
    INTAKE_WAITING,
    MEMORY_USED,
    MEMORY_LIMIT,
    MEMORY_EVICTS,
)
"""All there are; docs/monitoring.md describes them."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one scrape read.

    Args:
        snapshot: what ``bunce-attributes status`` shows too.
        status: as ``Outbox.status`` gives it; the snapshot was made of it.
        memory: as ``INFO memory`` gives it.
        requests_per_minute: the limit that is set.
    """

    snapshot: Snapshot
    status: Mapping[str, Any]
    memory: Mapping[str, Any]
    requests_per_minute: int


def metric_of(field: str) -> Metric | None:
    """The metric that shows a field of the counters; None if no metric does."""
    name = field.partition(":")[0]
    if name in _INDIRECT:
        return _INDIRECT[name]
    return _HISTOGRAMS[name].metric if name in _HISTOGRAMS else _COUNTERS.get(name)


def families(figures: Figures | None, namespace: str) -> Iterator[Family]:
    """The metrics of one scrape; ``figures`` is None if Redis could not be read."""
    info = GaugeMetricFamily(PREFIX + BUILD_INFO.name, BUILD_INFO.help, labels=["version", "namespace"])
    info.add_metric([__version__, namespace], 1)
    yield info
    yield _value(UP, figures is not None)
    if figures is None:
        return
    snapshot = figures.snapshot
    # cjson writes an empty table as a list.
    counts: Mapping[str, float] = figures.status["counts"] or {}
    for name, metric in _COUNTERS.items():
        yield _counted(metric, name, counts)
    yield _paused_seconds(counts, figures.status)
    for name, histogram in _HISTOGRAMS.items():
        yield _histogram(name, histogram, counts)
    for name, metric in _GAUGES.items():
        yield _value(metric, getattr(snapshot, name))
    yield _value(WORKERS, sum(worker.age_seconds < ALIVE_SECONDS for worker in snapshot.workers))
    yield _value(OLDEST, snapshot.oldest_waiting_seconds or 0)
    yield _labelled_gauge(DEAD_LETTERS, snapshot.dead_by_reason)
    yield _value(PAUSED_ATTRIBUTES, len(snapshot.paused_attributes))
    yield from _gate(snapshot.gate)
    yield _value(LIMITER_USED, snapshot.gate.permits_used)
    yield _value(LIMITER_LIMIT, figures.requests_per_minute)
    yield _value(INTAKE_WAITING, bool(snapshot.intake_waits_because))
    yield _value(MEMORY_USED, figures.memory.get("used_memory", 0))
    yield _value(MEMORY_LIMIT, figures.memory.get("maxmemory", 0))
    yield _value(MEMORY_EVICTS, figures.memory.get("maxmemory_policy", "noeviction") != "noeviction")


def _value(metric: Metric, value: float) -> Family:
    return GaugeMetricFamily(PREFIX + metric.name, metric.help, value=float(value))


def _labelled_gauge(metric: Metric, found: Mapping[str, float]) -> Family:
    family = GaugeMetricFamily(PREFIX + metric.name, metric.help, labels=[metric.label])
    for value in sorted({*metric.values, *found}):
        family.add_metric([value], found.get(value, 0))
    return family


def _counted(metric: Metric, name: str, counts: Mapping[str, float]) -> Family:
    if not metric.label:
        return CounterMetricFamily(PREFIX + metric.name, metric.help, value=counts.get(name, 0))
    found = {field.partition(":")[2]: n for field, n in counts.items() if field.startswith(f"{name}:")}
    family = CounterMetricFamily(PREFIX + metric.name, metric.help, labels=[metric.label])
    for value in sorted({*metric.values, *found}):
        shown = NO_ANSWER if metric.label == "status" and value == "0" else value
        family.add_metric([shown], found.get(value, 0))
    return family


def _paused_seconds(counts: Mapping[str, float], status: Mapping[str, Any]) -> Family:
    gate = status["gate"]
    family = CounterMetricFamily(PREFIX + PAUSED_SECONDS.name, PAUSED_SECONDS.help, labels=[PAUSED_SECONDS.label])
    for reason in PAUSE_REASONS:
        ms = counts.get(f"paused_ms:{reason}", 0)
        # A pause after a 429 is counted whole when it begins, every other one when it ends.
        if reason == gate["paused_for"]:
            ms += max(0, status["now_ms"] - gate["paused_since_ms"])
        family.add_metric([reason], ms / 1000)
    return family


def _gate(gate: Gate) -> Iterator[Family]:
    yield _value(GATE_OPEN, gate.is_open)
    yield _labelled_gauge(GATE_PAUSED, {gate.reason: 1} if gate.reason else {})
    yield _value(GATE_REMAINING, gate.seconds_left or 0)


def _histogram(name: str, histogram: _Histogram, counts: Mapping[str, float]) -> Family:
    buckets: list[tuple[str, float]] = []
    so_far = 0.0
    for limit in histogram.limits:
        so_far += counts.get(f"{name}:{limit}", 0)
        buckets.append((str(float(limit * histogram.scale)), so_far))
    buckets.append(("+Inf", so_far + counts.get(f"{name}:inf", 0)))
    total = counts.get(histogram.sum_field, 0) * histogram.scale
    return HistogramMetricFamily(
        PREFIX + histogram.metric.name, histogram.metric.help, buckets=buckets, sum_value=total
    )
