"""The figures that `status` shows: read in one step, so that they add up, and what follows from two readings."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from bunce_attributes.dead_letters.letters import iso_from_ms
from bunce_attributes.outbox.keys import workers_key
from bunce_attributes.outbox.outbox import Outbox
from bunce_attributes.worker.heartbeat import FORGOTTEN_AFTER_SECONDS

OPERATOR = "operator"
_OPERATORS_WORDS = "paused by an operator"
RATES_OVER_SECONDS = 60.0
"""Rates are a mean over so long: shorter ones jump with every call."""
SHORTEST_BASIS_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether calls may be made. ``state`` is ``open`` or ``paused``.

    ``reason``: ``rate_limited``, ``outage``, ``misconfigured``, ``unreadable``, ``operator``; empty if open.
    ``seconds_left`` until a call is tried, None if only an operator ends the pause. ``detail`` is what the API said.
    """

    state: str
    reason: str
    seconds_left: float | None
    since: str | None
    detail: str
    permits_used: int

    @property
    def is_open(self) -> bool:
        """Whether it is."""
        return self.state == "open"


@dataclass(frozen=True, slots=True)
class PausedAttribute:
    """One attribute whose rows are held back: by the brake, because most were refused, or by an operator.

    ``answer`` is what the API said about one of them; empty if none was refused.
    """

    attribute: str
    by: str
    since: str
    waiting: int
    refused: int
    saved: int
    answer: str


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """One worker's last sign of life, as long ago as ``age_seconds``; ``settings`` without secrets.

    The age is between the worker's clock and Redis': negative if the worker's is ahead.
    """

    name: str
    age_seconds: float
    version: str
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The namespace at one moment.

    ``received`` = ``saved`` + ``superseded`` + ``dead`` + ``purged`` + ``waiting`` (rows), and ``waiting`` =
    ``due`` + ``leased`` + ``retrying`` + ``braked``. ``retrying`` are rows that wait for a moment (after a refusal, a
    failed call, or the save of their key's older value); where a split made more than a thousand groups of them, it
    is an estimate, and ``due`` with it. ``calls`` were made since the namespace exists.
    """

    at_ms: int
    received: int
    saved: int
    superseded: int
    dead: int
    purged: int
    waiting: int
    due: int
    leased: int
    retrying: int
    braked: int
    ready_live: int
    ready_bulk: int
    queued_messages: int
    scheduled_messages: int
    messages: int
    calls: int
    calls_running: int
    oldest_waiting_seconds: float | None
    dead_by_reason: dict[str, int]
    gate: Gate
    paused_attributes: tuple[PausedAttribute, ...]
    intake_waits_because: str
    workers: tuple[WorkerSeen, ...]

    def as_json(self) -> dict[str, Any]:
        """For programs: the fields by their names; workers by name, without their settings."""
        fields = asdict(self)
        fields["at"] = iso_from_ms(fields.pop("at_ms"))
        fields["workers"] = [{"name": one.name, "age_seconds": round(one.age_seconds, 1)} for one in self.workers]
        return fields


def read_snapshot(outbox: Outbox) -> Snapshot:
    """The figures now.

    Raises:
        redis.exceptions.RedisError: Redis is out of reach.
    """
    status = outbox.status()
    return snapshot_of(status, read_workers(outbox, int(status["now_ms"])))


def read_workers(outbox: Outbox, now_ms: int) -> tuple[WorkerSeen, ...]:
    """The workers that gave a sign of life lately, by name."""
    seen = []
    stored: dict[bytes, bytes] = outbox.client.hgetall(workers_key(outbox.namespace))  # type: ignore[assignment]  # redis-py's stubs join its synchronous and asynchronous clients
    for name, text in stored.items():
        told = json.loads(text)
        age = now_ms / 1000 - float(told.get("at", 0))
        if age < FORGOTTEN_AFTER_SECONDS:
            seen.append(WorkerSeen(name.decode(), age, str(told.get("version", "")), dict(told.get("settings", {}))))
    return tuple(sorted(seen, key=lambda one: one.name))


def snapshot_of(status: dict[str, Any], workers: tuple[WorkerSeen, ...] = ()) -> Snapshot:
    """What the script told (``Outbox.status``) in the words of this module. Pure."""
    # cjson writes an empty table as an object or a list, as it likes.
    counts: dict[str, float] = status["counts"] or {}

    def counted(name: str) -> int:
        return int(counts.get(name, 0))

    waiting, leased = int(status["waiting"]), int(status["leased"])
    braked = min(int(status["braked"]), waiting - leased)
    retrying = min(int(status["later"]) + int(status["group_rows"]), waiting - leased - braked)
    oldest = int(status["oldest_waiting_ms"])
    return Snapshot(
        at_ms=int(status["now_ms"]),
        received=counted("received"),
        saved=counted("saved"),
        superseded=counted("superseded"),
        dead=int(status["dead"]),
        purged=counted("purged"),
        waiting=waiting,
        due=waiting - leased - braked - retrying,
        leased=leased,
        retrying=retrying,
        braked=braked,
        ready_live=int(status["ready_live"]),
        ready_bulk=int(status["ready_bulk"]),
        queued_messages=int(status["queued_messages"]),
        scheduled_messages=int(status["scheduled_messages"]),
        messages=counted("messages"),
        calls=counted("calls"),
        calls_running=int(status["calls_running"]),
        oldest_waiting_seconds=None if oldest < 0 else oldest / 1000,
        dead_by_reason={name: int(n) for name, n in sorted((status["dead_by_reason"] or {}).items())},
        gate=_gate(status["gate"]),
        paused_attributes=tuple(
            _paused(brake) for brake in sorted(status["brakes"] or (), key=lambda one: str(one["attribute"]))
        ),
        intake_waits_because=str(status["intake_waits_because"]),
        workers=workers,
    )


def _paused(brake: dict[str, Any]) -> PausedAttribute:
    attempts = json.loads(brake.get("attempts", "[]"))
    return PausedAttribute(
        attribute=brake["attribute"],
        by=brake["by"],
        since=iso_from_ms(int(brake["since_ms"])),
        waiting=int(brake["waiting"]),
        refused=int(brake["refused"]),
        saved=int(brake["saved"]),
        answer=str(attempts[-1].get("message", "")) if attempts else "",
    )


def _gate(gate: dict[str, Any]) -> Gate:
    permits = int(gate["permits_used"])
    if gate["state"] == "open":
        return Gate("open", "", 0.0, None, "", permits)
    reason = OPERATOR if gate["reason"] == _OPERATORS_WORDS else str(gate["reason"])
    since, wait_ms = int(gate["since_ms"]), float(gate["wait_ms"])
    return Gate(
        "paused",
        reason,
        None if wait_ms < 0 else round(wait_ms / 1000, 3),
        iso_from_ms(since) if since > 0 and reason != "rate_limited" else None,
        str(gate["detail"]) if reason not in {OPERATOR, "rate_limited"} else "",
        permits,
    )


@dataclass(frozen=True, slots=True)
class Rates:
    """Rows a second, calls a minute, and seconds until nothing waits at this rate (None: not at this rate)."""

    saved: float
    received: float
    calls_a_minute: float
    empty_in_seconds: float | None


class Pace:
    """Rates from the snapshots of the last minute."""

    def __init__(self) -> None:
        self._snapshots: deque[Snapshot] = deque()

    def note(self, now: Snapshot) -> Rates | None:
        """Take a snapshot into account; None until two are far enough apart."""
        self._snapshots.append(now)
        while now.at_ms - self._snapshots[0].at_ms > RATES_OVER_SECONDS * 1000:
            self._snapshots.popleft()
        first = self._snapshots[0]
        seconds = (now.at_ms - first.at_ms) / 1000
        if seconds < SHORTEST_BASIS_SECONDS:
            return None
        falls_by = (rows_to_do(first) - rows_to_do(now)) / seconds
        left = rows_to_do(now)
        return Rates(
            saved=(now.saved - first.saved) / seconds,
            received=(now.received - first.received) / seconds,
            calls_a_minute=(now.calls - first.calls) / seconds * 60,
            empty_in_seconds=0.0 if not left else left / falls_by if falls_by > 0 else None,
        )


def rows_to_do(snapshot: Snapshot) -> float:
    """Rows that wait, those of the queue estimated by the mean size of the messages so far; none of paused attributes
    and none that are for later."""
    rows_a_message = snapshot.received / snapshot.messages if snapshot.messages else 1.0
    queued = snapshot.queued_messages - snapshot.scheduled_messages
    return snapshot.waiting - snapshot.braked + queued * rows_a_message
