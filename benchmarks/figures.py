"""From measured runs to medians, ratios and tables. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import median


@dataclass(frozen=True, slots=True)
class Run:
    """One contender's run of one scenario.

    ``seconds`` from the first row that left the queue to the last one that was delivered; ``cpu_seconds`` of all its
    processes in that time, ``redis_cpu_seconds`` of Redis; ``calls`` as the sandbox counted them.
    """

    contender: str
    workers: int
    rows: int
    seconds: float
    cpu_seconds: float
    redis_cpu_seconds: float
    calls: int

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds

    @property
    def rows_a_call(self) -> float:
        return self.rows / self.calls if self.calls else 0.0

    @property
    def cpu_ms_a_thousand(self) -> float:
        """Milliseconds of processor time for 1,000 rows, workers and Redis together."""
        return (self.cpu_seconds + self.redis_cpu_seconds) * 1e6 / self.rows


@dataclass(frozen=True, slots=True)
class Summary:
    """The median of a contender's runs."""

    contender: str
    workers: int
    rows: int
    rate: float
    lowest: float
    highest: float
    rows_a_call: float
    cpu_ms_a_thousand: float
    redis_ms_a_thousand: float


def summary(runs: Sequence[Run]) -> Summary:
    """The median of runs of one contender; at least one."""
    rates = [run.rate for run in runs]
    return Summary(
        runs[0].contender,
        runs[0].workers,
        runs[0].rows,
        median(rates),
        min(rates),
        max(rates),
        median(run.rows_a_call for run in runs),
        median(run.cpu_ms_a_thousand for run in runs),
        median(run.redis_cpu_seconds * 1e6 / run.rows for run in runs),
    )


def ratio(rounds: Iterable[Mapping[str, Run]], one: str, other: str) -> float:
    """How many times the rate of `other` is that of `one`: the median over rounds, each compared within itself.

    The load of a machine changes from minute to minute; within a round it is nearly the same for both.
    """
    return median(runs[one].rate / runs[other].rate for runs in rounds)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of all values do not exceed."""
    if not values:
        raise ValueError("a percentile of nothing")
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def hot_limit(keys: int, seconds: float) -> int:
    """Rows that one call of each key for each begun second would send."""
    return keys * ceil(seconds)


def table(head: Sequence[str], rows: Iterable[Sequence[object]], plain: Callable[[object], str] = str) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(['---', *['---:'] * (len(head) - 1)])}|"]
    lines += [f"| {' | '.join(plain(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def figure(number: float) -> str:
    """A number as a reader wants it: three figures that mean something, thousands parted."""
    if number >= 100:
        digits = len(str(round(number))) - 3
        return f"{round(number, -digits):,.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}" if number >= 1 else f"{number:.3f}"
