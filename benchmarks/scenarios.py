"""What is measured. Each scenario returns plain figures, which `report.py` turns into text."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import psutil
from celery import Celery

from benchmarks.contenders import (
    SERVICE_QUEUE,
    Bare,
    CeleryBatches,
    Contender,
    PlainHundred,
    PlainSingle,
    Service,
)
from benchmarks.figures import Run, hot_limit, percentile, ratio, summary
from benchmarks.rows import KEY, row, rows
from benchmarks.stage import Stage, stage
from bunce_attributes import AttributeUpdates
from bunce_attributes.settings import load_settings
from bunce_attributes.worker.runtime import Runtime

Figures = dict[str, Any]
WAIT_SECONDS = 1.0
"""BUNCE_BATCH_MAX_WAIT_SECONDS, as it is by default."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything: `rows` of a drain, `slow_rows` for those who make a call or a message of each row."""

    rounds: int
    rows: int
    slow_rows: int
    singles: int
    trickle_seconds: float
    hot_rows: int
    producer_rows: int
    memory: tuple[int, ...]
    workers: tuple[int, ...] = (1, 2, 4)
    trickle_workers: tuple[int, ...] = (1, 2, 4, 8)


FULL = Size(3, 100_000, 20_000, 20_000, 20.0, 100_000, 200_000, (10_000, 100_000, 1_000_000))
QUICK = Size(1, 20_000, 4_000, 4_000, 6.0, 10_000, 20_000, (10_000, 50_000), (1, 2), (1, 4))


def alternate(
    contenders: Sequence[tuple[Contender, int, int, int]], rounds: int, say: Callable[[str], None]
) -> Figures:
    """Run each (contender, rows, rows a message, workers) once a round; medians, and ratios within rounds."""
    done: list[dict[str, Run]] = []
    for number in range(rounds):
        runs: dict[str, Run] = {}
        for contender, count, rows_a_message, workers in contenders:
            with stage() as here:
                run = contender.drain(here, count=count, rows_a_message=rows_a_message, workers=workers)
            label = _label(contender, workers)
            runs[label] = run
            say(f"round {number + 1}: {label}: {run.rate:,.0f} rows/s, {run.rows_a_call:.0f} a call")
        done.append(runs)
    # Each is compared with as many workers of ours; who has none to choose, with our first.
    ours = {workers: _label(contender, workers) for contender, _, _, workers in contenders if _is_ours(contender)}
    first = next(iter(ours.values()))
    return {
        "summaries": {label: asdict(summary([runs[label] for runs in done])) for label in done[0]},
        "ratios": {
            _label(contender, workers): ratio(done, ours.get(workers, first), _label(contender, workers))
            for contender, _, _, workers in contenders
            if not _is_ours(contender)
        },
        "ours": first,
    }


def _is_ours(contender: Contender) -> bool:
    return isinstance(contender, Service)


def _label(contender: Contender, workers: int) -> str:
    return contender.name if isinstance(contender, Bare) else f"{contender.name} ({workers})"


