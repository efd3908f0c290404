"""What every test gets: an environment without settings of its surroundings, and a private Redis on request."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from redis import Redis

from bunce_attributes.embedded_redis import EmbeddedRedis

# A deadline for each example fails on a busy machine whatever the code does.
settings.register_profile("no-deadline", settings.get_profile(settings.get_current_profile_name()), deadline=None)
settings.load_profile("no-deadline")

# Which server the tests start is the caller's choice, so that they can be run against several releases of Redis.
_KEPT = {"BUNCE_EMBEDDED_REDIS"}
_SETTINGS = ("BUNCE_", "REDIS_URL", "CELERY_", "FLOWER_")
_PROXIES = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"}


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no ``.env`` of the surroundings reaches a test, so no test reaches a service it did not start."""
    for name in os.environ:
        if (name.startswith(_SETTINGS) and name not in _KEPT) or name.upper() in _PROXIES:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    """A Redis of this test run; a test that stops it or changes its configuration starts its own instead."""
    with EmbeddedRedis(appendfsync="no") as server:
        yield server


@pytest.fixture
def redis_url(redis_server: EmbeddedRedis) -> str:
    """The address of an empty Redis that holds neither keys nor scripts of an earlier test."""
    with redis_server.client() as client:
        client.flushall()
        client.script_flush()
    return redis_server.url


@pytest.fixture
def redis_client(redis_server: EmbeddedRedis, redis_url: str) -> Iterator[Redis]:
    """A client of it that answers in bytes and reports a failure at once."""
    with redis_server.client() as client:
        yield client
