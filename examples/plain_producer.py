"""A program that writes the message of docs/producing.md into Redis by itself: no Celery, no bunce-attributes.

REDIS_URL=redis://localhost:6379/0 python examples/plain_producer.py
"""

import json
import os
import time
import uuid

import redis

QUEUE = os.environ.get("BUNCE_NAMESPACE", "bunce-attributes")
JOB_TITLE = "9f171295-6935-400c-af6b-fd628a46bc71"


def message(rows: list[dict[str, object]], lane: str = "live") -> str:
    """The shortest message that is read: a plain JSON body and the fields that are needed."""
    return json.dumps(
        {
            "body": json.dumps([[rows], {"lane": lane}, None]),
            "content-type": "application/json",
            "content-encoding": "utf-8",
            "headers": {"task": "bunce_attributes.update", "id": str(uuid.uuid4()), "enqueued_at": time.time()},
            "properties": {},
        }
    )


if __name__ == "__main__":
    client = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://localhost:6379/0"))
    client.lpush(QUEUE, message([{"id": JOB_TITLE, "customer_id": "290000", "value": "Developer"}]))
    print("1 row enqueued")
