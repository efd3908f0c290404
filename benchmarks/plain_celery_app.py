"""The simplest that could be done: each message is a call, with one row or with a hundred, and nothing is checked."""

from __future__ import annotations

import os
from typing import Any

import httpx
from celery import Celery

app = Celery("plain_celery_app", broker=os.environ["REDIS_URL"])
app.conf.update(task_ignore_result=True, task_default_queue="benchmark")

_http = httpx.Client(headers={"X-Authorization": os.environ["BUNCE_API_KEY"]}, timeout=10)


@app.task(acks_late=True)
def update(rows: list[Any]) -> None:
    """One call of the rows of a message."""
    url = f"{os.environ['BUNCE_API_URL']}/attributes/customers"
    _http.post(url, json={"attributes": rows}).raise_for_status()
