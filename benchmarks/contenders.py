"""The contenders: how each is filled, started and known to be done."""

from __future__ import annotations

import json
import subprocess
import sys
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any
from uuid import uuid4

from benchmarks.figures import Run
from benchmarks.rows import KEY, ROWS_A_CALL, rows
from benchmarks.stage import ROOT, BenchmarkFailed, Stage, values_of
from bunce_attributes import AttributeUpdates

QUEUE = "benchmark"
SERVICE_QUEUE = "bunce-attributes"


class Contender(ABC):
    """One way to bring rows from a queue to the API."""

    name: str

    def drain(self, stage: Stage, *, count: int, rows_a_message: int, workers: int) -> Run:
        """Deliver `count` rows that wait in the queue when the workers start.

        The clock starts when the first message leaves the queue, so that nobody's start counts.
        """
        self.fill(stage, count, rows_a_message)
        full = self.queued(stage)
        self.start(stage, workers)
        began = stage.wait_for(f"{self.name} begins", lambda: self.queued(stage) < full)
        cpu, redis_cpu = stage.cpu_seconds(), stage.redis_cpu_seconds()
        ended = stage.wait_for(f"{self.name} delivers all rows", lambda: self.delivered(stage, count))
        cpu, redis_cpu = stage.cpu_seconds() - cpu, stage.redis_cpu_seconds() - redis_cpu
        return self.checked(stage, workers, count, ended - began, cpu, redis_cpu)

    def checked(self, stage: Stage, workers: int, count: int, seconds: float, cpu: float, redis_cpu: float) -> Run:
        """The run, if the sandbox got every row."""
        stats = stage.sandbox.stats()
        if stats["rows_received"] < count:
            raise BenchmarkFailed(f"{self.name} delivered {stats['rows_received']} of {count} rows\n{stage.logs()}")
        return Run(self.name, workers, count, seconds, cpu, redis_cpu, sum(stats["rows_per_call"].values()))

    @abstractmethod
    def fill(self, stage: Stage, count: int, rows_a_message: int) -> None:
        """Put so many rows into the queue."""

    @abstractmethod
    def start(self, stage: Stage, workers: int) -> None:
        """Start so many workers."""

    @abstractmethod
    def queued(self, stage: Stage) -> int:
        """How many messages nobody has taken yet."""

    @abstractmethod
    def delivered(self, stage: Stage, count: int) -> bool:
        """Whether `count` rows are through."""


class Bare(Contender):
    """A loop over httpx with prebuilt bodies: no queue, no check, one connection. Nothing can be faster."""

    name = "bare httpx loop"

    def drain(self, stage: Stage, *, count: int, rows_a_message: int, workers: int) -> Run:  # noqa: ARG002 - no queue
        command = [sys.executable, "-m", "benchmarks.bare", str(count)]
        done = subprocess.run(
            command,
            check=True,
            capture_output=True,
            cwd=ROOT,
            env={"BUNCE_API_URL": stage.sandbox.url, "BUNCE_API_KEY": KEY, "PYTHONPATH": str(ROOT)},
        )
        told = json.loads(done.stdout)
        return self.checked(stage, 1, count, told["seconds"], told["cpu_seconds"], 0.0)

    def fill(self, stage: Stage, count: int, rows_a_message: int) -> None: ...

    def start(self, stage: Stage, workers: int) -> None: ...

    def queued(self, stage: Stage) -> int:  # noqa: ARG002 - there is none
        return 0

    def delivered(self, stage: Stage, count: int) -> bool:  # noqa: ARG002 - known when the process ends
        return True


