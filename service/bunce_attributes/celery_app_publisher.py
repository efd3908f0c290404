"""Bringing chunks of rows into the producers' queue through an application's own Celery app."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs, urlsplit

from redis.exceptions import RedisError, ResponseError

from bunce_attributes.celery_message import ENQUEUED_AT_HEADER, HIDDEN, TASK_NAME
from bunce_attributes.connections import explain, safe_url
from bunce_attributes.outbox.keys import PRIORITY_STEPS
from bunce_attributes.publishing import Chunk, ClockReading, NeverBack, PublishFailed
from bunce_attributes.redis_url import Address, parse_redis_url


class UnusableCeleryApp(ValueError):  # noqa: N818 - reads as what it is where it is caught
    """Messages of the Celery app would lie where no worker of ours looks; ``str()`` says why and the mend."""


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where keys end up; what two connections must share to see the same ones."""

    addresses: frozenset[Address]
    socket_path: str
    master_name: str
    database: int


class CeleryAppPublisher:
    """Messages through ``app.send_task`` and the app's pool of producers, under its own publish policy.

    Raises:
        UnusableCeleryApp: its broker is not where the workers read, or its options rename lists.
    """

    def __init__(self, app: Any, *, queue: str, redis_url: str | None) -> None:
        self._app = app
        self._queue_name = queue
        self._broker = _checked_broker(app, redis_url)
        self._queue = _plain_queue(queue)
        self._reading: ClockReading | None = None
        self._never_back = NeverBack()

    def now(self) -> float:
        return self._never_back.moment(self._now())

    def _now(self) -> float:
        if self._reading is not None:
            now = self._reading.now(time.monotonic(), time.time())
            if now is not None:
                return now
        try:
            with self._app.producer_pool.acquire(block=True) as producer:
                seconds, microseconds = producer.channel.client.time()
        except _publish_errors() as error:
            raise PublishFailed(_reason(error, self._broker)) from None
        self._reading = ClockReading(seconds + microseconds / 1_000_000, time.monotonic(), time.time())
        return self._reading.redis_seconds

    def publish(self, chunks: Sequence[Chunk]) -> None:
        for sent, chunk in enumerate(chunks):
            try:
                self._send(chunk)
            except _publish_errors() as error:
                refused = isinstance(error, ResponseError) or isinstance(error.__cause__, ResponseError)
                raise PublishFailed(_reason(error, self._broker), sent=sent, unknown=0 if refused else 1) from None

    def _send(self, chunk: Chunk) -> None:
        self._app.send_task(
            TASK_NAME,
            args=[json.loads(f"[{','.join(chunk.rows_json)}]")],
            kwargs={"lane": chunk.lane.value},
            # All of this wins over the app's routes and defaults.
            queue=self._queue,
            exchange="",
            routing_key=self._queue_name,
            priority=0,
            serializer="json",
            headers={ENQUEUED_AT_HEADER: time.time()},
            ignore_result=True,
            add_to_parent=False,
            argsrepr=HIDDEN,
            kwargsrepr=HIDDEN,
        )

    def close(self) -> None:
        """Nothing: the connections are the app's."""


def _publish_errors() -> tuple[type[Exception], ...]:
    # kombu is there when a Celery app is, and only then.
    from kombu.exceptions import KombuError  # noqa: PLC0415

    return (KombuError, RedisError, OSError)


def _reason(error: BaseException, broker: str) -> str:
    cause = error
    while not isinstance(cause, RedisError) and (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    if isinstance(cause, LookupError):
        # kombu takes these for errors of the connection; they are names that the app's settings lack.
        return f"the Celery app cannot publish: its configuration names nothing called {cause}"
    return explain(cause, broker)


def _plain_queue(name: str) -> Any:
    kombu: Any = import_module("kombu")
    # The default exchange: no binding is kept in Redis, and no routing of the app's can lead elsewhere.
    return kombu.Queue(name, exchange=kombu.Exchange("", type="direct"), routing_key=name)


def _checked_broker(app: Any, redis_url: str | None) -> str:
    """The app's broker URL without its password."""
    from kombu.transport.redis import Transport  # noqa: PLC0415 - as above

    with app.connection_for_write() as connection:
        shown: str = connection.as_uri()
        if not issubclass(connection.get_transport_cls(), Transport):
            raise UnusableCeleryApp(
                f"the app's broker is {connection.transport_cls}, but the workers read from Redis: "
                "use AttributeUpdates with the workers' REDIS_URL instead of celery_app="
            )
        options = dict(connection.transport_options or {})
        fault = _options_fault(options, Transport.Channel)
        if fault is None and app.conf.task_protocol != 2:
            fault = f"task_protocol is {app.conf.task_protocol!r}, but the workers read protocol 2"
        if fault is not None:
            raise UnusableCeleryApp(f"{fault}: use AttributeUpdates with the workers' REDIS_URL instead of celery_app=")
        if redis_url is not None and (theirs := _spot_of_broker(connection, options)) != (ours := _spot_of(redis_url)):
            where = "database" if replace(theirs, database=ours.database) == ours else "Redis"
            raise UnusableCeleryApp(
                f"the app's broker is {shown}, another {where} than {safe_url(redis_url)}: messages would lie where no "
                "worker looks; use AttributeUpdates with the workers' REDIS_URL alone, without celery_app="
            )
    return shown


def _options_fault(options: dict[str, Any], channel: Any) -> str | None:
    """What is wrong with the app's options; `channel` is kombu's class, whose defaults the workers count on."""
    prefix = options.get("global_keyprefix")
    if prefix:
        return f"broker_transport_options has global_keyprefix {prefix!r}, which renames the queue's list"
    separator = options.get("sep", channel.sep)
    if separator != channel.sep:
        return f"broker_transport_options has sep {separator!r}, which renames the lists of priorities"
    steps = tuple(options.get("priority_steps", PRIORITY_STEPS))
    if 0 not in steps or not set(steps) <= set(PRIORITY_STEPS):
        return (
            f"broker_transport_options has priority_steps {list(steps)!r}, but the workers read the lists of "
            f"{list(PRIORITY_STEPS)!r}"
        )
    return None


def _spot_of(redis_url: str) -> _Spot:
    place = parse_redis_url(redis_url)
    return _Spot(_names(place.addresses), place.socket_path, place.master_name, place.database)


def _spot_of_broker(connection: Any, options: dict[str, Any]) -> _Spot:
    host = connection.hostname or "localhost"
    if "://" in host:
        # kombu keeps the whole socket URL in place of the host.
        parts = urlsplit(host)
        return _Spot(frozenset(), parts.path, "", _database(parse_qs(parts.query).get("virtual_host", ["0"])[0]))
    master = options.get("master_name")
    if master:
        urls = [urlsplit(url) for url in connection.alt or [f"sentinel://{host}:{connection.port}"]]
        addresses = tuple(Address(url.hostname or "localhost", url.port or 26379) for url in urls)
        return _Spot(_names(addresses), "", master, _database(connection.virtual_host))
    return _Spot(_names((Address(host, connection.port or 6379),)), "", "", _database(connection.virtual_host))


def _database(virtual_host: str | int | None) -> int:
    text = str(virtual_host or "0").strip("/") or "0"
    return int(text) if text.isdigit() else -1


def _names(addresses: tuple[Address, ...]) -> frozenset[Address]:
    local = {"127.0.0.1", "::1"}
    return frozenset(
        Address("localhost" if address.host in local else address.host.lower(), address.port) for address in addresses
    )
