"""`bunce-attributes demo`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click
import redis
from rich.console import Console

from bunce_attributes.cli.common import EXIT_FAILED, fail


@click.command(short_help="Show the whole service at work on this machine, without an account.")
@click.argument("file", metavar="[FILE]", required=False)
def demo(file: str | None) -> None:
    """Deliver FILE (CSV or JSON lines; without it an example) on this machine, and compare the result with the file.

    Starts a private Redis, a sandbox of the API and two workers, and stops them again. Neither your Redis nor the
    API is touched, and no setting of yours is read. The sandbox refuses some rows and fails some calls, so that
    there is something to retry.

    Exit codes: 0 the sandbox holds what the file says, 1 it does not, or the demo was stopped.
    """
    from bunce_attributes.demo.run import DemoFailed, report, run  # noqa: PLC0415 - half a second
    from bunce_attributes.demo.stopping import stop_signals  # noqa: PLC0415 - the same
    from bunce_attributes.embedded_redis import EmbeddedRedisError  # noqa: PLC0415 - the same
    from bunce_attributes.rows_file import UnusableFile  # noqa: PLC0415 - the same
    from bunce_attributes.sandbox import SandboxError  # noqa: PLC0415 - the same

    # Where there is no terminal nobody knows a width; reasons shall stand in one line.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    with tempfile.TemporaryDirectory(prefix="bunce-demo-file-") as folder:
        try:
            with stop_signals():
                verdict = run(file or _example(Path(folder)), console)
        except UnusableFile as error:
            hint = " (with: bunce-attributes enqueue; the demo reads one line a value)" if "--map" in str(error) else ""
            fail(f"Error: {error}{hint}")
        except (EmbeddedRedisError, SandboxError, DemoFailed, redis.RedisError) as error:
            fail(f"Error: the demo failed: {error}")
        except KeyboardInterrupt:
            fail("Stopped; nothing is left running.")
    report(verdict, console)
    if verdict.differences:
        raise SystemExit(EXIT_FAILED)
    console.print(_WHAT_NEXT.format(logs=verdict.logs), markup=False, soft_wrap=True)


_WHAT_NEXT = """
What to try next
  make demo FILE=my.csv                 your own rows: columns id, customer_id or customer_email, value
  docker compose --profile sandbox up   the same as services, with Flower and metrics
  README.md, "Quick start"              with your own Redis and your API key
The workers' logs, a line a call: {logs}"""


def _example(folder: Path) -> str:
    """The file in the repository, or a copy where only the package is installed."""
    in_repository = Path(__file__).parents[3] / "examples" / "updates.csv"
    if in_repository.exists():
        return str(in_repository)
    from bunce_attributes.demo.example import example_csv  # noqa: PLC0415 - needed here alone

    written = folder / "updates.csv"
    written.write_text(example_csv(), encoding="utf-8")
    return str(written)
