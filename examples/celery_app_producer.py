"""A Celery application that enqueues attribute updates without installing bunce-attributes.

REDIS_URL=redis://localhost:6379/0 python examples/celery_app_producer.py
"""

import os

from celery import Celery

QUEUE = os.environ.get("BUNCE_NAMESPACE", "bunce-attributes")
JOB_TITLE = "9f171295-6935-400c-af6b-fd628a46bc71"

app = Celery("my_application", broker=os.environ.get("REDIS_URL", "redis://localhost:6379/0"))
app.conf.update(
    # Without this route the task would go to the application's own queue, where nobody knows it.
    task_routes={"bunce_attributes.update": {"queue": QUEUE}},
    task_serializer="json",
)


def enqueue(rows: list[dict[str, object]], lane: str = "live") -> None:
    """Send up to some hundred rows as one message."""
    app.send_task(
        "bunce_attributes.update",
        args=[rows],
        kwargs={"lane": lane},
        ignore_result=True,
        # What Celery's tools show in place of the rows, which are personal data.
        argsrepr="-",
        kwargsrepr="-",
    )


if __name__ == "__main__":
    enqueue(
        [
            {"id": JOB_TITLE, "customer_id": "290000", "value": "Developer"},
            {"id": JOB_TITLE, "customer_email": "ada@example.com", "value": "Analyst"},
        ]
    )
    print("2 rows enqueued")