def drain(size: Size, say: Callable[[str], None]) -> Figures:
    """Rows that wait in messages of 100, one worker; then ours with more workers."""
    first = alternate(
        [
            (Service(), size.rows, 100, 1),
            (CeleryBatches(), size.slow_rows, 1, 1),
            (Bare(), size.rows, 100, 1),
            (PlainSingle(), size.slow_rows // 2, 1, 1),
            (PlainHundred(), size.rows, 100, 1),
        ],
        size.rounds,
        say,
    )
    more = [
        (contender, count, 100, workers)
        for workers in size.workers[1:]
        for contender, count in ((Service(), size.rows), (CeleryBatches(), size.slow_rows))
    ]
    return {"one": first, "more": alternate(more, size.rounds, say) if more else None}


def singles(size: Size, say: Callable[[str], None]) -> Figures:
    """Rows that wait in messages of one row."""
    return alternate(
        [
            (contender, size.singles, 1, workers)
            for workers in size.workers
            for contender in (Service(), CeleryBatches())
        ],
        size.rounds,
        say,
    )


def trickle(size: Size, say: Callable[[str], None]) -> Figures:
    """40 single rows a second: calls a minute, rows a call, and how long a row takes from the enqueuing to its call."""
    found: list[Figures] = []
    for workers in size.trickle_workers:
        for contender in (Service(), CeleryBatches()):
            with stage(call_log=True) as here:
                contender.start(here, workers)
                _wait_until_up(contender, here, workers)
                cpu, redis_cpu = here.cpu_seconds(), here.redis_cpu_seconds()
                count = _send_at_rate(contender, here, 40.0, 1, size.trickle_seconds)
                here.wait_for("the trickle is delivered", lambda: _received(here) >= count, 60)  # noqa: B023 - waits in place
                cpu, redis_cpu = here.cpu_seconds() - cpu, here.redis_cpu_seconds() - redis_cpu
                calls = len(here.sandbox.calls(rows=False))
                figures = {
                    "contender": contender.name,
                    "workers": workers,
                    "calls_a_minute": calls * 60 / size.trickle_seconds,
                    "rows_a_call": count / calls,
                    "cpu_share": (cpu + redis_cpu) / size.trickle_seconds,
                    **_latency(here),
                }
            found.append(figures)
            say(f"{contender.name}, {workers} workers: {figures['calls_a_minute']:.0f} calls/min, "
                f"p50 {figures['p50']:.3f} s, p99 {figures['p99']:.3f} s")  # fmt: skip
    return {"runs": found, "seconds": size.trickle_seconds}


def latency(size: Size, say: Callable[[str], None], rate: float = 0.0) -> Figures:
    """The same at half of the drain's rate, in messages of 100, one worker.

    Args:
        rate: of the drain, rows a second; it is measured if it is not given.
    """
    service = Service()
    if not rate:
        with stage() as here:
            rate = service.drain(here, count=size.rows, rows_a_message=100, workers=1).rate
    with stage(call_log=True) as here:
        service.start(here, 1)
        service.wait_until_up(here, 1)
        _send_at_rate(service, here, 100.0, 100, 1.0)
        count = 100 + _send_at_rate(service, here, rate / 2, 100, size.trickle_seconds / 3, first=100)
        here.wait_for("all is delivered", lambda: service.saved(here) >= count, 120)
        figures = {"rate": rate / 2, "rows": count, **_latency(here)}
    say(f"at {figures['rate']:,.0f} rows/s: p50 {figures['p50']:.3f} s, p99 {figures['p99']:.3f} s")
    return figures


def hot(size: Size, say: Callable[[str], None]) -> Figures:
    """Updates of 1,000 keys, far more than one for each key and second."""
    keys = 1_000
    service = Service()
    draw = random.Random(7)
    with stage() as here:
        service.start(here, 1)
        service.wait_until_up(here, 1)
        updates = AttributeUpdates(here.redis_url)
        began = time.perf_counter()
        for _ in range(size.hot_rows // 1_000):
            updates.enqueue_many([row(draw.randrange(keys), str(time.time())) for _ in range(1_000)], chunk_rows=100)
            # 10,000 updates a second: ten for each key.
            time.sleep(max(0.0, began + (_ + 1) / 10 - time.perf_counter()))
        ended = here.wait_for("nothing waits", lambda: _all_done(service, here, size.hot_rows), 60)
        sent = here.sandbox.stats()["rows_received"]
    figures = {
        "keys": keys,
        "updates": size.hot_rows,
        "seconds": ended - began,
        "sent": sent,
        "limit": hot_limit(keys, ended - began),
    }
    say(f"{size.hot_rows:,} updates of {keys:,} keys in {ended - began:.1f} s: {sent:,} rows sent")
    return figures


def producer(size: Size, say: Callable[[str], None]) -> Figures:
    """What enqueuing costs an application."""
    found: Figures = {}
    with stage() as here:
        updates = AttributeUpdates(here.redis_url)

        @Celery("producer", broker=here.redis_url).task(name="update")  # type: ignore[untyped-decorator]  # Celery's own
        def task(given: object) -> None: ...

        few = max(200, size.producer_rows // 100)
        list_of_rows = list(rows(size.producer_rows))

        def one_by_one() -> int:
            for given in list_of_rows[:few]:
                updates.enqueue(attribute=given["id"], customer_id=given["customer_id"], value=given["value"])
            return few

        def delay() -> int:
            for given in list_of_rows[:few]:
                task.delay(given)
            return few

        def many() -> int:
            return updates.enqueue_many(list_of_rows).rows

        ways = (("enqueue_many", many), ("enqueue", one_by_one), ("task.delay of Celery", delay))
        for _ in range(size.rounds + 1):
            for name, way in ways:
                began, cpu = time.perf_counter(), time.process_time()
                count = way()
                found.setdefault(name, []).append(
                    (count / (time.perf_counter() - began), (time.process_time() - cpu) * 1e6 / count)
                )
                here.client.flushall()
    # The first round opened the connections.
    figures = {
        name: {"rate": median(rate for rate, _ in runs[1:]), "cpu_us": median(cpu for _, cpu in runs[1:])}
        for name, runs in found.items()
    }
    for name, told in figures.items():
        say(f"{name}: {told['rate']:,.0f} rows/s, {told['cpu_us']:.1f} µs of processor time a row")
    return figures


def memory(size: Size, say: Callable[[str], None]) -> Figures:
    """Bytes of Redis for each waiting update, a worker's memory, and whether a long queue slows the drain."""
    found: list[Figures] = []
    for _ in range(size.rounds):
        for count in size.memory:
            with stage() as here:
                found.append(_one_size(here, count))
            told = found[-1]
            say(f"{count:,} waiting: {told['bytes']:.0f} bytes each, {told['rate']:,.0f} rows/s, "
                f"worker {told['worker_mb']:.0f} MB")  # fmt: skip
    return {
        "sizes": [
            {"waiting": count, **{name: median(f[name] for f in found if f["waiting"] == count)
                                  for name in ("bytes", "queued_bytes", "rate", "worker_mb")}}
            for count in size.memory
        ]
    }  # fmt: skip


def _one_size(here: Stage, count: int) -> Figures:
    service = Service()
    empty = _used(here)
    service.fill(here, count, 100)
    queued = _used(here)
    settings = load_settings(redis_url=here.redis_url, api_url=here.sandbox.url, api_key=KEY)
    Runtime(settings).intake.run(600)
    full = _used(here)
    service.start(here, 1)
    # Of the first 100,000 rows the first tenth is left out: a worker that has just begun is not yet warm.
    measured = min(count, 100_000)
    began = here.wait_for("the drain has begun", lambda: service.saved(here) >= measured / 10)
    first = service.saved(here)
    ended = here.wait_for("the drain is far enough", lambda: service.saved(here) >= measured)
    last = service.saved(here)
    return {
        "waiting": count,
        "bytes": (full - empty) / count,
        "queued_bytes": (queued - empty) / count,
        "rate": (last - first) / (ended - began),
        "worker_mb": max(here.memory_bytes()) / 1e6,
    }


def _used(here: Stage) -> int:
    told: Any = here.client.info("memory")
    return int(told["used_memory"])


def _received(here: Stage) -> int:
    return here.sandbox.stats()["rows_received"]


def _all_done(service: Service, here: Stage, received: int) -> bool:
    counts = service.counts(here)
    return counts.get("received", 0) >= received and counts.get("saved", 0) + counts.get("superseded", 0) >= received


def _wait_until_up(contender: Contender, here: Stage, workers: int) -> None:
    if isinstance(contender, Service):
        contender.wait_until_up(here, workers)
        return
    control = Celery("control", broker=here.redis_url).control
    here.wait_for(f"{workers} workers are up", lambda: len(control.ping(timeout=0.5)) >= workers, 120)


def _send_at_rate(
    contender: Contender, here: Stage, rows_a_second: float, together: int, seconds: float, first: int = 0
) -> int:
    """Enqueue evenly; each value is the moment at which it was enqueued. Keys are numbered from `first`."""
    began = time.perf_counter()
    messages = max(1, round(rows_a_second * seconds / together))
    updates = AttributeUpdates(here.redis_url)
    for number in range(messages):
        time.sleep(max(0.0, began + number * together / rows_a_second - time.perf_counter()))
        now = f"{time.time():.6f}"
        chunk = [row(first + number * together + each, now) for each in range(together)]
        if isinstance(contender, CeleryBatches):
            here.client.lpush("benchmark", *map(contender.message, chunk))
        else:
            updates.enqueue_many(chunk, chunk_rows=together)
    return messages * together


def _latency(here: Stage) -> Figures:
    waits = [send["applied_at"] - float(send["value"]) for send in here.sandbox.sends()]
    return {"p50": percentile(waits, 0.5), "p99": percentile(waits, 0.99)}


def machine() -> Figures:
    """The machine in words that name none: what somebody needs to judge the figures."""
    cores = psutil.cpu_count() or 1
    gigabytes = round(psutil.virtual_memory().total / 2**30)
    return {"cores": cores, "memory_gb": gigabytes, "load": psutil.getloadavg()[0], "queue": SERVICE_QUEUE}
