"""A private Redis for the demo and the tests; everything about it starts at EmbeddedRedis."""

from bunce_attributes.embedded_redis.binary import ServerBinary, find_server
from bunce_attributes.embedded_redis.errors import (
    EmbeddedRedisError,
    FolderInUseError,
    NoServerFoundError,
    ServerDidNotStartError,
)
from bunce_attributes.embedded_redis.server import EmbeddedRedis

__all__ = [
    "EmbeddedRedis",
    "EmbeddedRedisError",
    "FolderInUseError",
    "NoServerFoundError",
    "ServerBinary",
    "ServerDidNotStartError",
    "find_server",
]
