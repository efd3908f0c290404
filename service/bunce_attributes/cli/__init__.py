"""The command line: `bunce-attributes COMMAND`. One file a command; each is imported only when it is used.

Exit codes: 0 done, 1 failed, 2 usage or settings, 3 some rows were refused.
"""

from __future__ import annotations

import sys
from difflib import get_close_matches
from importlib import import_module

from bunce_attributes.version import __version__

COMMANDS = {
    "demo": "Show the whole service at work on this machine, without an account.",
    "worker": "Deliver updates: read the queue, call the API.",
    "enqueue": "Enqueue the updates of a CSV or JSON lines file.",
    "status": "Tell what waits, what was saved, and whether calls can be made.",
    "dead": "List, show, replay, export or purge dead letters.",
    "forget": "Erase everything kept about one customer.",
    "pause": "Make no more calls, or none with one attribute.",
    "resume": "Go on after a pause.",
    "check": "Check Redis, the API key and the settings; each finding with its mend.",
    "metrics": "Serve metrics for Prometheus.",
    "sandbox": "Run a local stand-in for the API.",
}


def main() -> None:
    """The entry point of the console script."""
    try:
        import click  # noqa: PLC0415 - producers have this entry point without the extra
    except ImportError:
        sys.exit("The commands need the extra `service`: pip install 'bunce-attributes[service]'")

    class Commands(click.Group):
        """Imports a command when it is asked for, so that `--help` and small commands start at once."""

        def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
            return list(COMMANDS)

        def resolve_command(
            self, ctx: click.Context, args: list[str]
        ) -> tuple[str | None, click.Command | None, list[str]]:
            if args and args[0] not in COMMANDS and (meant := get_close_matches(args[0], COMMANDS, n=1)):
                ctx.fail(f"No such command {args[0]!r}. Is {meant[0]!r} meant?")
            return super().resolve_command(ctx, args)

        def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the same
            if cmd_name not in COMMANDS:
                return None
            command = getattr(import_module(f"bunce_attributes.cli.{cmd_name}"), cmd_name)
            assert isinstance(command, click.Command)
            return command

        def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - the same
            with formatter.section("Commands"):
                formatter.write_dl(list(COMMANDS.items()))

    @click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
    @click.version_option(__version__, prog_name="bunce-attributes")
    def cli() -> None:
        """Delivers customer-attribute updates from a Redis queue to Bunce's attribute API."""

    cli()
