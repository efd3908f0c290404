"""Publishing through an application's own Celery app: the same messages in the same list, whatever its routing."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest
from celery import Celery
from kombu import Queue
from redis import Redis

from bunce_attributes import AttributeUpdates, EnqueueCounts, EnqueueFailed
from bunce_attributes.embedded_redis import EmbeddedRedis

ATTRIBUTE = "9f171295-6935-400c-af6b-fd628a46bc71"
QUEUE = "bunce-attributes"


def row(number: int) -> dict[str, object]:
    return {"attribute": ATTRIBUTE, "customer_id": str(number), "value": "x"}


def messages(client: Redis) -> list[dict[str, Any]]:
    raw = client.lrange(QUEUE, 0, -1)
    assert isinstance(raw, list)
    return [json.loads(message) for message in reversed(raw)]


def app(url: str, **options: Any) -> Celery:
    made = Celery(broker=url, set_as_current=False)
    made.conf.update(options)
    return made


def test_rows_arrive_as_from_our_own_connection(redis_url: str, redis_client: Redis) -> None:
    updates = AttributeUpdates(redis_url, celery_app=app(redis_url), lane="bulk")
    counts = updates.enqueue_many((row(number) for number in range(600)), chunk_rows=250)
    assert counts == EnqueueCounts(rows=600, messages=3)
    sent = [json.loads(b64decode(message["body"])) for message in messages(redis_client)]
    assert [queued["customer_id"] for body in sent for queued in body[0][0]] == [str(number) for number in range(600)]
    assert all(body[1] == {"lane": "bulk"} for body in sent)
    assert all(queued["occurred_at"] > 1_700_000_000 for body in sent for queued in body[0][0])


def test_tools_that_show_arguments_show_none(redis_url: str, redis_client: Redis) -> None:
    AttributeUpdates(celery_app=app(redis_url)).enqueue(attribute=ATTRIBUTE, customer_id="1", value="secret")
    (message,) = messages(redis_client)
    assert (message["headers"]["argsrepr"], message["headers"]["kwargsrepr"]) == ("-", "-")
    assert message["headers"]["ignore_result"] is True
    assert message["headers"]["enqueued_at"] > 1_700_000_000


@pytest.mark.parametrize(
    "options",
    [
        {"task_routes": {"bunce_attributes.*": {"queue": "elsewhere", "exchange": "e", "routing_key": "r"}}},
        {"task_default_queue": "mine", "task_default_exchange": "mine", "task_default_exchange_type": "topic"},
        {"task_queues": [Queue("mine")], "task_default_queue": "mine", "task_create_missing_queues": False},
        {"task_default_priority": 9},
        {"task_serializer": "pickle"},
        {"task_always_eager": True},
    ],
)
@pytest.mark.filterwarnings("ignore::celery.exceptions.AlwaysEagerIgnored")
def test_no_setting_of_the_app_leads_messages_elsewhere(
    redis_url: str, redis_client: Redis, options: dict[str, Any]
) -> None:
    AttributeUpdates(celery_app=app(redis_url, **options)).enqueue(attribute=ATTRIBUTE, customer_id="1", value=1)
    assert redis_client.keys("*") == [QUEUE.encode()]
    assert messages(redis_client)[0]["content-type"] == "application/json"


def test_an_app_that_cannot_publish_says_what_it_lacks(redis_url: str) -> None:
    broken = app(redis_url, task_queues=[Queue("mine")], task_create_missing_queues=False)
    with pytest.raises(EnqueueFailed, match="its configuration names nothing called 'celery'"):
        AttributeUpdates(celery_app=broken).enqueue(attribute=ATTRIBUTE, customer_id="1", value=1)


def test_a_full_redis_is_said() -> None:
    with EmbeddedRedis(appendfsync="no", config={"maxmemory": "3mb"}) as server:
        updates = AttributeUpdates(celery_app=app(server.url))
        with pytest.raises(EnqueueFailed) as raised:
            updates.enqueue_many(row(number) for number in range(1_000_000))
        assert "is full" in raised.value.reason
        assert raised.value.unknown_rows == 0
        assert raised.value.queued.messages == server.client().llen(QUEUE) > 0


def test_a_redis_out_of_reach_is_said_without_the_password() -> None:
    with EmbeddedRedis(appendfsync="no") as server:
        url = server.url
        updates = AttributeUpdates(celery_app=app(url, task_publish_retry=False))
        updates.enqueue(attribute=ATTRIBUTE, customer_id="1", value=1)
        server.stop()
        with pytest.raises(EnqueueFailed) as raised:
            updates.enqueue(attribute=ATTRIBUTE, customer_id="1", value=1)
    assert "Redis at redis://" in str(raised.value)
    assert url.partition("@")[0].rpartition(":")[2] not in str(raised.value)
