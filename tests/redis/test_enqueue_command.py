"""`bunce-attributes enqueue` as it is typed: what it prints, what it queues, and its exit codes."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from bunce_attributes.embedded_redis import EmbeddedRedis

ATTRIBUTE = "9f171295-6935-400c-af6b-fd628a46bc71"
OTHER = "9f171295-6935-400c-af6b-fd628a46bc72"
HEAD = "id,customer_id,value\n"
COMMAND = [sys.executable, "-c", "from bunce_attributes.cli import main; main()", "enqueue"]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(redis_url: str) -> dict[str, str]:
    return {**os.environ, "REDIS_URL": redis_url, "COLUMNS": "200", "NO_COLOR": "1"}


@pytest.fixture
def run(redis_url: str, tmp_path: Path) -> Run:
    def running(*arguments: str, stdin: bytes = b"", url: str = redis_url) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*COMMAND, *arguments], cwd=tmp_path, env=environment(url), input=stdin, capture_output=True, check=False
        )
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    return running


def bodies(client: Redis) -> list[Any]:
    raw = client.lrange("bunce-attributes", 0, -1)
    assert isinstance(raw, list)
    return [json.loads(b64decode(json.loads(message)["body"])) for message in reversed(raw)]


def queued(client: Redis) -> list[tuple[str, str]]:
    """Customer and value of each row, in the order of the queue."""
    rows = [row for body in bodies(client) for row in body[0][0]]
    return [
        (row.get("customer_id") or row.get("customer_email") or row["customer"]["email"], row["value"]) for row in rows
    ]


def write(folder: Path, name: str, content: str) -> str:
    (folder / name).write_text(content, encoding="utf-8")
    return name


def test_a_file_is_queued_in_the_lane_bulk(run: Run, tmp_path: Path, redis_client: Redis) -> None:
    done = run(write(tmp_path, "people.csv", f"{HEAD}{ATTRIBUTE},1,x\n{ATTRIBUTE},2,y\n"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 rows queued in 1 message, lane bulk")
    assert queued(redis_client) == [("1", "x"), ("2", "y")]
    assert bodies(redis_client)[0][1] == {"lane": "bulk"}


def test_live_rows_go_first_when_asked(run: Run, tmp_path: Path, redis_client: Redis) -> None:
    assert run(write(tmp_path, "people.csv", f"{HEAD}{ATTRIBUTE},1,x\n"), "--live").returncode == 0
    assert bodies(redis_client)[0][1] == {"lane": "live"}


def test_one_line_a_customer(run: Run, tmp_path: Path, redis_client: Redis) -> None:
    people = write(tmp_path, "people.csv", "email,Job Title,Plan,Notes\na@b.c,Developer,gold,x\nd@e.f,,silver,\n")
    done = run(people, "--map", f"Job Title={ATTRIBUTE}", "--map", f"plan={OTHER}")
    assert done.returncode == 0, done.stderr
    assert queued(redis_client) == [("a@b.c", "Developer"), ("a@b.c", "gold"), ("d@e.f", "silver")]
    assert "columns that are not used: Notes" in done.stderr


def test_json_lines_from_a_pipe_in_gzip(run: Run, redis_client: Redis) -> None:
    row = {"attribute": ATTRIBUTE, "customer": {"email": "a@b.c"}, "value": 3}
    done = run("-", stdin=gzip.compress(json.dumps(row).encode()))
    assert done.returncode == 0, done.stderr
    assert queued(redis_client) == [("a@b.c", "3")]


def test_refused_rows_can_be_mended_and_enqueued_again(run: Run, tmp_path: Path, redis_client: Redis) -> None:
    people = write(tmp_path, "people.csv", f"{HEAD}{ATTRIBUTE},1,x\nno-uuid,2,y\n{ATTRIBUTE},3,z\n")
    done = run(people, "--rejects", "rejects.csv")
    assert done.returncode == 3
    assert "line 3: id: must be the attribute's UUID, for example" in done.stderr
    assert "1 row refused; mend it in rejects.csv and enqueue that file" in done.stdout
    assert queued(redis_client) == [("1", "x"), ("3", "z")]

    rejects = tmp_path / "rejects.csv"
    write(tmp_path, "rejects.csv", rejects.read_text(encoding="utf-8").replace("no-uuid", ATTRIBUTE))
    assert run("rejects.csv").returncode == 0
    assert queued(redis_client)[-1] == ("2", "y")


def test_a_dry_run_judges_every_row_and_needs_no_redis(run: Run, tmp_path: Path, redis_client: Redis) -> None:
    people = write(tmp_path, "people.csv", f"{HEAD}{ATTRIBUTE},1,x\nno-uuid,2,y\n")
    done = run(people, "--dry-run", url="redis://127.0.0.1:1/0")
    assert done.returncode == 3
    assert "1 row good; nothing was sent" in done.stdout
    assert not redis_client.exists("bunce-attributes")


def test_many_refused_rows_do_not_flood_the_terminal(run: Run, tmp_path: Path) -> None:
    done = run(write(tmp_path, "people.csv", HEAD + "no-uuid,2,y\n" * 1000), "--dry-run")
    assert done.stderr.count("must be the attribute's UUID") == 20
    assert "--rejects FILE keeps them all" in done.stderr
    assert "1,000 rows refused" in done.stdout


def test_a_missing_column_is_one_error_and_nothing_is_sent(run: Run, tmp_path: Path, redis_client: Redis) -> None:
    done = run(write(tmp_path, "people.csv", "id,value\nx,y\n"))
    assert done.returncode == 1
    assert done.stderr.strip().count("\n") == 0
    assert "there is no column customer_id or customer_email" in done.stderr
    assert not redis_client.exists("bunce-attributes")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument"),
        (["people.csv", "--map", "Job"], '"Column=attribute id"'),
        (["people.csv", "--map", "Job=x"], '"Column=attribute id"'),
        (["people.csv", "--map", f"={ATTRIBUTE}"], '"Column=attribute id"'),
        (["people.csv", "--map", f"A={ATTRIBUTE}", "--map", f"A={OTHER}"], "mapped twice"),
        (["people.csv", "--map", f"A={ATTRIBUTE}", "--map", f"B={ATTRIBUTE}"], "two columns are mapped"),
        (["people.csv", "--skip", "-1"], "--skip"),
    ],
)
def test_a_wrong_command_line_is_said(run: Run, arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_wrong_settings_are_said(run: Run, tmp_path: Path) -> None:
    done = run(write(tmp_path, "people.csv", HEAD), url="http://:s3cr3t@h")
    assert done.returncode == 2
    assert "REDIS_URL" in done.stderr
    assert "s3cr3t" not in done.stderr


def test_a_redis_out_of_reach_is_said(run: Run, tmp_path: Path) -> None:
    done = run(write(tmp_path, "people.csv", f"{HEAD}{ATTRIBUTE},1,x\n"), url="redis://127.0.0.1:1/0")
    assert done.returncode == 1
    assert "connection refused" in done.stderr
    assert "Nothing was sent." in done.stderr


def command_to_go_on(stderr: str) -> list[str]:
    words = stderr.strip().splitlines()[-1].split()
    assert words[:2] == ["bunce-attributes", "enqueue"]
    return words[2:]


def test_a_full_redis_stops_with_the_command_that_goes_on(run: Run, tmp_path: Path) -> None:
    people = write(tmp_path, "people.csv", HEAD + "".join(f"{ATTRIBUTE},{n},x\n" for n in range(20_000)))
    with EmbeddedRedis(appendfsync="no", config={"maxmemory": "3mb"}) as server:
        first = run(people, url=server.url)
        assert first.returncode == 1
        assert "is full" in first.stderr
        client = server.client()
        client.config_set("maxmemory", 0)
        assert run(*command_to_go_on(first.stderr), url=server.url).returncode == 0
        assert [int(customer) for customer, _ in queued(client)] == list(range(20_000))


def test_ctrl_c_stops_with_the_command_that_goes_on(
    run: Run, tmp_path: Path, redis_url: str, redis_client: Redis
) -> None:
    lines = [f"{ATTRIBUTE},{number},x\n" for number in range(6000)]
    people = write(tmp_path, "people.csv", HEAD + "".join(lines))
    with subprocess.Popen(
        [*COMMAND, "-", "--live"],
        cwd=tmp_path,
        env=environment(redis_url),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        # A pipe that falls silent in the middle of a line, after more than one push of rows.
        process.stdin.write((HEAD + "".join(lines[:5000]) + ATTRIBUTE).encode())
        process.stdin.flush()
        deadline = time.monotonic() + 20
        while redis_client.llen("bunce-attributes") < 16 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        # The pipe stays open: nothing but the signal ends the command.
        said = process.stderr.read().decode()
        assert process.wait(10) == 1
    assert "Interrupted." in said
    assert "Everything up to line" in said
    rest = command_to_go_on(said)
    assert rest[:2] == ["-", "--live"]
    assert run(people, *rest[1:]).returncode == 0
    assert [int(customer) for customer, _ in queued(redis_client)] == list(range(6000))


def test_a_terminal_gets_a_bar(tmp_path: Path, redis_url: str) -> None:
    pty = pytest.importorskip("pty")
    people = write(tmp_path, "people.csv", HEAD + f"{ATTRIBUTE},1,x\n" * 150_000)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, people, "--dry-run"],
        cwd=tmp_path,
        env={**environment(redis_url), "TERM": "xterm"},
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        shown = b""
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:
            # How Linux says that the other side is closed.
            pass
        assert process.wait(20) == 0
    os.close(ours)
    assert b"%" in shown
    assert b" rows" in shown
