"""docs/producing.md is true: its snippets run, its commands are typed, its message is what is written and read."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from bunce_attributes import AttributeUpdates
from bunce_attributes.celery_message import update_message
from bunce_attributes.messages import Rows, read_message
from bunce_attributes.updates import Lane

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "producing.md").read_text(encoding="utf-8")
QUEUE = "bunce-attributes"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def files() -> dict[str, str]:
    """Blocks that are introduced by the name of a file."""
    return dict(re.findall(r"`([\w.]+)`:\n\n```\w+\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL))


def rows_queued(client: Redis) -> int:
    raw = client.lrange(QUEUE, 0, -1)
    assert isinstance(raw, list)
    read = [read_message(message) for message in raw]
    return sum(len(message.rows) for message in read if isinstance(message, Rows))


def test_the_python_snippets_run_one_after_the_other(redis_url: str, redis_client: Redis) -> None:
    names: dict[str, Any] = {}
    for snippet in blocks("python"):
        exec(compile(snippet.replace("redis://localhost:6379/0", redis_url), "producing.md", "exec"), names)
    assert rows_queued(redis_client) == 1 + 10_000 + 1 + 1 + 1


def test_the_commands_run(redis_url: str, redis_client: Redis, tmp_path: Path) -> None:
    for name, content in files().items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    command = bin_folder / "bunce-attributes"
    command.write_text(f"#!{sys.executable}\nfrom bunce_attributes.cli import main\nmain()\n", encoding="utf-8")
    command.chmod(0o755)
    environment = {**os.environ, "REDIS_URL": redis_url, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    commands = "".join(blocks("sh"))
    assert commands.count("bunce-attributes enqueue") == 5
    done = subprocess.run(
        ["sh", "-ec", commands], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert rows_queued(redis_client) == 2 + 3 + 1 + 1


def test_the_message_is_the_one_that_is_written() -> None:
    (shown,) = (json.loads(block) for block in blocks("json") if '"delivery_tag"' in block)
    (body,) = (block for block in blocks("json") if block.startswith("[[["))
    row = body[3 : body.index("]]")]
    written = json.loads(update_message([row], queue=QUEUE, lane=Lane.LIVE, enqueued_at=1769860800.123457))
    varying = {"id", "root_id", "origin", "correlation_id", "delivery_tag"}
    for part in ("headers", "properties"):
        assert list(shown[part]) == list(written[part])
        for name in set(shown[part]) - varying:
            assert shown[part][name] == written[part][name], name
    assert {**shown, "headers": 0, "properties": 0} == {**written, "headers": 0, "properties": 0}
    assert b64decode(shown["body"]).decode() == body.strip()


def test_the_message_is_read() -> None:
    (shown,) = (block for block in blocks("json") if '"delivery_tag"' in block)
    read = read_message(shown.encode())
    assert isinstance(read, Rows)
    assert read.enqueued_at == 1769860800.123457


def test_the_rights_that_it_names_are_enough_for_a_producer(redis_url: str, redis_client: Redis) -> None:
    match = re.search(r"alone needs `([^`]+)`", TEXT)
    assert match is not None
    redis_client.acl_setuser("producer", enabled=True, reset=True, passwords=["+pw"])
    try:
        redis_client.execute_command("ACL", "SETUSER", "producer", *match.group(1).split())
        place = redis_url.rpartition("@")[2]
        with AttributeUpdates(f"redis://producer:pw@{place}") as updates:
            updates.enqueue(attribute="9f171295-6935-400c-af6b-fd628a46bc71", customer_id="1", value="x")
    finally:
        redis_client.acl_deluser("producer")
    assert rows_queued(redis_client) == 1


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((\.\./[^)#]+)\)", TEXT))))
def test_a_link_leads_somewhere(link: str) -> None:
    assert (ROOT / "docs" / link).resolve().exists()


@pytest.mark.parametrize("anchor", sorted(set(re.findall(r"\]\(#([^)]+)\)", TEXT))))
def test_a_link_within_the_page_leads_somewhere(anchor: str) -> None:
    headings = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
