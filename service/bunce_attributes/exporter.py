"""The exporter: an HTTP server with `/metrics` for Prometheus, and `/healthz` and `/readyz` for an orchestrator.

It never calls the API and needs no key. Nothing that it serves is about a single row.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import redis
import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bunce_attributes.connections import connect, explain
from bunce_attributes.metrics import Figures, families
from bunce_attributes.outbox.outbox import Outbox
from bunce_attributes.settings import Settings
from bunce_attributes.status import read_workers, snapshot_of

REDIS_TIMEOUT_SECONDS = 3.0
"""Less than the 10 s after which Prometheus gives a scrape up: an answer that Redis is away is worth having."""


class RedisFigures(Collector):
    """Reads the figures of one namespace, anew for each scrape."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.client = connect(
            settings.redis_url, timeout_seconds=REDIS_TIMEOUT_SECONDS, client_name=f"{settings.namespace}-metrics"
        )
        self._outbox = Outbox(self.client, settings)

    def collect(self) -> Iterator[Family]:
        """The metrics; of a Redis out of reach only that it is."""
        try:
            figures: Figures | None = self.read()
        except redis.RedisError:
            figures = None
        return families(figures, self._settings.namespace)

    def describe(self) -> Iterator[Family]:
        """Nothing, so that Redis need not be there when the exporter starts."""
        return iter(())

    def read(self) -> Figures:
        """The figures of now.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach or refuses.
        """
        status = self._outbox.status()
        return Figures(
            snapshot=snapshot_of(status, read_workers(self._outbox, int(status["now_ms"]))),
            status=status,
            memory=self.client.info("memory"),
            requests_per_minute=self._settings.requests_per_minute,
        )


def exporter_app(settings: Settings) -> Starlette:
    """The application; it reads Redis when it is asked, never before."""
    collector = RedisFigures(settings)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)

    # Not async: Starlette runs these in threads, so that a slow Redis holds up no health check.
    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=content_type)

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    def readyz(_: Request) -> Response:
        try:
            collector.client.ping()
        except redis.RedisError as error:
            return PlainTextResponse(explain(error, settings.redis_url) + "\n", status_code=503)
        return PlainTextResponse("ok\n")

    return Starlette(routes=[Route("/metrics", metrics), Route("/healthz", healthz), Route("/readyz", readyz)])


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket.

    Raises:
        OSError: the address cannot be listened on.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve until SIGTERM or Ctrl-C."""
    config = uvicorn.Config(
        exporter_app(settings),
        access_log=False,
        # Its lines go the way of ours.
        log_config=None,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    _Server(config).run([listener])


class _Server(uvicorn.Server):
    def handle_exit(self, sig: int, frame: Any) -> None:  # noqa: ARG002 - uvicorn's signature
        # uvicorn raises the signal again when it is done; an order to stop that was obeyed is no failure.
        self.should_exit = True
