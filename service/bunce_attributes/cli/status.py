"""`bunce-attributes status`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import click
import redis
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from bunce_attributes.cli.common import fail, redis_errors, settings_or_exit
from bunce_attributes.cli.pages import page_console, print_page
from bunce_attributes.connections import connect, explain
from bunce_attributes.outbox.outbox import Outbox
from bunce_attributes.settings import Settings
from bunce_attributes.status import Pace, read_snapshot
from bunce_attributes.status_page import status_page


@click.command()
@click.option("--watch", is_flag=True, help="Refresh until Ctrl-C, with rates and when the queue will be empty.")
@click.option("--json", "as_json", is_flag=True, help="For programs; with --watch one line each time.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1, max=3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two refreshes.",
)
def status(watch: bool, as_json: bool, interval: float) -> None:
    """What waits, what was saved, what died, and whether calls can be made; if not, why and what to do."""
    settings = settings_or_exit()
    with connect(settings.redis_url, client_name=f"{settings.namespace}-status") as client:
        outbox = Outbox(client, settings)
        try:
            if not watch:
                _once(outbox, settings, as_json=as_json)
            elif as_json:
                _watch_json(outbox, settings, interval)
            else:
                _watch(outbox, settings, interval)
        except KeyboardInterrupt:
            return


def _once(outbox: Outbox, settings: Settings, *, as_json: bool) -> None:
    with redis_errors(settings):
        snapshot = read_snapshot(outbox)
    if as_json:
        click.echo(json.dumps(snapshot.as_json(), indent=2))
    else:
        print_page(status_page(snapshot, settings.namespace))


def _watch_json(outbox: Outbox, settings: Settings, interval: float) -> None:
    while True:
        with redis_errors(settings):
            click.echo(json.dumps(read_snapshot(outbox).as_json()))
        time.sleep(interval)


def _watch(outbox: Outbox, settings: Settings, interval: float) -> None:
    console = page_console()
    page = _pages(outbox, settings)
    if not console.is_terminal:
        while True:
            print_page(page(), console)
            time.sleep(interval)
    with Live(page(), console=console, auto_refresh=False, screen=False) as live:
        while True:
            time.sleep(interval)
            live.update(page(), refresh=True)


def _pages(outbox: Outbox, settings: Settings) -> Callable[[], RenderableType]:
    """The page as it is now; a Redis that went away leaves the last one standing, with the reason above it."""
    pace = Pace()
    last: RenderableType | None = None

    def page() -> RenderableType:
        nonlocal last
        try:
            snapshot = read_snapshot(outbox)
        except redis.RedisError as error:
            told = explain(error, settings.redis_url)
            if last is None:
                fail(told)
            return Group(Text(f"{told}. What follows is old.", style="bold red"), last)
        last = status_page(snapshot, settings.namespace, pace.note(snapshot))
        return last

    return page
