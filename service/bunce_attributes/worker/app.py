"""The application for Celery's own tools: ``celery -A bunce_attributes.worker.app flower`` (or ``inspect``).

It needs no API key, and starts no worker. Flower without a password gets one, because its pages are open to all else.
"""

from __future__ import annotations

import os
import secrets
import ssl
import sys
from collections.abc import MutableMapping, Sequence
from typing import Any

from celery import Celery, bootsteps
from kombu.entity import Queue

from bunce_attributes.redis_url import Scheme, parse_redis_url
from bunce_attributes.settings import Settings, SettingsError, load_settings
from bunce_attributes.worker.celery_app import create_app
from bunce_attributes.worker.logs import configure_logging, logger

_AUTHENTICATION = ("FLOWER_BASIC_AUTH", "FLOWER_AUTH", "FLOWER_AUTH_PROVIDER")


class NoWorker(bootsteps.StartStopStep):
    """Ends a worker that was started on this application: it would consume the producers' queue through Celery."""

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        raise SystemExit("This application is for Flower and the like. Start workers with: bunce-attributes worker")


def tools_app(settings: Settings) -> Celery:
    """The application of a namespace as its tools need it: it knows the producers' queue, to show its length."""
    app = create_app(settings)
    app.conf.task_queues = (*app.conf.task_queues, Queue(settings.namespace, routing_key=settings.namespace))
    app.steps["worker"].add(NoWorker)
    place = parse_redis_url(settings.redis_url)
    if place.scheme is Scheme.TLS:
        # Flower's page of queues has a connection of its own, and reads TLS from here alone.
        app.conf.broker_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED, **dict(place.tls_files)}
    return app


def password_for_flower(arguments: Sequence[str], environment: MutableMapping[str, str]) -> str:
    """Give Flower a password if it has none.

    Returns:
        The user and password that were made up, ``user:password``; empty if there was no need.
    """
    chosen = any(environment.get(name) for name in _AUTHENTICATION)
    by_option = any(argument.startswith(("--basic", "--auth")) for argument in arguments)
    if chosen or by_option:
        return ""
    environment["FLOWER_BASIC_AUTH"] = f"bunce:{secrets.token_urlsafe(12)}"
    return environment["FLOWER_BASIC_AUTH"]


try:
    _settings = load_settings()
    app = tools_app(_settings)
except SettingsError as error:
    raise SystemExit(str(error)) from None
if "flower" in sys.argv:
    # With --logging=none Flower leaves it at that.
    configure_logging(_settings)
    made_up = password_for_flower(sys.argv, os.environ)
    if made_up:
        logger.warning("no FLOWER_BASIC_AUTH is set; this one is good until Flower ends", flower_basic_auth=made_up)
