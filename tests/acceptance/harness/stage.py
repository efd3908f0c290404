"""A Redis, a sandbox and workers of one test, and what is known about them."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import redis
from tests.acceptance.harness.checker import (
    Findings,
    lost_values,
    overruns,
    stale_applications,
    wrong_attempts,
    wrong_sums,
)
from tests.acceptance.harness.deadline import until
from tests.acceptance.harness.workers import Worker
from tests.acceptance.harness.workload import Workload

from bunce_attributes import AttributeUpdates, EnqueueFailed
from bunce_attributes.embedded_redis import EmbeddedRedis
from bunce_attributes.outbox.outbox import Outbox
from bunce_attributes.sandbox import SandboxProcess
from bunce_attributes.settings import load_settings

QUICK = {
    "BUNCE_BATCH_MAX_WAIT_SECONDS": "0.1",
    "BUNCE_RETRY_BASE_SECONDS": "0.1",
    "BUNCE_RETRY_MAX_SECONDS": "0.3",
    "BUNCE_REQUEST_TIMEOUT_SECONDS": "1",
    "BUNCE_UNKNOWN_HOLD_SECONDS": "1",
    "BUNCE_REQUESTS_PER_MINUTE": "100000",
    # Tests refuse most rows of their one attribute on purpose.
    "BUNCE_BRAKE_MIN_ROWS": "1000000",
    "BUNCE_LOG_LEVEL": "INFO",
    "BUNCE_LOG_FORMAT": "json",
}
"""Settings that make waiting short; no rule depends on their size."""


class Stage:
    """Everything of one test; the end of the ``with`` block ends it all.

    Args:
        settings: environment variables over :data:`QUICK`.
        sandbox: options of the sandbox' command line.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settings: Mapping[str, str] | None = None,
        sandbox: tuple[str, ...] = (),
        redis_config: Mapping[str, str | int] | None = None,
        appendfsync: Literal["always", "everysec", "no"] = "always",
    ) -> None:
        self.folder = folder
        self.server = EmbeddedRedis(folder / "redis", appendfsync=appendfsync, config=redis_config)
        self._sandbox_options = sandbox if "--requests-per-minute" in sandbox else ("--no-limit", *sandbox)
        self._settings = {**QUICK, **(settings or {})}
        self.workers: list[Worker] = []
        self.work = Workload()
        self.failure = ""

    def __enter__(self) -> Self:
        self.server.start()
        try:
            self.sandbox = SandboxProcess(*self._sandbox_options)
        except BaseException:
            self.server.close()
            raise
        self.url = self.server.url
        self.client = self.server.client(socket_timeout=10)
        self.settings = load_settings(**self._as_fields())
        self.outbox = Outbox(self.client, self.settings)
        self.updates = AttributeUpdates(self.url, namespace=self.outbox.namespace)
        self.unstamped = AttributeUpdates(self.url, namespace=self.outbox.namespace, stamp=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.kill()
        del kind, error, trace
        self.updates.close()
        self.unstamped.close()
        self.client.close()
        self.sandbox.close()
        self.server.close()

    def _as_fields(self) -> dict[str, Any]:
        return {
            "redis_url": self.url,
            "api_url": self.sandbox.url,
            **{name.removeprefix("BUNCE_").lower(): value for name, value in self._settings.items()},
        }

    def tell(self) -> None:
        """Print what a failed test needs: pytest shows it beneath the failure."""
        try:
            print("status:", json.dumps(self.status()))
        except redis.RedisError as gone:
            print("status:", gone)
        for worker in self.workers:
            print(f"--- {worker.name} ({worker.process.returncode})\n{worker.text()[-3000:]}")

    # -- workers -----------------------------------------------------------------------------------------------

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of a worker: nothing of ours but these settings."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        return {
            **kept,
            "REDIS_URL": self.url,
            "BUNCE_API_URL": self.sandbox.url,
            "BUNCE_API_KEY": self.sandbox.key,
            **self._settings,
            **more,
        }

    def start(self, *, pool: str = "threads", concurrency: int | None = None, **environment: str) -> Worker:
        """A worker that is starting; ``ready()`` waits for it."""
        options = ["--pool", pool] + ([] if concurrency is None else ["--concurrency", str(concurrency)])
        worker = Worker(self.folder, f"w{len(self.workers)}", self.environment(**environment), *options)
        self.workers.append(worker)
        return worker

    def start_ready(self, count: int = 1, **options: Any) -> list[Worker]:
        """Workers that consume."""
        started = [self.start(**options) for _ in range(count)]
        return [worker.ready() for worker in started]

    @property
    def living(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.alive]

    # -- rows ----------------------------------------------------------------------------------------------------

    def enqueue(
        self, customers: list[str], *, stamp: bool = True, chunk_rows: int = 250, bulk: int = 0, lane: str = "live"
    ) -> bool:
        """New values for these customers; whether Redis took them all.

        Args:
            bulk: bytes of customer details that each row brings along.
        """
        rows = self.work.rows(customers)
        details = {"first_name": "x" * bulk}
        full = [{**row, "customer": {"customer_id": row["customer_id"], **details}} if bulk else row for row in rows]
        producer = self.updates if stamp else self.unstamped
        try:
            producer.enqueue_many(full, chunk_rows=chunk_rows, lane=lane)
        except EnqueueFailed as failed:
            self.failure = str(failed)
            taken, unknown = failed.queued.rows, failed.unknown_rows
            self.work.took(rows[:taken])
            self.work.may_have_taken(rows[taken : taken + unknown])
            return False
        self.work.took(rows)
        return True

    # -- what is known -------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        return self.outbox.status()

    def drained(self) -> bool:
        """Whether every row that Redis took has been received, and none waits."""
        try:
            status = self.status()
        except (redis.ConnectionError, redis.TimeoutError):
            return False
        received = status["counts"].get("received", 0)
        return bool(received >= self.work.surely_taken and status["waiting"] == 0 and status["queued_messages"] == 0)

    def drain(self, *, seconds: float) -> float:
        """Wait until nothing waits; the seconds that it took."""
        started = time.monotonic()
        until("drained", self.drained, seconds=seconds, every=0.1, explain=lambda: json.dumps(self.status()))
        return time.monotonic() - started

    def letters(self) -> list[dict[str, Any]]:
        """The dead letters."""
        return [json.loads(text) for text in self.client.hvals(f"{self.outbox.namespace}:dead")]

    def dead(self) -> dict[str, int]:
        """Customer → newest value among the dead letters."""
        newest: dict[str, int] = {}
        for letter in self.letters():
            row = letter.get("row")
            if isinstance(row, dict):
                customer = row["customer_id"]
                newest[customer] = max(newest.get(customer, 0), int(row["value"]))
        return newest

    def findings(self) -> Findings:
        """Everything that is wrong, once all is drained."""
        calls = self.sandbox.calls()
        return Findings(
            lost=lost_values(self.work.keys, self.sandbox.values(), self.dead()),
            stale=stale_applications(self.sandbox.sends()),
            overrun=overruns(calls, per_minute=self.settings.requests_per_minute),
            attempts=wrong_attempts(
                calls,
                self.letters(),
                max_attempts=self.settings.max_attempts,
                hold_seconds=self.settings.unknown_hold_seconds,
            ),
            sums=wrong_sums(
                self.status(),
                at_least=self.work.surely_taken,
                at_most=self.work.surely_taken + self.work.unknown,
            ),
        )

    def call_statuses(self) -> Counter[str]:
        """How many requests were answered with which status."""
        return Counter(self.sandbox.stats()["requests"])
