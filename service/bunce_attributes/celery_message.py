"""The bytes of the Celery message ``bunce_attributes.update(rows, lane=…)``, written without Celery. Pure.

Celery protocol 2 as kombu keeps it in a Redis list: ``docs/producing.md`` explains every field.
"""

from __future__ import annotations

import json
import os
import socket
from base64 import b64encode
from collections.abc import Sequence
from uuid import uuid4

from bunce_attributes.updates import Lane

TASK_NAME = "bunce_attributes.update"
HIDDEN = "-"
"""What Celery's tools show instead of the arguments, which are personal data. Empty would show the real ones."""
ENQUEUED_AT_HEADER = "enqueued_at"
"""Unix seconds at which the producer wrote the message: what the latency from end to end is measured from."""

_EMBED = '{"callbacks":null,"errbacks":null,"chain":null,"chord":null}'


def update_message(rows_json: Sequence[str], *, queue: str, lane: Lane, enqueued_at: float) -> bytes:
    """One message with rows that are JSON already.

    Args:
        rows_json: each row as a JSON object.
        queue: the Redis list that the message goes into.
        lane: which rows go first.
        enqueued_at: Unix seconds.
    """
    task_id = str(uuid4())
    body = f'[[[{",".join(rows_json)}]],{{"lane":"{lane.value}"}},{_EMBED}]'
    return (
        f'{{"body":"{b64encode(body.encode()).decode("ascii")}",'
        '"content-encoding":"utf-8","content-type":"application/json",'
        f'"headers":{{"lang":"py","task":"{TASK_NAME}","id":"{task_id}","root_id":"{task_id}","parent_id":null,'
        '"shadow":null,"group":null,"group_index":null,"eta":null,"expires":null,"retries":0,"timelimit":[null,null],'
        f'"argsrepr":"{HIDDEN}","kwargsrepr":"{HIDDEN}","origin":{json.dumps(_origin())},"ignore_result":true,'
        f'"replaced_task_nesting":0,"stamped_headers":null,"stamps":{{}},"{ENQUEUED_AT_HEADER}":{enqueued_at:.6f}}},'
        f'"properties":{{"correlation_id":"{task_id}","delivery_mode":2,'
        f'"delivery_info":{{"exchange":"","routing_key":{json.dumps(queue)}}},'
        f'"priority":0,"body_encoding":"base64","delivery_tag":"{uuid4()}"}}}}'
    ).encode()


def _origin() -> str:
    return f"{os.getpid()}@{_HOST}"


_HOST = socket.gethostname()
