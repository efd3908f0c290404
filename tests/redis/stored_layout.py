"""What a release of some layout leaves in Redis, as a file: every key by its type, bytes as base64.

Not Redis' own DUMP, whose format is of one release of Redis. Run as a program after a change of the layout, it writes
the file for the new one; the files of older layouts stay, for as long as a release must read them:

    python -m tests.redis.stored_layout
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

from redis import Redis

from bunce_attributes.celery_message import update_message
from bunce_attributes.decisions import decide
from bunce_attributes.embedded_redis import EmbeddedRedis
from bunce_attributes.intake import Intake
from bunce_attributes.outbox.outbox import ClaimedCall, Outbox
from bunce_attributes.outcomes import CallOutcome, Failed, Processed
from bunce_attributes.retries import RetryPolicy
from bunce_attributes.settings import Settings, load_settings
from bunce_attributes.updates import Lane
from bunce_attributes.worker.heartbeat import READS_LAYOUT

FOLDER = Path(__file__).with_name("data")
ATTRIBUTE = "9f171295-6935-400c-af6b-fd628a46bc71"
BRAKED = "0a6b3d6e-52f8-4c0e-9d1a-3f4de1b0c2aa"
NOW_MS = 1_800_000_000_000
"""When the data was written; a reader's clock must be later."""


def path(layout: int) -> Path:
    return FOLDER / f"layout-{layout}.json"


def stored_settings(url: str) -> Settings:
    return load_settings(
        redis_url=url,
        api_url="http://127.0.0.1:9",
        batch_max_wait_seconds=0.0,
        retry_base_seconds=30.0,
        retry_max_seconds=30.0,
        max_attempts=2,
        requests_per_minute=1_000_000,
    )


def dump(client: Redis) -> dict[str, Any]:
    """Every key of a Redis."""

    def text(data: bytes) -> str:
        return b64encode(data).decode()

    stored: dict[str, Any] = {}
    for key in sorted(client.scan_iter(count=1000)):
        kind = client.type(key)
        value: Any
        match kind:
            case b"string":
                value = text(client.get(key) or b"")
            case b"hash":
                value = sorted([text(name), text(data)] for name, data in client.hgetall(key).items())
            case b"list":
                value = [text(data) for data in client.lrange(key, 0, -1)]
            case b"zset":
                value = [[text(data), score] for data, score in client.zrange(key, 0, -1, withscores=True)]
            case _:
                raise ValueError(f"{key!r} is a {kind!r}")
        stored[text(key)] = {"type": kind.decode(), "value": value}
    return stored


def load(client: Redis, stored: dict[str, Any]) -> None:
    """Write what :func:`dump` read; nothing expires."""
    for name, entry in stored.items():
        key, value = b64decode(name), entry["value"]
        match entry["type"]:
            case "string":
                client.set(key, b64decode(value))
            case "hash":
                client.hset(key, mapping={b64decode(field): b64decode(data) for field, data in value})
            case "list":
                client.rpush(key, *(b64decode(data) for data in value))
            case "zset":
                client.zadd(key, {b64decode(member): score for member, score in value})


def fill(client: Redis, settings: Settings) -> None:
    """One of everything: each place that an update can be in, a call, dead letters, and what is remembered."""
    outbox = Outbox(client, settings, now_ms=NOW_MS)
    intake = Intake(outbox, row_limit_bytes=settings.batch_max_bytes)
    policy = RetryPolicy(settings.max_attempts, settings.retry_base_seconds, settings.retry_max_seconds)

    def put(*customers: str, attribute: str = ATTRIBUTE, value: str = "1", lane: Lane = Lane.LIVE, **more: Any) -> None:
        rows = [json.dumps({"id": attribute, "customer_id": name, "value": value, **more}) for name in customers]
        client.lpush(
            outbox.namespace, update_message(rows, queue=outbox.namespace, lane=lane, enqueued_at=NOW_MS / 1000)
        )
        intake.run()

    def call(outcome: CallOutcome | None) -> None:
        claim = outbox.claim_call(f"call at {outbox.now_ms}", "no token")
        assert isinstance(claim, ClaimedCall), claim
        if outcome is not None:
            outbox.settle(claim.id, decide(outcome, claim.rows, claim.history, policy, lambda: 0.5), {"calls": 1})
        outbox.now_ms += 1000

    put("saved", occurred_at=NOW_MS / 1000 - 10)
    call(Processed(200, {}))
    put("dead")
    call(Processed(200, {0: "no"}))
    outbox.now_ms += 31_000
    call(Processed(200, {0: "no"}))
    put("retried", customer={"customer_id": "retried", "first_name": "Ada"})
    call(Processed(200, {0: "no"}))
    put("in a call")
    call(None)
    put("in a call", value="2")
    put("group 1", "group 2")
    call(Failed(503, "busy", unknown=False))
    outbox.pause(BRAKED)
    put("braked", attribute=BRAKED)
    put("live", occurred_at=NOW_MS / 1000 - 5)
    put("bulk", lane=Lane.BULK)
    put("never valid", attribute="no uuid")
    client.lpush(outbox.namespace, b"no message")
    intake.run()
    client.lpush(
        outbox.namespace,
        update_message(
            [json.dumps({"id": ATTRIBUTE, "customer_id": "queued", "value": "1"})],
            queue=outbox.namespace,
            lane=Lane.LIVE,
            enqueued_at=NOW_MS / 1000,
        ),
    )


def main() -> None:
    """Write the file of the present layout."""
    with EmbeddedRedis(appendfsync="no") as server, server.client() as client:
        fill(client, stored_settings(server.url))
        FOLDER.mkdir(exist_ok=True)
        path(READS_LAYOUT).write_text(json.dumps(dump(client), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
