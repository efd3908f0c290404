"""Flower, really started, shows what the workers do: calls and messages to their end, and no personal data."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery import Celery
from tests.acceptance.conftest import MakeStage
from tests.acceptance.harness.deadline import until
from tests.acceptance.harness.stage import Stage
from tests.acceptance.harness.workload import ATTRIBUTE

from bunce_attributes.settings import load_settings
from bunce_attributes.worker.celery_app import create_app

CELERY = Path(sys.executable).with_name("celery")
DELIVER, INTAKE, UPDATE = "bunce_attributes.deliver", "bunce_attributes.intake", "bunce_attributes.update"


class Flower:
    """A Flower of a stage."""

    def __init__(self, port: int, log: Path) -> None:
        self.log = log
        self.base = f"http://127.0.0.1:{port}"
        self.anonymous = httpx.Client(base_url=self.base, timeout=10)
        self.client = httpx.Client(base_url=self.base, auth=("bunce", self.password()), timeout=10)

    def password(self) -> str:
        """The one that it made up for this run."""
        found = until(
            "Flower tells its password",
            lambda: re.search(r"bunce:([\w-]+)", self.log.read_text()),
            seconds=30,
            explain=self.log.read_text,
        )
        return found[1]

    def get(self, path: str) -> Any:
        return self.client.get(path).raise_for_status().json()

    def tasks(self) -> list[dict[str, Any]]:
        return list(self.get("/api/tasks?limit=100000").values())

    def ended(self) -> Counter[tuple[str, str]]:
        """How many tasks of which name are in which state."""
        return Counter((task["name"], task["state"]) for task in self.tasks())

    def is_up(self) -> bool:
        try:
            return self.anonymous.get("/healthcheck").is_success
        except httpx.TransportError:
            return False

    def sees(self, workers: int) -> bool:
        found = self.get("/api/workers?refresh=1").values()
        return sum(bool(worker.get("active_queues")) for worker in found) == workers


@contextmanager
def flower(stage: Stage) -> Iterator[Flower]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {name: value for name, value in stage.environment().items() if name != "BUNCE_API_KEY"}
    log = stage.folder / "flower.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [CELERY, "-A", "bunce_attributes.worker.app", "flower", f"--port={port}", "--logging=none"],
            env={**environment, "PYTHONUNBUFFERED": "1"},
            cwd=stage.folder,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        shown = Flower(port, log)
        until("Flower is up", shown.is_up, seconds=30, explain=log.read_text)
        yield shown
    finally:
        process.terminate()
        process.wait(20)


def send(stage: Stage, *args: Any, task: str = UPDATE, queue: str = "bunce-attributes") -> str:
    """A message as any Celery program writes it; its id."""
    app = Celery(broker=stage.url, set_as_current=False)
    return str(app.send_task(task, args=args, queue=queue).id)


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_every_call_is_seen_to_its_end(make_stage: MakeStage, pool: str) -> None:
    """Celery 5.6 loses events with the threads pool: calls would seem to run for ever."""
    stage = make_stage(settings={"BUNCE_BATCH_MAX_ROWS": "5"})
    with flower(stage) as shown:
        stage.start_ready(2, pool=pool, concurrency=4)
        until("Flower sees both workers", lambda: shown.sees(2), seconds=30)
        stage.enqueue([f"c{number}" for number in range(600)])
        stage.drain(seconds=60)

        def unfinished() -> list[dict[str, Any]]:
            return [task for task in shown.tasks() if task["state"] != "SUCCESS"]

        def rows_sent() -> int:
            results = [task["result"] for task in shown.tasks() if task["name"] == DELIVER and task["result"]]
            return sum(int(found[1]) for result in results if (found := re.search(r"'saved': (\d+)", result)))

        until(
            "the results of all calls are seen",
            lambda: rows_sent() == 600 and not unfinished(),
            seconds=20,
            explain=lambda: f"{rows_sent()} rows, {shown.ended()}",
        )
        assert {task["worker"].split("@")[0] for task in shown.tasks() if task["name"] == DELIVER} == {"w0", "w1"}
        calls = [task["result"] for task in shown.tasks() if task["name"] == DELIVER and "saved" in task["result"]]
        assert all(re.search(r"'ms': \d+", result) for result in calls), "results tell rows and milliseconds"


def test_a_failed_call_is_a_failure_with_one_line(stage: Stage) -> None:
    """A traceback of ours tells an operator nothing, and the API's words may quote a row."""
    stage.sandbox.put_faults({"calls": [{"do": "answer", "status": 500, "message": "no ada@example.com", "times": 1}]})
    with flower(stage) as shown:
        stage.start_ready()
        until("Flower sees the worker", lambda: shown.sees(1), seconds=30)
        stage.enqueue(["ada"])
        stage.drain(seconds=30)
        until("the failure is seen", lambda: shown.ended()[DELIVER, "FAILURE"] == 1, seconds=10)
        failed = next(task for task in shown.tasks() if task["state"] == "FAILURE")
        page = shown.client.get(f"/task/{failed['uuid']}").text
    assert re.match(r"CallFailed\('1 rows, HTTP 500, \d+ ms: the API fails; ", failed["exception"])
    assert failed["traceback"] is None
    assert "Traceback" not in page
    assert "CallFailed" in page
    assert "ada@example.com" not in page


