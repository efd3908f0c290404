"""What the service and the API hold when the demo is over."""

from __future__ import annotations

import json

import redis

from bunce_attributes.demo.comparison import DeadLetter, Held
from bunce_attributes.sandbox.client import SandboxClient


def dead_letters(client: redis.Redis, namespace: str) -> list[DeadLetter]:
    """All dead letters as they lie in Redis."""
    letters = []
    for _, text in client.hscan_iter(f"{namespace}:dead"):
        letter = json.loads(text)
        attempts = letter["attempts"]
        message = str(attempts[-1]["message"]) if attempts else str(letter["reason"])
        letters.append(DeadLetter(letter["reason_class"], message, len(attempts), letter.get("row") or {}))
    return letters


def held_values(sandbox: SandboxClient) -> list[Held]:
    """What the API holds."""
    return [
        Held(value["id"], value["customer_id"], value["customer_email"], value["value"]) for value in sandbox.values()
    ]
