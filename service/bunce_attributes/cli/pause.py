"""`bunce-attributes pause`."""

from __future__ import annotations

from uuid import UUID

import click

from bunce_attributes.cli.common import redis_errors, settings_or_exit
from bunce_attributes.connections import connect
from bunce_attributes.outbox.outbox import Outbox


def attribute_id(_context: click.Context, _parameter: click.Parameter, given: str | None) -> str:
    """An attribute's id in canonical form; empty if none is given."""
    if given is None:
        return ""
    try:
        return str(UUID(given.strip()))
    except ValueError:
        raise click.BadParameter(
            f"{given!r} is no attribute id, for example 9f171295-6935-400c-af6b-fd628a46bc71"
        ) from None


@click.command()
@click.option("--attribute", metavar="ID", callback=attribute_id, help="Only rows of this attribute.")
def pause(attribute: str) -> None:
    """Make no more calls, or none with one attribute, until `resume`. Rows are still taken in, and wait.

    Calls that have begun are finished.
    """
    settings = settings_or_exit()
    with connect(settings.redis_url) as client, redis_errors(settings):
        changed = Outbox(client, settings).pause(attribute)
    what = f"Attribute {attribute}" if attribute else "Everything"
    resume = f"`bunce-attributes resume{f' --attribute {attribute}' if attribute else ''}` ends it"
    click.echo(f"{what} is paused; {resume}." if changed else f"{what} was paused already; {resume}.")
