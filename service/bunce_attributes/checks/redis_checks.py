"""Is this Redis fit to keep what must not be lost? Pure: from what ``INFO`` and ``CONFIG GET`` tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bunce_attributes.checks.findings import Finding, fault, ok, warning

OLDEST_VERSION = (6, 2)
MOST_SKEW_SECONDS = 5.0
OCCURRED_AT_TOLERANCE_SECONDS = 300.0
"""What intake allows ``occurred_at`` to be ahead."""


def server(info: Mapping[str, Any]) -> Iterator[Finding]:
    """Version, role, cluster."""
    name = str(info.get("server_name", "redis"))
    version = str(info.get("redis_version", "0"))
    shown = str(info.get(f"{name}_version", version))
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < OLDEST_VERSION:
        yield fault("version", f"{name} {shown}", "Upgrade to Redis 6.2 or later, or to Valkey.")
    else:
        yield ok("version", f"{name} {shown}")
    if int(info.get("cluster_enabled", 0)):
        yield fault("cluster", "this is a Redis Cluster", "Use a single Redis or Sentinel: Cluster is not supported.")
    if info.get("role", "master") != "master":
        yield fault(
            "role", "this is a replica, which takes no writes", "Name the primary, or use sentinel:// in REDIS_URL."
        )


def persistence(info: Mapping[str, Any], appendfsync: str | None) -> Iterator[Finding]:
    """Whether rows survive a restart of Redis.

    Args:
        appendfsync: None where the server does not tell.
    """
    if not int(info.get("aof_enabled", 0)):
        yield fault(
            "persistence",
            "the append-only file is off: a restart of Redis loses rows",
            "Set `appendonly yes` and `appendfsync always`; with a managed Redis its durable option.",
        )
    elif str(info.get("aof_last_write_status", "ok")) != "ok":
        yield fault(
            "persistence",
            "the append-only file cannot be written, so that Redis takes no more rows",
            "Look at Redis' log and its disk.",
        )
    elif appendfsync is None:
        yield warning(
            "persistence",
            "the append-only file is on; how often it reaches the disk is not told (CONFIG is not allowed)",
            "See in the service's console that it is `always`, or accept that a crash may lose a second of rows.",
        )
    elif appendfsync != "always":
        yield warning(
            "persistence",
            f"the append-only file is on with appendfsync {appendfsync}: a crash of the machine may lose rows",
            "Set `appendfsync always`, unless that is accepted.",
        )
    else:
        yield ok("persistence", "append-only file, on disk before a write is answered")


def memory(info: Mapping[str, Any], high_water: float) -> Iterator[Finding]:
    """Eviction policy, and how full it is."""
    limit, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        found = f"maxmemory-policy is {policy}: a full Redis throws rows away"
        mend = "Set `maxmemory-policy noeviction`."
        yield fault("eviction", found, mend) if limit else warning("eviction", f"{found}, once it has a limit", mend)
    else:
        yield ok("eviction", "noeviction")
    megabytes = f"{used / 2**20:,.0f} MB"
    if not limit:
        yield warning(
            "memory",
            f"{megabytes} used, no maxmemory: the system ends a Redis that takes all there is",
            "Set `maxmemory` to about three quarters of the machine's memory.",
        )
    elif used > limit * high_water:
        yield fault(
            "memory",
            f"{used * 100 // limit} % of maxmemory used: the queue is not read until calls have made room",
            "Raise maxmemory, or see in `bunce-attributes status` why rows do not leave.",
        )
    else:
        yield ok("memory", f"{megabytes} used, {used * 100 // limit} % of maxmemory")


def clock(skew_seconds: float, whose: str = "this host") -> Finding:
    """How far a clock is from Redis'; positive if it is ahead."""
    way = "ahead of" if skew_seconds > 0 else "behind"
    found = f"{whose} is {abs(skew_seconds):.1f} s {way} Redis"
    if abs(skew_seconds) <= MOST_SKEW_SECONDS:
        return ok("clock", found)
    mend = "Let both hosts keep time with NTP."
    if skew_seconds > OCCURRED_AT_TOLERANCE_SECONDS:
        return fault("clock", f"{found}: rows with an occurred_at of this clock are refused", mend)
    return warning("clock", f"{found}: versions by occurred_at may come in the wrong order", mend)
