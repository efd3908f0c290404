"""Which Celery apps are refused, and why: their messages would lie where no worker of ours looks."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery

from bunce_attributes import AttributeUpdates, UnusableCeleryApp


def app(broker: str = "redis://:s3cr3t@h:6379/0", **options: Any) -> Celery:
    made = Celery(broker=broker, set_as_current=False)
    made.conf.update(options)
    return made


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"broker_transport_options": {"global_keyprefix": "myapp:"}}, "global_keyprefix 'myapp:'"),
        ({"broker_transport_options": {"sep": ":"}}, "sep ':'"),
        ({"broker_transport_options": {"priority_steps": list(range(10))}}, "priority_steps"),
        ({"broker_transport_options": {"priority_steps": [3, 6]}}, "priority_steps"),
        ({"task_protocol": 1}, "task_protocol is 1"),
    ],
)
def test_options_that_rename_lists_are_refused_with_the_reason(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UnusableCeleryApp) as raised:
        AttributeUpdates(celery_app=app(**options))
    assert said in str(raised.value)
    assert "use AttributeUpdates with the workers' REDIS_URL" in str(raised.value)


@pytest.mark.parametrize("broker", ["memory://", "amqp://guest@h//"])
def test_another_broker_than_redis_is_refused(broker: str) -> None:
    with pytest.raises(UnusableCeleryApp, match="the workers read from Redis"):
        AttributeUpdates(celery_app=app(broker))


@pytest.mark.parametrize(
    ("broker", "redis_url", "where"),
    [
        ("redis://:s3cr3t@h:6379/1", "redis://h:6379/0", "another database"),
        ("redis://:s3cr3t@h:6379/0", "redis://other:6379/0", "another Redis"),
        ("redis://:s3cr3t@h:6380/0", "redis://h:6379/0", "another Redis"),
        ("redis+socket:///a.sock?virtual_host=1", "unix:///a.sock?db=2", "another database"),
        ("redis+socket:///a.sock", "unix:///b.sock", "another Redis"),
        ("redis://h", "unix:///b.sock", "another Redis"),
        ("sentinel://a:1/0", "sentinel://a:1/0?master_name=other", "another Redis"),
        ("sentinel://a:1/1;sentinel://b:1", "sentinel://a:1,b:1/0?master_name=m", "another database"),
    ],
)
def test_an_app_on_another_database_is_refused(broker: str, redis_url: str, where: str) -> None:
    with pytest.raises(UnusableCeleryApp) as raised:
        AttributeUpdates(
            redis_url,
            celery_app=app(broker, broker_transport_options={"master_name": "m"} if "sentinel" in broker else {}),
        )
    assert where in str(raised.value)
    assert "s3cr3t" not in str(raised.value)


@pytest.mark.parametrize(
    ("broker", "redis_url"),
    [
        ("redis://h", "redis://h:6379/0"),
        ("redis://127.0.0.1:6379//", "redis://localhost"),
        ("rediss://h:1/3?ssl_cert_reqs=required", "rediss://h:1/3"),
        ("redis+socket:///a.sock?virtual_host=2", "unix:///a.sock?db=2"),
        ("sentinel://a:1/2;sentinel://b:1", "sentinel://b:1,a:1/2?master_name=m"),
        ("sentinel://a:1/2", "sentinel://a:1/2?master_name=m"),
    ],
)
def test_an_app_on_the_same_database_is_taken(broker: str, redis_url: str) -> None:
    options = {"master_name": "m"} if broker.startswith("sentinel") else {}
    AttributeUpdates(redis_url, celery_app=app(broker, broker_transport_options=options))


def test_priority_steps_that_the_workers_read_are_taken() -> None:
    AttributeUpdates(celery_app=app(broker_transport_options={"priority_steps": [0, 3, 6, 9], "sep": "\x06\x16"}))


def test_one_of_url_and_app_is_needed() -> None:
    with pytest.raises(TypeError, match="needs a Redis URL or celery_app="):
        AttributeUpdates()
