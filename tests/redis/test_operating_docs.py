"""Every command in docs/operating.md is run, in its order, against a namespace that has what it speaks of."""

from __future__ import annotations

import re
import shlex
import subprocess
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from redis import Redis
from tests.redis.station import API_URL, JOB, Station, row

from bunce_attributes.outbox.outbox import ClaimedCall

TEXT = (Path(__file__).parents[2] / "docs" / "operating.md").read_text(encoding="utf-8")
SECTIONS = re.split(r"^## ", TEXT, flags=re.MULTILINE)
AN_ID = "1795562437523-000000017"
NEVER_ENDS = "--watch"


def commands(section: str) -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", section, flags=re.DOTALL)
    return [line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def station(redis_client: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Station:
    """With dead letters of the bad import, and its attribute paused by the brake."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("BUNCE_API_URL", API_URL)
    station = Station(redis_client, redis_url, brake_min_rows=3, max_attempts=2)
    station.put(*(row(f"c{i}", "31/01/2026") for i in range(5)))
    station.refuse_everything()
    return station


def run(station: Station, line: str) -> str:
    letters = list(station.letters.walk())
    words = shlex.split(line.replace(AN_ID, letters[0].id if letters else AN_ID))
    if words[0] != "bunce-attributes":
        return subprocess.run(["bash", "-ec", line], check=True, capture_output=True, text=True).stdout
    command = getattr(import_module(f"bunce_attributes.cli.{words[1]}"), words[1])
    assert isinstance(command, click.Command)
    if NEVER_ENDS in words:
        command.make_context(words[1], words[2:])
        return ""
    result = CliRunner().invoke(command, words[2:], input="y\n")
    allowed = {0, 1} if words[1] == "check" else {0, 3}
    assert result.exit_code in allowed, (line, result.output)
    return result.output


@pytest.mark.parametrize(
    "section", [text for text in SECTIONS if commands(text)], ids=lambda text: text.splitlines()[0].replace(" ", "-")
)
def test_every_command_of_the_page_works(station: Station, section: str) -> None:
    if section.startswith("Dead letters"):
        station.outbox.resume(JOB, bury=True)
        station.refuse_everything()
    for line in commands(section):
        run(station, line)
        if "--bury" in line or line.startswith("bunce-attributes pause --attribute"):
            station.refuse_everything()
    station.figures()


def test_the_bad_import_ends_with_every_row_saved_in_the_right_form(station: Station) -> None:
    (section,) = (text for text in SECTIONS if text.startswith("A bad import"))
    seen = ""
    for line in commands(section):
        seen += run(station, line)
        if "--bury" in line:
            station.refuse_everything()
    assert "is paused by the brake" in seen
    assert "5 rows exported" in seen
    assert "5 dead letters purged" in seen
    station.take_in()
    sent = [one for _ in range(2) if isinstance(call := station.claim(), ClaimedCall) for one in call.rows]
    assert {one.body for one in sent} == {
        f'{{"id":"{JOB}","value":"2026-01-31T00:00:00Z","customer_id":"c{i}"}}'.encode() for i in range(5)
    }


def test_the_page_speaks_of_every_reason_of_the_gate_and_every_class_of_dead_letter() -> None:
    from bunce_attributes.cli.dead import REASONS
    from bunce_attributes.status_page import PAUSES

    assert set(re.findall(r"^\| `(\w+)` \|", TEXT, flags=re.MULTILINE)) >= {*PAUSES, *REASONS}
