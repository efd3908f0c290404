"""What the commands share: settings or one readable error, and Redis or one readable sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import click
import redis

from bunce_attributes.connections import explain
from bunce_attributes.settings import Settings, SettingsError, load_settings

EXIT_FAILED = 1
EXIT_USAGE = 2


def fail(message: str, code: int = EXIT_FAILED) -> NoReturn:
    """One error on standard error, and out."""
    click.echo(message, err=True)
    raise SystemExit(code)


def settings_or_exit(*, need_api_key: bool = False) -> Settings:
    """The settings; wrong ones end the program with a readable list."""
    try:
        return load_settings(need_api_key=need_api_key)
    except SettingsError as error:
        fail(str(error), EXIT_USAGE)


@contextmanager
def redis_errors(settings: Settings) -> Iterator[None]:
    """Turns a Redis out of reach, full or refusing into one sentence."""
    try:
        yield
    except redis.RedisError as error:
        fail(explain(error, settings.redis_url))
