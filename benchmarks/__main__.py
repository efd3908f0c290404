"""The command: `python -m benchmarks [SCENARIO]… [--quick]`."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from benchmarks import scenarios
from benchmarks.report import write_report
from benchmarks.stage import ROOT, BenchmarkFailed

SCENARIOS: dict[str, Callable[..., scenarios.Figures]] = {
    "drain": scenarios.drain,
    "singles": scenarios.singles,
    "trickle": scenarios.trickle,
    "latency": scenarios.latency,
    "hot": scenarios.hot,
    "producer": scenarios.producer,
    "memory": scenarios.memory,
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(SCENARIOS)), metavar="[SCENARIO]...")
@click.option("--quick", is_flag=True, help="A few minutes for all: small sizes, one round. For a first look only.")
@click.option("--rows", type=click.IntRange(min=1_000), help="Rows of a drain.")
@click.option("--rounds", type=click.IntRange(min=1), help="Alternating rounds, of which medians are taken.")
@click.option(
    "--results",
    type=click.Path(path_type=Path, dir_okay=False),
    default=ROOT / "build" / "benchmarks.json",
    help="Where figures are kept; scenarios that are not run keep theirs.  [default: build/benchmarks.json]",
)
@click.option("--report/--no-report", default=None, help="Write docs/benchmarks.md.  [default: if all ran in full]")
def main(
    names: tuple[str, ...], *, quick: bool, rows: int | None, rounds: int | None, results: Path, report: bool | None
) -> None:
    """Measure SCENARIOs, or all: drain, singles, trickle, latency, hot, producer, memory."""
    # So that what a scenario started ends with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    size = scenarios.QUICK if quick else scenarios.FULL
    size = replace(size, rows=rows or size.rows, rounds=rounds or size.rounds)
    kept: dict[str, Any] = json.loads(results.read_text()) if results.exists() else {}
    began = time.monotonic()
    for name in names or SCENARIOS:
        click.secho(f"{name}: {(SCENARIOS[name].__doc__ or '').splitlines()[0]}", bold=True)
        options = {}
        if name == "latency" and "drain" in kept:
            one = kept["drain"]["one"]
            options["rate"] = one["summaries"][one["ours"]]["rate"]
        try:
            kept[name] = SCENARIOS[name](size, lambda line: click.echo(f"  {line}"), **options)
        except BenchmarkFailed as failed:
            sys.exit(f"{name}: {failed}")
        kept["machine"] = scenarios.machine()
        results.parent.mkdir(parents=True, exist_ok=True)
        results.write_text(json.dumps(kept, indent=1))
    click.echo(f"{time.monotonic() - began:.0f} s; figures in {results}")
    if report if report is not None else not names and not quick:
        write_report(kept, ROOT / "docs")
        click.echo("docs/benchmarks.md is written")


if __name__ == "__main__":
    main()
