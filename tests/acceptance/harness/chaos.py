"""All faults, mixed from a seed: what goes wrong next, and when, is a random course that can be repeated."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import redis
from tests.acceptance.harness.proxy import SilentProxy
from tests.acceptance.harness.stage import Stage
from tests.acceptance.harness.workers import Worker

FEW, MANY, POISON = 60, 4_000, 12
KILL_POINTS = ("intake_before_accept", "intake_after_accept", "before_call", "after_call", "after_settle")
SHIFT_CLOCK = """
import os, time
_by, _time = float(os.environ["SHIFT_CLOCK_SECONDS"]), time.time
time.time = lambda: _time() + _by
"""
API_FAULTS: tuple[dict[str, Any], ...] = (
    {},
    {"latency": [0.05, 1.0]},
    {"refuse_share": 0.05, "refuse_times": 2},
    {"calls": [{"do": "hang_up", "save": True, "share": 0.2}]},
    {"calls": [{"do": "hang_up", "save_after_seconds": 2, "share": 0.1}]},
    {"calls": [{"do": "hang", "seconds": 3, "save_after_seconds": 4, "share": 0.1}]},
    {"calls": [{"do": "answer", "status": 503, "share": 0.3}]},
    {"calls": [{"do": "answer", "status": 500, "save": True, "share": 0.2}]},
    {"calls": [{"do": "answer", "status": 422, "share": 0.1, "times": 3}]},
    {"calls": [{"do": "answer", "status": 413, "share": 0.1, "times": 2}]},
    {"calls": [{"do": "malformed", "kind": "truncated", "share": 0.1}]},
    {"calls": [{"do": "answer", "status": 429, "retry_after": "2", "times": 1}]},
)


class Chaos:
    """Spoils a stage for a while, and then mends everything.

    ``happened`` counts what was done; ``refused`` how often a producer was told that Redis did not take its rows.
    """

    def __init__(self, stage: Stage, seed: int, workers: int) -> None:
        self._stage = stage
        self._chance = random.Random(seed)
        self._seed = seed
        self._workers = workers
        self._over = threading.Event()
        self._hook = stage.folder / "clock"
        self._hook.mkdir()
        (self._hook / "sitecustomize.py").write_text(SHIFT_CLOCK)
        self._proxy = SilentProxy(stage.server.port)
        self.happened: Counter[str] = Counter()
        self.refused = 0
        self._faults: tuple[tuple[int, Callable[[], None]], ...] = (
            (6, self.kill_a_worker),
            (4, self.kill_at_a_point),
            (3, self.kill_a_child),
            (3, self.terminate_a_worker),
            (2, self.kill_redis),
            (2, self.restart_redis),
            (4, self.cut_every_connection),
            (2, self.silence_the_link),
            (2, self.forget_scripts),
            (2, self.fill_redis),
            (8, self.spoil_the_api),
        )

    def run(self, seconds: float, *, longest_pause: float) -> None:
        """Faults, ``longest_pause`` seconds apart at the most, and rows for so long.

        First each kind once, then by weight. Then Redis, the API and the workers are as they should be.
        """
        self._put_faults({})
        for _ in range(self._workers):
            self._start()
        producers = [threading.Thread(target=self._produce, args=(number,)) for number in range(2)]
        for producer in producers:
            producer.start()
        ends = time.monotonic() + seconds
        weights, faults = zip(*self._faults, strict=True)
        first = self._chance.sample(faults, len(faults))
        try:
            while first or time.monotonic() < ends:
                time.sleep(self._chance.uniform(longest_pause / 8, longest_pause))
                fault = first.pop() if first else self._chance.choices(faults, weights)[0]
                fault()
                self._replace_the_dead()
        finally:
            self._over.set()
            for producer in producers:
                producer.join()
            if not self._stage.server.running:
                self._stage.server.start()
            self._stage.client.config_set("maxmemory", 0)
            self._stage.sandbox.reset_faults()
            self._replace_the_dead()

    def close(self) -> None:
        self._proxy.close()

    # -- rows ----------------------------------------------------------------------------------------------------

    def _produce(self, number: int) -> None:
        """Each producer has keys of its own, because the order of two producers' values is anybody's guess."""
        chance = random.Random(f"{self._seed}/{number}")
        few = [f"few{number}-{n}" for n in range(FEW // 2)]
        many = [f"many{number}-{n}" for n in range(MANY // 2)]
        poison = [f"poison{number}-{n}" for n in range(POISON // 2)]
        while not self._over.is_set():
            kind = chance.random()
            picked = (
                chance.choices(few, k=20)
                if kind < 0.4
                else chance.sample(many, k=chance.randint(1, 400))
                if kind < 0.9
                else chance.sample(poison, k=1)
            )
            taken = self._stage.enqueue(
                picked,
                stamp=chance.random() < 0.5,
                chunk_rows=chance.choice((1, 50, 250)),
                lane=chance.choice(("live", "live", "bulk")),
            )
            self.refused += not taken
            self._over.wait(chance.uniform(0, 0.6))

    # -- workers -------------------------------------------------------------------------------------------------

    def _start(self, **environment: str) -> Worker:
        """Of any four workers one is prefork, one reaches Redis through the proxy, one has a wrong clock."""
        kind = len(self._stage.workers) % 4
        if kind == 1:
            through = self._stage.url.replace(f":{self._stage.server.port}/", f":{self._proxy.port}/")
            environment["REDIS_URL"] = through
        if kind == 2:
            shift = self._chance.choice(("-300", "300"))
            environment |= {"PYTHONPATH": str(self._hook), "SHIFT_CLOCK_SECONDS": shift}
        return self._stage.start(
            pool="prefork" if kind == 3 else "threads", concurrency=3 if kind == 3 else None, **environment
        )

    def _replace_the_dead(self) -> None:
        while len(self._stage.living) < self._workers:
            self._start()

    def _victim(self) -> Worker | None:
        living = self._stage.living
        return self._chance.choice(living) if living else None

    def kill_a_worker(self) -> None:
        if victim := self._victim():
            self.happened["kill -9 of a worker"] += 1
            victim.kill()

    def kill_at_a_point(self) -> None:
        if victim := self._victim():
            point = self._chance.choice(KILL_POINTS)
            self.happened[f"kill -9 at {point}"] += 1
            victim.kill()
            self._start(BUNCE_TEST_KILL_AT=f"{point}:{self._chance.randint(1, 3)}")

    def kill_a_child(self) -> None:
        for worker in self._stage.living:
            children = worker.children()
            if children:
                self.happened["kill -9 of a pool's child"] += 1
                self._chance.choice(children).kill()
                return

    def terminate_a_worker(self) -> None:
        if victim := self._victim():
            self.happened["SIGTERM of a worker"] += 1
            victim.terminate()

    # -- Redis ---------------------------------------------------------------------------------------------------

    def _down(self, end: Callable[[], None]) -> None:
        end()
        time.sleep(self._chance.uniform(0.1, 3))
        self._stage.server.start()

    def kill_redis(self) -> None:
        self.happened["kill -9 of Redis"] += 1
        self._down(self._stage.server.kill)

    def restart_redis(self) -> None:
        self.happened["Redis stopped and started"] += 1
        self._down(self._stage.server.stop)

    def cut_every_connection(self) -> None:
        self.happened["CLIENT KILL of all"] += 1
        self._stage.client.client_kill_filter(_type="normal", skipme=True)

    def silence_the_link(self) -> None:
        if self._proxy.silence():
            self.happened["half-open connections"] += 1

    def forget_scripts(self) -> None:
        self.happened["SCRIPT FLUSH"] += 1
        self._stage.client.script_flush()

    def fill_redis(self) -> None:
        self.happened["Redis full"] += 1
        try:
            memory = self._stage.client.info("memory")
            assert isinstance(memory, dict)
            self._stage.client.config_set("maxmemory", int(memory["used_memory"]))
            time.sleep(self._chance.uniform(1, 5))
            self._stage.client.config_set("maxmemory", 0)
        except redis.RedisError:
            # Its connection was cut: the end of the run mends it.
            return

    # -- the API -------------------------------------------------------------------------------------------------

    def spoil_the_api(self) -> None:
        faults = self._chance.choice(API_FAULTS)
        self.happened[f"API: {describe(faults)}"] += 1
        self._put_faults(faults)

    def _put_faults(self, faults: dict[str, Any]) -> None:
        poison = [f"poison{number}-{n}" for number in range(2) for n in range(POISON // 2)]
        self._stage.sandbox.put_faults(
            {**faults, "refuse": [{"customer_id": poison}], "seed": self._chance.randrange(2**31)}
        )


def describe(faults: dict[str, Any]) -> str:
    """One fault set in a few words."""
    calls = faults.get("calls")
    if not calls:
        return ", ".join(faults) or "well"
    rule = calls[0]
    how = rule.get("status") or rule.get("kind") or ""
    saves = " but saves" if rule.get("save") else " and saves later" if "save_after_seconds" in rule else ""
    return f"{rule['do']} {how}".strip() + saves


def report(stage: Stage, chaos: Chaos, seed: int, seconds: float, drained: float) -> str:
    """What a run did and found."""
    status, findings = stage.status(), stage.findings()
    counts, stats = status["counts"], stage.sandbox.stats()
    dead = f"{status['dead']:,} dead letters of {len(stage.dead()):,} customers"
    lines = [
        f"soak: {seconds:.0f} s of faults, seed {seed}, drained {drained:.0f} s after the last",
        f"  rows      {stage.work.surely_taken:,} taken by Redis (and {stage.work.unknown:,} perhaps), of"
        f" {len(stage.work.keys):,} keys; {counts['received']:,} received",
        f"            {counts['saved']:,} saved, {counts['superseded']:,} superseded, {dead}",
        f"  calls     {sum(stats['requests'].values()):,}: "
        + ", ".join(f"{status} {number:,}" for status, number in stats["requests"].items()),
        f"            {counts.get('calls_lost', 0)} lost with their worker; rows saved more than once:"
        f" {stats['rows_saved'] - counts['saved']:,}",
        f"  workers   {len(stage.workers)} started; producers were refused {chaos.refused} times",
        f"  lost {len(findings.lost)} · stale {len(findings.stale)} · over the limit {len(findings.overrun)}"
        f" · wrong attempts {len(findings.attempts)} · wrong sums {len(findings.sums)}",
        *(f"  {number:4} × {what}" for what, number in sorted(chaos.happened.items())),
        *(f"  !! {finding}" for finding in findings.all[:20]),
    ]
    return "\n".join(lines)
