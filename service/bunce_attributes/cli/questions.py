"""Questions before something that cannot be undone."""

from __future__ import annotations

import click

from bunce_attributes.cli.common import EXIT_USAGE, fail


def confirmed(question: str, *, yes: bool) -> bool:
    """Whether to go on: ``--yes``, or the answer of who sits there; without a terminal an error that says so."""
    if yes:
        return True
    try:
        return click.confirm(question, default=False)
    except click.Abort:
        click.echo("")
        fail(f"{question} There is nobody to answer: add --yes.", EXIT_USAGE)
