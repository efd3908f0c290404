"""Attribute updates for Bunce: the few names that other applications import.

They are loaded at their first use, so that the commands and the worker start without the client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from bunce_attributes.version import __version__

if TYPE_CHECKING:
    from bunce_attributes.celery_app_publisher import UnusableCeleryApp
    from bunce_attributes.producer import AttributeUpdates, InvalidRow
    from bunce_attributes.redis_url import UnusableRedisUrl
    from bunce_attributes.row_batches import EnqueueCounts, EnqueueFailed
    from bunce_attributes.updates import AttributeUpdate, InvalidUpdate, Lane

__all__ = [
    "AttributeUpdate",
    "AttributeUpdates",
    "EnqueueCounts",
    "EnqueueFailed",
    "InvalidRow",
    "InvalidUpdate",
    "Lane",
    "UnusableCeleryApp",
    "UnusableRedisUrl",
    "__version__",
]

_HOMES = {
    "AttributeUpdate": "updates",
    "AttributeUpdates": "producer",
    "EnqueueCounts": "row_batches",
    "EnqueueFailed": "row_batches",
    "InvalidRow": "producer",
    "InvalidUpdate": "updates",
    "Lane": "updates",
    "UnusableCeleryApp": "celery_app_publisher",
    "UnusableRedisUrl": "redis_url",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
