"""`bunce-attributes resume`."""

from __future__ import annotations

import click

from bunce_attributes.cli.common import EXIT_USAGE, fail, redis_errors, settings_or_exit
from bunce_attributes.cli.pause import attribute_id
from bunce_attributes.connections import connect
from bunce_attributes.outbox.outbox import Outbox
from bunce_attributes.status import snapshot_of
from bunce_attributes.status_page import words_for


@click.command()
@click.option("--attribute", metavar="ID", callback=attribute_id, help="Rows of this attribute go on.")
@click.option(
    "--bury",
    is_flag=True,
    help="With --attribute: its brake stays off for a day, so that refused rows may become dead letters.",
)
def resume(attribute: str, bury: bool) -> None:
    """End a pause of an operator, or the pause of one attribute by an operator or the brake."""
    if bury and not attribute:
        fail("Error: --bury is for one attribute: add --attribute ID (`bunce-attributes status` shows it)", EXIT_USAGE)
    settings = settings_or_exit()
    with connect(settings.redis_url) as client, redis_errors(settings):
        outbox = Outbox(client, settings)
        before = snapshot_of(outbox.status())
        changed = outbox.resume(attribute, bury=bury)
        after = snapshot_of(outbox.status())
    if attribute:
        waited = sum(one.waiting for one in before.paused_attributes if one.attribute == attribute)
        told = f"goes on; {waited:,} of its rows waited" if changed else "was not paused"
        buried = ". Its brake is off for a day: refused rows become dead letters" if bury else ""
        click.echo(f"Attribute {attribute} {told}{buried}.")
    elif not changed:
        click.echo("No operator had paused everything.")
    elif after.gate.is_open:
        click.echo("Calls go on.")
    if not after.gate.is_open:
        words = words_for(after.gate.reason)
        click.echo(f"Still no calls are made: {words.why} ({after.gate.reason}). {words.mend}")
