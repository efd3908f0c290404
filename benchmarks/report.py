"""From the kept figures to docs/benchmarks.md and its plots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import figure, table
from benchmarks.plot import Bar, bars, lines
from benchmarks.stage import APPENDFSYNC

Kept = Mapping[str, Any]
_OURS = "bunce-attributes"
_BATCHES = "celery-batches 0.11"
_BARE = "bare httpx loop"


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure, what it must reach, and what we aim at; `at_most` if less is better."""

    what: str
    measured: float
    least: float
    aim: float | None = None
    at_most: bool = False

    @property
    def reached(self) -> str:
        """In a word."""

        def passes(limit: float) -> bool:
            return self.measured <= limit if self.at_most else self.measured >= limit

        if self.aim is not None and passes(self.aim):
            return "aim reached"
        return "reached" if passes(self.least) else "**missed**"


def goals(kept: Kept) -> Iterator[Goal]:
    """The numbers to reach."""
    one, single = kept["drain"]["one"], kept["singles"]
    yield Goal("drain, messages of 100, times celery-batches", one["ratios"][f"{_BATCHES} (1)"], 10, 25)
    yield Goal("drain, messages of 100, share of the limit", one["ratios"][_BARE], 0.15, 0.4)
    yield Goal("drain, single-row messages, times celery-batches", single["ratios"][f"{_BATCHES} (1)"], 8, 20)
    calls = [run["calls_a_minute"] for run in kept["trickle"]["runs"] if run["contender"] == _OURS]
    yield Goal("calls at the trickle, most workers to one", calls[-1] / calls[0], 1.2, at_most=True)
    p99 = max(run["p99"] for run in kept["trickle"]["runs"] if run["contender"] == _OURS)
    yield Goal("p99 latency at the trickle, s (the wait is 1 s)", p99, 1.3, 1.05, at_most=True)
    hot = kept["hot"]
    yield Goal("hot workload, rows sent to one for each key and second", hot["sent"] / hot["limit"], 1.2, at_most=True)
    sizes = kept["memory"]["sizes"]
    yield Goal("Redis bytes for each waiting update", max(s["bytes"] for s in sizes), 450, 300, at_most=True)
    yield Goal("drain rate, longest queue to shortest", sizes[-1]["rate"] / sizes[0]["rate"], 0.9, 1.0)
    yield Goal("enqueue_many, rows a second", kept["producer"]["enqueue_many"]["rate"], 50_000, 100_000)


def write_report(kept: Kept, docs: Path) -> None:
    """Write docs/benchmarks.md, between its marks, and the plots beside it.

    Raises:
        KeyError: a scenario was never run.
    """
    (docs / "benchmarks-drain.svg").write_text(_drain_plot(kept))
    (docs / "benchmarks-trickle.svg").write_text(_trickle_plot(kept))
    page = docs / "benchmarks.md"
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{text(kept)}\n\n{END}{after}")


BEGIN, END = "<!-- figures: written by make bench -->", "<!-- end of figures -->"


def text(kept: Kept) -> str:
    """The part of the page that holds figures."""
    machine = kept["machine"]
    one, single = kept["drain"]["one"], kept["singles"]
    sections = [
        f"Measured on {machine['cores']} cores and {machine['memory_gb']} GB, where Redis, the sandbox and all workers "
        f"share the cores; Redis with an append-only file, `appendfsync {APPENDFSYNC}`.",
        "## The numbers to reach\n\n"
        + table(
            ("", "measured", "at least", "aim", ""),
            (
                (
                    goal.what,
                    figure(goal.measured),
                    ("≤ " if goal.at_most else "") + figure(goal.least),
                    figure(goal.aim) if goal.aim is not None else "–",
                    goal.reached,
                )
                for goal in goals(kept)
            ),
        ),
        "## Draining a backlog\n\n![Rows a second, one worker](benchmarks-drain.svg)\n\n"
        + _summaries(one, kept["drain"]["more"]),
        "## Single-row messages\n\n" + _summaries(single),
        "## A trickle of 40 rows a second\n\n![Calls a minute by workers](benchmarks-trickle.svg)\n\n" + _trickle(kept),
        "## Latency under load\n\n" + _latency(kept),
        "## A hot workload\n\n" + _hot(kept),
        "## What enqueuing costs\n\n"
        + table(
            ("", "rows/s", "processor time a row"),
            ((name, figure(t["rate"]), f"{figure(t['cpu_us'])} µs") for name, t in kept["producer"].items()),
        ),
        "## Memory and long queues\n\n"
        + table(
            ("updates waiting", "bytes each in the outbox", "bytes each in messages of 100", "drain, rows/s", "worker"),
            (
                (
                    f"{s['waiting']:,}",
                    figure(s["bytes"]),
                    figure(s["queued_bytes"]),
                    figure(s["rate"]),
                    f"{s['worker_mb']:.0f} MB",
                )
                for s in kept["memory"]["sizes"]
            ),
        ),
    ]
    return "\n\n".join(sections)


def _summaries(*groups: Any) -> str:
    rows = []
    for group in groups:
        if group is None:
            continue
        for label, told in group["summaries"].items():
            ratio = group["ratios"].get(label)
            rows.append(
                (
                    label,
                    f"{told['rows']:,}",
                    figure(told["rate"]),
                    f"{figure(told['lowest'])} – {figure(told['highest'])}",
                    f"{figure(ratio)} ×" if ratio is not None else "–",
                    figure(told["rows_a_call"]),
                    f"{told['cpu_ms_a_thousand']:.0f} ms",
                    f"{told['redis_ms_a_thousand']:.0f} ms",
                )
            )
    head = (
        "contender (workers)",
        "rows",
        "rows/s",
        "range",
        "ours is",
        "rows a call",
        "processor time of 1,000 rows",
        "of it Redis",
    )
    return table(head, rows)


def _trickle(kept: Kept) -> str:
    return table(
        ("contender", "workers", "calls a minute", "rows a call", "p50", "p99", "cores used"),
        (
            (
                run["contender"],
                run["workers"],
                figure(run["calls_a_minute"]),
                figure(run["rows_a_call"]),
                f"{run['p50']:.3f} s",
                f"{run['p99']:.3f} s",
                f"{run['cpu_share']:.2f}",
            )
            for run in kept["trickle"]["runs"]
        ),
    )


def _latency(kept: Kept) -> str:
    told = kept["latency"]
    return (
        f"At {figure(told['rate'])} rows a second, half of the drain rate, in messages of 100: from enqueuing to the "
        f"call p50 {told['p50']:.3f} s, p99 {told['p99']:.3f} s."
    )


def _hot(kept: Kept) -> str:
    told = kept["hot"]
    return (
        f"{told['updates']:,} updates of {told['keys']:,} keys within {told['seconds']:.1f} s became {told['sent']:,} "
        f"rows sent; one call of each key for each begun second would have sent {told['limit']:,}."
    )


def _drain_plot(kept: Kept) -> str:
    found = sorted(kept["drain"]["one"]["summaries"].values(), key=lambda told: -told["rate"])
    entries = [Bar(told["contender"], told["rate"], ours=told["contender"] == _OURS) for told in found]
    return bars("Rows a second, draining a backlog with one worker", entries)


def _trickle_plot(kept: Kept) -> str:
    runs = kept["trickle"]["runs"]
    series = {name: [run["calls_a_minute"] for run in runs if run["contender"] == name] for name in (_BATCHES, _OURS)}
    ticks = [run["workers"] for run in runs if run["contender"] == _OURS]
    title = "Calls a minute for 40 rows a second (the API allows 500)"
    return lines(title, ticks, series, ours=_OURS, below="workers")
