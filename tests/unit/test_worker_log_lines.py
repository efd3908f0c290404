"""Lines of the worker that would otherwise come each second."""

from __future__ import annotations

import pytest

from bunce_attributes.worker import logs


class Recorder:
    def __init__(self) -> None:
        self.told: list[str] = []

    def info(self, _: str, *, why: str) -> None:
        self.told.append(why)


def test_why_the_queue_waits_is_told_once_a_minute_for_each_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder, now = Recorder(), [1000.0]
    monkeypatch.setattr(logs, "logger", recorder)
    log = logs.OnceAMinute(clock=lambda: now[0])
    for why in ("another worker reads", "Redis uses 86 %", "Redis uses 87 %", "", "another worker reads"):
        log.line(why)
    assert recorder.told == ["another worker reads", "Redis uses 86 %"]
    now[0] += 60
    log.line("Redis uses 88 %")
    assert recorder.told[2:] == ["Redis uses 88 %"]
