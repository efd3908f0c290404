"""`bunce-attributes forget`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from uuid import UUID

import click

from bunce_attributes.cli.common import EXIT_FAILED, EXIT_USAGE, fail, redis_errors, settings_or_exit
from bunce_attributes.cli.questions import confirmed
from bunce_attributes.connections import connect
from bunce_attributes.forgetting import Forgotten, QueueBusy
from bunce_attributes.forgetting import forget as erase
from bunce_attributes.forgetting.outbox_rows import LaterLayout
from bunce_attributes.identifiers import Identifiers, UnusableIdentifier
from bunce_attributes.outbox.outbox import Outbox


@click.command()
@click.option("--customer-id", "ids", multiple=True, metavar="ID", help="The customer's id. May be repeated.")
@click.option("--customer-email", "emails", multiple=True, metavar="ADDRESS", help="An address. May be repeated.")
@click.option(
    "--attribute",
    "attributes",
    multiple=True,
    metavar="ID",
    help="An attribute whose remembered versions shall go too, though no row of it is found any more.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Report for programs.")
def forget(
    ids: tuple[str, ...], emails: tuple[str, ...], attributes: tuple[str, ...], yes: bool, as_json: bool
) -> None:
    """Erase everything kept about one customer: queue, outbox, dead letters, memory of versions.

    Give all names of the customer at once: a row is found by any of them. Erased rows count as purged. What the API
    has saved stays there. Exit code 1 if rows are being sent right now and could not be waited for: run it again.
    """
    if not ids and not emails:
        fail("Error: name the customer: --customer-id, --customer-email, or both", EXIT_USAGE)
    try:
        customer = Identifiers.of(ids, emails)
    except UnusableIdentifier as error:
        fail(f"Error: {error}", EXIT_USAGE)
    try:
        known = [str(UUID(one)) for one in attributes]
    except ValueError:
        fail("Error: --attribute must be the attribute's UUID", EXIT_USAGE)
    if not confirmed("Erase everything kept about this customer for good?", yes=yes):
        fail("Nothing was erased.")
    settings = settings_or_exit()
    with connect(settings.redis_url, client_name=f"{settings.namespace}-forget") as client, redis_errors(settings):
        try:
            result = erase(
                Outbox(client, settings), settings, customer, attributes=known, tell=None if as_json else _tell
            )
        except (QueueBusy, LaterLayout) as error:
            fail(str(error), EXIT_FAILED)
    if as_json:
        click.echo(json.dumps(asdict(result), indent=2))
    else:
        _report(result)
    if result.still_in_calls:
        fail(f"{result.still_in_calls} rows are in a call that does not end: run this again in a minute.")


def _tell(what: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"… {what}", err=True)


def _report(result: Forgotten) -> None:
    click.echo(f"queue:               {result.queue:,} rows")
    click.echo(f"outbox:              {result.outbox:,} rows")
    click.echo(f"dead letters:        {result.dead_letters:,}")
    if result.dead_messages_rewritten:
        click.echo(f"                     {result.dead_messages_rewritten:,} messages stay without the customer's rows")
    click.echo(f"remembered versions: {result.versions:,}, of {len(result.attributes):,} attributes")
    if result.unreadable_messages:
        click.echo(
            f"{result.unreadable_messages:,} messages that cannot be read held the name; they were erased whole."
        )