class _Celery(Contender):
    """A Celery application of `benchmarks/`, with Celery's own defaults for pool and concurrency."""

    module: str

    def message(self, payload: Any) -> bytes:
        """A message as Celery writes it, for a quick fill."""
        task_id = str(uuid4())
        body = json.dumps([[payload], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
        return json.dumps(
            {
                "body": b64encode(body.encode()).decode(),
                "content-encoding": "utf-8",
                "content-type": "application/json",
                "headers": {
                    **{"lang": "py", "task": f"benchmarks.{self.module}.update", "id": task_id, "root_id": task_id},
                    **{"parent_id": None, "group": None, "eta": None, "expires": None, "retries": 0},
                    **{"timelimit": [None, None], "argsrepr": "-", "kwargsrepr": "-", "ignore_result": True},
                },
                "properties": {
                    **{"correlation_id": task_id, "delivery_mode": 2, "priority": 0, "body_encoding": "base64"},
                    **{"delivery_info": {"exchange": "", "routing_key": QUEUE}, "delivery_tag": str(uuid4())},
                },
            }
        ).encode()

    @abstractmethod
    def payloads(self, count: int) -> Iterator[Any]:
        """The argument of each message."""

    def fill(self, stage: Stage, count: int, rows_a_message: int) -> None:  # noqa: ARG002 - its own number of rows
        messages = map(self.message, self.payloads(count))
        while chunk := list(islice(messages, 500)):
            stage.client.lpush(QUEUE, *chunk)

    def start(self, stage: Stage, workers: int) -> None:
        for number in range(workers):
            stage.start(
                [
                    *("-m", "celery", "-A", f"benchmarks.{self.module}", "worker", "--loglevel=WARNING"),
                    *("--hostname", f"w{number}@%h"),
                ]
            )

    def queued(self, stage: Stage) -> int:
        return int(stage.client.llen(QUEUE))

    def delivered(self, stage: Stage, count: int) -> bool:  # noqa: ARG002 - nothing is left in the queue
        pipeline = stage.client.pipeline()
        pipeline.llen(QUEUE)
        pipeline.hlen("unacked")
        return not any(pipeline.execute())


class CeleryBatches(_Celery):
    name = "celery-batches 0.11"
    module = "celery_batches_app"

    def payloads(self, count: int) -> Iterator[Any]:
        return rows(count)


class PlainSingle(_Celery):
    name = "plain Celery, one row a call"
    module = "plain_celery_app"

    def payloads(self, count: int) -> Iterator[Any]:
        return ([row] for row in rows(count))


class PlainHundred(_Celery):
    name = "plain Celery, 100 rows a message and call"
    module = "plain_celery_app"

    def payloads(self, count: int) -> Iterator[Any]:
        waiting = rows(count)
        return iter(lambda: list(islice(waiting, ROWS_A_CALL)), [])


class Service(Contender):
    """This service, as `bunce-attributes worker` runs by default."""

    name = "bunce-attributes"

    def fill(self, stage: Stage, count: int, rows_a_message: int) -> None:
        with AttributeUpdates(stage.redis_url) as updates:
            updates.enqueue_many(rows(count), chunk_rows=rows_a_message)

    def start(self, stage: Stage, workers: int) -> None:
        for number in range(workers):
            command = "from bunce_attributes.cli import main; main()"
            stage.start(["-c", command, "worker", "--name", f"w{number}@%h"])

    def queued(self, stage: Stage) -> int:
        return int(stage.client.llen(SERVICE_QUEUE))

    def delivered(self, stage: Stage, count: int) -> bool:
        return self.saved(stage) >= count

    def saved(self, stage: Stage) -> int:
        """Rows delivered so far."""
        return int(stage.client.hget(f"{SERVICE_QUEUE}:counts", "saved") or 0)

    def counts(self, stage: Stage) -> dict[str, int]:
        """The service's own counters."""
        return values_of(f"{SERVICE_QUEUE}:counts", stage.client)

    def wait_until_up(self, stage: Stage, workers: int) -> None:
        """Wait until so many workers tell that they live."""
        key = f"{SERVICE_QUEUE}:workers"
        stage.wait_for(f"{workers} workers are up", lambda: stage.client.hlen(key) >= workers, 120)


DRAINERS: Sequence[Contender] = (Bare(), CeleryBatches(), PlainSingle(), PlainHundred(), Service())
