"""The Celery application: wake-ups on a work queue of our own, and nothing else.

Every setting has its reason; the facts behind them are in docs/architecture.md, "Celery on Redis".
"""

from __future__ import annotations

import os

from celery import Celery
from kombu.entity import Queue

from bunce_attributes.connections import broker_transport_options, broker_url
from bunce_attributes.outbox.keys import work_queue
from bunce_attributes.settings import Settings

INTAKE_TASK = "bunce_attributes.intake"
DELIVER_TASK = "bunce_attributes.deliver"
BROKER_VARIABLES = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL")


def create_app(settings: Settings) -> Celery:
    """The Celery application of a namespace, with its tasks and, in workers, the dispatcher."""
    namespace = settings.namespace
    queue = work_queue(namespace)
    for name in BROKER_VARIABLES:
        # Celery lets them win over any configuration, and wake-ups would go to another Redis than the rows.
        os.environ.pop(name, None)
    app = Celery("bunce_attributes", set_as_current=False, events="bunce_attributes.worker.events:WholeEvents")
    app.conf.update(
        broker_url=broker_url(settings.redis_url),
        broker_transport_options={
            # What is being worked on is noted in the outbox. Noting each wake-up in Redis as well would cost as much
            # as the wake-up, only to repeat it when its slot has long been free; and a full Redis would refuse it.
            "ack_emulation": False,
            "client_name": f"{namespace}-celery",
            **broker_transport_options(settings.redis_url),
        },
        # Applications that share a Redis must not share kombu's bookkeeping.
        control_exchange=f"{namespace}:pidbox",
        event_exchange=f"{namespace}:events",
        event_queue_prefix=f"{namespace}:events",
        # Wait for Redis for ever: an orchestrator that restarts us would not bring it back.
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        worker_consumer="bunce_attributes.worker.consumer:QuickConsumer",
        # A full or read-only Redis refuses commands for a while; without this the process would end.
        broker_channel_error_retry=True,
        # Calls in flight finish when the connection is lost: they are settled in the outbox, not by Celery.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_queues=(Queue(queue, routing_key=queue),),
        task_default_queue=queue,
        task_create_missing_queues=False,
        task_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        # Nobody waits for a result; Flower gets it from the events.
        task_ignore_result=True,
        # Late or early makes no difference to the rows; late lets a wake-up of a stopped worker run elsewhere.
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        worker_eta_task_limit=100,
        worker_send_task_events=True,
        task_send_sent_event=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        # Prefork only: a child's memory stays bounded.
        worker_max_tasks_per_child=10_000,
        task_publish_retry=False,
        enable_utc=True,
        bunce_settings=settings,
    )
    from bunce_attributes.worker.dispatcher import DispatcherStep  # noqa: PLC0415 - as below
    from bunce_attributes.worker.events import EventsTogether  # noqa: PLC0415 - as below
    from bunce_attributes.worker.reading import FurtherReaders  # noqa: PLC0415 - as below
    from bunce_attributes.worker.tasks import register_tasks  # noqa: PLC0415 - the tasks import this module

    register_tasks(app, settings)
    app.steps["worker"].add(DispatcherStep)
    app.steps["consumer"].update((EventsTogether, FurtherReaders))
    return app
