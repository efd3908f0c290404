"""How pages and tables are printed: in the terminal's width, and one line a line where there is no terminal."""

from __future__ import annotations

import os

import click
from rich.console import Console, RenderableType

PIPED_WIDTH = 200
"""Columns for a file or a pipe, where nothing is gained by breaking lines; COLUMNS says otherwise."""


def page_console() -> Console:
    """A console on the standard output."""
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED_WIDTH
    return console


def print_page(page: RenderableType, console: Console | None = None) -> None:
    """Print it; without a terminal the lines have no blanks at their ends, as `diff` and `grep` like it."""
    console = console or page_console()
    if console.is_terminal:
        console.print(page)
        return
    with console.capture() as captured:
        console.print(page)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))
