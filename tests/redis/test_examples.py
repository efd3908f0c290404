"""The examples are run as a reader would run them, and what they enqueue is read as the workers read it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from bunce_attributes.messages import Rows, read_message
from bunce_attributes.updates import Lane, parse_update

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
QUEUE = "bunce-attributes"


def run(command: list[str], redis_url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env={**os.environ, "REDIS_URL": redis_url}, capture_output=True, text=True, check=False
    )


def enqueued(client: Redis) -> list[Rows]:
    raw = client.lrange(QUEUE, 0, -1)
    assert isinstance(raw, list)
    messages = []
    for message in reversed(raw):
        read = read_message(message)
        assert isinstance(read, Rows), read
        for row in read.rows:
            parse_update(row)
        messages.append(read)
    return messages


@pytest.fixture(scope="session")
def node_producer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("the example for Node.js needs node and npm")
    folder = tmp_path_factory.mktemp("node_producer")
    for name in ("producer.js", "package.json", "package-lock.json"):
        shutil.copy(EXAMPLES / "node_producer" / name, folder)
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
    try:
        subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=90)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("npm cannot install celery-node here: is its registry reachable?")
    return folder


@pytest.mark.parametrize(("example", "rows"), [("celery_app_producer.py", 2), ("plain_producer.py", 1)])
def test_a_python_example(example: str, rows: int, redis_url: str, redis_client: Redis, tmp_path: Path) -> None:
    done = run([sys.executable, str(EXAMPLES / example)], redis_url, tmp_path)
    assert done.returncode == 0, done.stderr
    (message,) = enqueued(redis_client)
    assert len(message.rows) == rows
    assert message.lane is Lane.LIVE


@pytest.mark.parametrize("example", ["celery_app_producer.py", "plain_producer.py"])
def test_no_example_of_another_door_needs_our_package(example: str) -> None:
    assert "import bunce" not in (EXAMPLES / example).read_text(encoding="utf-8")


def test_the_node_example(node_producer: Path, redis_url: str, redis_client: Redis) -> None:
    done = run(["node", "producer.js"], redis_url, node_producer)
    assert done.returncode == 0, done.stderr
    (message,) = enqueued(redis_client)
    assert [row.get("customer_id") or row.get("customer_email") for row in message.rows] == [
        "290000",
        "ada@example.com",
    ]


def test_the_node_example_fails_where_redis_cannot_be_reached(node_producer: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert run(["node", "producer.js"], f"redis://127.0.0.1:{port}/0", node_producer).returncode == 1
