"""What one would pick: celery-batches 0.11 with the settings of its documentation, one row a message."""

from __future__ import annotations

import os
from typing import Any

import httpx
from celery import Celery
from celery_batches import Batches, SimpleRequest

app = Celery("celery_batches_app", broker=os.environ["REDIS_URL"])
# On the command line a prefetch of 0 is ignored, and batches stay at 8 to 16 rows.
app.conf.update(worker_prefetch_multiplier=0, task_ignore_result=True, task_default_queue="benchmark")

_http = httpx.Client(headers={"X-Authorization": os.environ["BUNCE_API_KEY"]}, timeout=10)


# The documentation's example waits 10 s; 1 s is what the service waits.
@app.task(base=Batches, flush_every=100, flush_interval=1, acks_late=True)
def update(requests: list[SimpleRequest]) -> None:
    """One call of whatever has come together."""
    rows: list[Any] = [request.args[0] for request in requests]
    url = f"{os.environ['BUNCE_API_URL']}/attributes/customers"
    _http.post(url, json={"attributes": rows}).raise_for_status()