def test_messages_can_be_followed_and_hold_no_rows(make_stage: MakeStage) -> None:
    """The producer has the id that `send_task` gave it, and wants to know what became of the message."""
    stage = make_stage(settings={"BUNCE_MESSAGE_EVENTS": "true"})
    row = {"id": ATTRIBUTE, "customer_email": "ada@example.com", "value": "a secret"}
    with flower(stage) as shown:
        stage.start_ready()
        until("Flower sees the worker", lambda: shown.sees(1), seconds=30)
        good, mixed = send(stage, row), send(stage, [row, {**row, "id": "no uuid"}])
        bad, unreadable = send(stage, {**row, "id": "no uuid"}), send(stage)
        until(
            "all four are seen",
            lambda: sum(shown.ended()[UPDATE, state] for state in ("SUCCESS", "FAILURE")) == 4,
            seconds=20,
        )
        tasks = {task["uuid"]: task for task in shown.tasks()}
        everything = json.dumps(shown.tasks()) + json.dumps(shown.get("/api/workers?refresh=1"))
    assert tasks[good]["state"] == "SUCCESS"
    assert tasks[good]["result"] == "{'rows': 1, 'invalid': 0}"
    assert tasks[mixed]["result"] == "{'rows': 2, 'invalid': 1}"
    assert tasks[bad]["state"] == "FAILURE"
    assert tasks[bad]["exception"] == "The row is invalid; bunce-attributes dead list tells why."
    assert "The message has no rows" in tasks[unreadable]["exception"]
    assert tasks[good]["runtime"] >= 0
    assert "example.com" not in everything
    assert "secret" not in everything


def test_messages_are_not_told_of_unless_asked_for(stage: Stage) -> None:
    """It costs intake and Flower three events a message."""
    with flower(stage) as shown:
        stage.start_ready()
        until("Flower sees the worker", lambda: shown.sees(1), seconds=30)
        stage.enqueue(["ada"])
        stage.drain(seconds=30)
        until("the call is seen", lambda: shown.ended()[DELIVER, "SUCCESS"], seconds=10)
        assert {name for name, _ in shown.ended()} == {DELIVER, INTAKE}


def test_both_queues_are_on_the_page_of_the_broker(stage: Stage) -> None:
    """With no worker yet, and with one."""
    with flower(stage) as shown:
        stage.enqueue(["ada"])
        before = shown.get("/api/queues/length")["active_queues"]
        assert {queue["name"]: queue["messages"] for queue in before} == {
            "bunce-attributes": 1,
            "bunce-attributes:work": 0,
        }
        stage.start_ready()
        until("Flower sees the worker", lambda: shown.sees(1), seconds=30)
        after = shown.get("/api/queues/length")["active_queues"]
        assert {queue["name"] for queue in after} == {"bunce-attributes", "bunce-attributes:work"}


def test_flower_without_a_password_makes_one_up(stage: Stage) -> None:
    """By itself it shows its pages to everybody."""
    with flower(stage) as shown:
        assert shown.anonymous.get("/tasks").status_code == 401
        assert shown.client.get("/tasks").status_code == 200


def test_no_worker_consumes_the_producers_queue_through_celery(stage: Stage) -> None:
    """Celery's consumer pops a message before it notes it: a kill at that moment loses it."""
    stage.start_ready()
    settings = load_settings(redis_url=stage.url)
    app = create_app(settings)
    answers = app.control.add_consumer("bunce-attributes", reply=True, timeout=10, limit=1)
    assert ["read by the intake" in str(answer) for answer in answers] == [True]
    stage.enqueue(["ada", "bob"])
    stage.drain(seconds=30)
    assert stage.findings().all == ()


def test_the_application_for_tools_starts_no_worker(stage: Stage) -> None:
    environment = stage.environment() | {"PATH": os.environ["PATH"]}
    command = [CELERY, "-A", "bunce_attributes.worker.app", "worker", "--pool=solo"]
    done = subprocess.run(
        command, check=False, env=environment, cwd=stage.folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "bunce-attributes worker" in done.stderr
