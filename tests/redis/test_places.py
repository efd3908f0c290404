"""Every form of REDIS_URL leads our client and Celery's transport to the same database."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis, RedisError

from bunce_attributes import AttributeUpdates
from bunce_attributes.connections import broker_transport_options, broker_url, connect
from bunce_attributes.embedded_redis import EmbeddedRedis
from bunce_attributes.embedded_redis.server import _free_port

ATTRIBUTE = "9f171295-6935-400c-af6b-fd628a46bc71"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def tcp(stack: ExitStack, folder: Path) -> str:
    server = stack.enter_context(EmbeddedRedis(appendfsync="no"))
    return server.url.removesuffix("/0") + "/3"


def unix(stack: ExitStack, folder: Path) -> str:
    server = stack.enter_context(EmbeddedRedis(appendfsync="no", unix_socket=True))
    return server.url.removesuffix("db=0") + "db=3"


def sentinel(stack: ExitStack, folder: Path) -> str:
    server = stack.enter_context(EmbeddedRedis(appendfsync="no"))
    secret, _, place = server.url.removeprefix("redis://").removesuffix("/0").rpartition("@")
    port = _free_port()
    configuration = folder / "sentinel.conf"
    configuration.write_text(
        f"bind 127.0.0.1\nport {port}\ndir {folder}\nrequirepass watcher\n"
        f"sentinel monitor people 127.0.0.1 {place.rpartition(':')[2]} 1\n"
        f"sentinel auth-pass people {secret.removeprefix(':')}\n",
        encoding="utf-8",
    )
    log = stack.enter_context((folder / "sentinel.log").open("wb"))
    process = subprocess.Popen([server.binary.path, configuration, "--sentinel"], stdout=log, stderr=log)
    stack.callback(process.wait, 10)
    stack.callback(process.terminate)
    url = f"sentinel://{secret}@127.0.0.1:{port}/3?master_name=people&sentinel_password=watcher"
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            connect(url).ping()
        except RedisError:
            time.sleep(0.02)
        else:
            return url
    raise AssertionError((folder / "sentinel.log").read_text())


@pytest.mark.parametrize("place", [tcp, unix, sentinel])
def test_our_client_and_celery_meet_in_the_same_database(
    place: Callable[[ExitStack, Path], str], stack: ExitStack, tmp_path: Path
) -> None:
    url = place(stack, tmp_path)
    app = Celery(broker=broker_url(url), set_as_current=False)
    app.conf.broker_transport_options = broker_transport_options(url)
    with AttributeUpdates(url) as ours, AttributeUpdates(url, celery_app=app) as theirs:
        ours.enqueue(attribute=ATTRIBUTE, customer_id="1", value=1)
        theirs.enqueue(attribute=ATTRIBUTE, customer_id="2", value=2)
    app.close()
    client: Redis = connect(url)
    assert client.llen("bunce-attributes") == 2
    assert client.connection_pool.connection_kwargs["db"] == 3
    client.select(0)
    assert client.execute_command("INFO", "keyspace").keys() == {"db3"}
    client.close()
