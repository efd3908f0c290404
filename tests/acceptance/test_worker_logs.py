"""What a worker says: JSON, one line a call, and neither a row nor the key, whatever it meets."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from celery import Celery
from tests.acceptance.conftest import MakeStage
from tests.acceptance.harness.deadline import until
from tests.acceptance.harness.stage import Stage
from tests.acceptance.harness.workers import Worker
from tests.acceptance.harness.workload import ATTRIBUTE

KEY = "sk_test_Zm9vYmFy/echoed"
PERSONAL = ("ada@", "example.com", "Lovelace", "a secret value")
ROW = {
    "id": ATTRIBUTE,
    "value": "a secret value",
    "customer": {"email": "ada@example.com", "first_name": "Ada", "last_name": "Lovelace"},
}


def lines(worker: Worker) -> list[dict[str, Any]]:
    """What it said; fails if a line is no JSON object."""
    said = [json.loads(line) for line in worker.text().splitlines()]
    assert all(isinstance(line, dict) and {"event", "level", "timestamp"} <= line.keys() for line in said)
    return said


def events(worker: Worker, event: str) -> list[dict[str, Any]]:
    return [line for line in lines(worker) if line["event"] == event]


def send(stage: Stage, row: object, *, task: str = "bunce_attributes.update", queue: str = "bunce-attributes") -> None:
    Celery(broker=stage.url, set_as_current=False).send_task(task, args=[row], queue=queue)


def assert_nothing_personal(worker: Worker) -> None:
    text = worker.text().replace(worker.log.parent.as_posix(), "")
    assert [word for word in (*PERSONAL, KEY) if word in text] == []


def test_every_line_is_json_from_start_to_stop(stage: Stage) -> None:
    """Celery's banner and its farewell are no JSON, and a collector of logs would break on them."""
    worker = stage.start_ready()[0]
    stage.enqueue(["c1"])
    stage.drain(seconds=30)
    worker.terminate()
    assert worker.ended(seconds=30) == 0
    said = [line["event"] for line in lines(worker)]
    assert said[0] == "worker starts"
    assert any("shutdown" in event for event in said)
    assert said[-1] == "worker stopped"


def test_a_call_is_one_line_with_its_figures(stage: Stage) -> None:
    worker = stage.start_ready()[0]
    stage.enqueue([f"c{number}" for number in range(7)])
    stage.drain(seconds=30)
    until("the call is told", lambda: events(worker, "call"), seconds=10)
    call = events(worker, "call")[0]
    assert (call["level"], call["rows"], call["saved"], call["status"]) == ("info", 7, 7, 200)
    assert call["ms"] >= 0
    assert len(events(worker, "call")) == 1


def test_what_the_api_echoes_is_in_no_line(make_stage: MakeStage) -> None:
    """It may quote the key that it was sent, and the row that it did not like."""
    stage = make_stage(settings={"BUNCE_API_KEY": KEY, "BUNCE_MAX_ATTEMPTS": "2"})
    words = f"{KEY}: ada@example.com Lovelace"
    stage.sandbox.put_faults(
        {
            "refuse": [{"customer_email": "ada@example.com", "times": 1, "message": words}],
            "shapes": {"echo_key": True},
            "calls": [
                {"do": "answer", "status": 500, "message": words, "times": 1},
                {"do": "answer", "status": 422, "message": words, "times": 1},
            ],
        }
    )
    worker = stage.start_ready()[0]
    send(stage, ROW)
    stage.drain(seconds=30)
    failed = events(worker, "call failed")
    assert [(line["level"], line["status"], line["verdict"]) for line in failed] == [("warning", 500, "outage")]
    assert_nothing_personal(worker)
    stored = json.dumps([str(value) for value in stage.client.hgetall("bunce-attributes:dead").values()])
    assert KEY not in stored


def test_a_refused_key_is_loud_once_and_shows_in_no_line(make_stage: MakeStage) -> None:
    """An error each minute would bury the next one; none at all would leave the queue to grow unseen."""
    stage = make_stage(settings={"BUNCE_API_KEY": KEY})
    stage.sandbox.put_faults({"calls": [{"do": "answer", "status": 401, "message": f"bad key {KEY}", "times": 1}]})
    worker = stage.start_ready()[0]
    send(stage, ROW)
    until("the refusal is told", lambda: events(worker, "call failed"), seconds=30)
    assert [line["level"] for line in events(worker, "call failed")] == ["error"]
    assert_nothing_personal(worker)


def test_a_message_for_somebody_else_is_not_quoted(stage: Stage) -> None:
    """Celery logs the whole body of a task that it does not know."""
    worker = stage.start_ready()[0]
    send(stage, ROW, task="someones.task", queue="bunce-attributes:work")
    stage.client.lpush("bunce-attributes:work", json.dumps(_undecodable()))
    until("both are told of", lambda: len(_dropped(worker)) == 2, seconds=20, explain=worker.text)
    assert {line["level"] for line in _dropped(worker)} == {"error"}
    assert_nothing_personal(worker)
    assert worker.alive


def _dropped(worker: Worker) -> list[dict[str, Any]]:
    return [line for line in lines(worker) if "is not one of ours" in line["event"]]


def _undecodable() -> dict[str, Any]:
    return {
        "body": json.dumps(ROW),
        "content-type": "application/x-python-serialize",
        "content-encoding": "binary",
        "headers": {"task": "bunce_attributes.deliver", "id": "1", "lang": "py", "argsrepr": "ada@example.com"},
        "properties": {
            "delivery_tag": "1",
            "delivery_info": {"exchange": "", "routing_key": "bunce-attributes:work"},
            "body_encoding": "utf-8",
        },
    }


def test_rows_that_are_refused_at_intake_are_not_quoted(stage: Stage) -> None:
    worker = stage.start_ready()[0]
    send(stage, [{**ROW, "id": "ada@example.com"}, {**ROW, "ada@example.com": 1}])
    until("both are dead", lambda: stage.status()["dead"] == 2, seconds=30)
    assert_nothing_personal(worker)


def test_a_redis_that_is_away_is_a_warning_in_one_line(stage: Stage) -> None:
    """It mends itself: an error with a traceback for each connection would wake somebody for nothing."""
    worker = stage.start_ready()[0]
    stage.server.stop()
    until("both threads tell of it", lambda: len(_away(worker)) >= 2, seconds=30, explain=worker.text)
    assert "runs as root" in worker.text() or os.geteuid() != 0
    time.sleep(4)  # Celery tries again meanwhile
    assert len(_away(worker)) == 2, "once is enough"
    stage.server.start()
    until("it is back", lambda: events(worker, "Redis is back"), seconds=60, explain=worker.text)
    assert {line["level"] for line in _away(worker)} == {"warning"}
    assert not [line for line in lines(worker) if line["level"] == "error" or "exception" in line]
    assert not [line for line in lines(worker) if "\n" in line["event"] or "PendingDeprecation" in line["event"]]


def _away(worker: Worker) -> list[dict[str, Any]]:
    said = lines(worker)
    return [line for line in said if "out of reach" in line["event"] or "Cannot connect to redis" in line["event"]]
