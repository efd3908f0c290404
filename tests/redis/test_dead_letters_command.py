"""`bunce-attributes dead`: what an operator types and sees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from redis import Redis
from tests.redis.station import API_URL, JOB, PLAN, Station, row

from bunce_attributes.cli.dead import dead
from bunce_attributes.cli.enqueue import enqueue


@pytest.fixture
def station(redis_client: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Station:
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("BUNCE_API_URL", API_URL)
    monkeypatch.setenv("COLUMNS", "200")
    return Station(redis_client, redis_url)


def run(*words: str, answer: str | None = None) -> Result:
    result = CliRunner().invoke(dead, list(words), input=answer)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_list_shows_a_page_and_how_to_go_on(station: Station) -> None:
    letters = station.die(*(row(f"c{i}") for i in range(3)))
    first = run("list", "--limit", "2")
    assert first.exit_code == 0
    assert [letter.id in first.stdout for letter in letters] == [False, True, True]
    assert "2 of 3 dead letters" in first.stdout
    assert f"--before {letters[1].id}" in first.stderr
    second = run("list", "--before", letters[1].id)
    assert letters[0].id in second.stdout
    assert letters[1].id not in second.stdout


def test_list_as_json_is_one_object_a_line_with_row_and_attempts(station: Station) -> None:
    station.die(row("c1"), row("c2", attribute=PLAN))
    (line,) = run("list", "--json", "--attribute", PLAN).stdout.splitlines()
    shown = json.loads(line)
    assert shown["row"] == row("c2", attribute=PLAN)
    assert shown["attempts"][0]["message"] == "no such attribute"


def test_list_without_dead_letters_says_so(station: Station) -> None:
    assert run("list").stdout == "No dead letters.\n"
    station.die(row("c1"))
    assert "None of the 1 dead letters fits" in run("list", "--reason", "invalid").stdout


def test_show_tells_everything(station: Station) -> None:
    (letter,) = station.die(row("c1", "Developer"))
    shown = run("show", letter.id).stdout
    assert "HTTP 200: no such attribute" in shown
    assert "Developer" in shown
    assert json.loads(run("show", letter.id, "--json").stdout)["id"] == letter.id


def test_show_of_an_unreadable_message_shows_its_bytes(station: Station) -> None:
    station.client.lpush(station.ns, b"\xffno message")
    station.take_in()
    (letter,) = station.letters.walk()
    assert "\\xffno message" in run("show", letter.id).stdout
    assert json.loads(run("list", "--json").stdout)["message_base64"] == "/25vIG1lc3NhZ2U="


def test_replay_by_filter_tells_the_number_and_asks(station: Station) -> None:
    station.die(row("c1"), row("c2"))
    declined = run("replay", "--reason", "attempts", answer="n\n")
    assert declined.exit_code == 1
    assert "Replay 2 dead letters?" in declined.stdout
    assert len(station.letters) == 2
    assert run("replay", "--reason", "attempts", answer="y\n").exit_code == 0
    assert len(station.letters) == 0


def test_replay_reports_what_a_newer_value_has_overtaken(station: Station) -> None:
    (letter,) = station.die(row("c1", "old"))
    station.put(row("c1", "new"))
    overtaken = run("replay", letter.id)
    assert overtaken.exit_code == 3
    assert f"{letter.id}: a newer value" in overtaken.stdout
    assert "1 dead letter stayed as it is" in overtaken.stdout
    assert "add --force" in overtaken.stdout
    assert run("replay", letter.id, "--force").exit_code == 0


def test_force_is_not_offered_where_it_would_not_help(station: Station) -> None:
    station.client.lpush(station.ns, b"no message")
    station.take_in()
    (letter,) = station.letters.walk()
    refused = run("replay", letter.id)
    assert refused.exit_code == 3
    assert "--force" not in refused.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["replay"], "name what to replay"),
        (["purge"], "name what to purge"),
        (["purge", "1700000000000-1", "--all"], "name what to purge"),
        (["replay", "c1"], "no id of a dead letter"),
        (["list", "--since", "yesterday"], "is no moment"),
        (["list", "--attribute", "Job"], "must be the attribute's UUID"),
        (["list", "--before", "x"], "no id of a dead letter"),
        (["purge", "--all"], "add --yes"),
    ],
)
def test_a_wrong_request_is_one_sentence_and_exit_code_2(station: Station, words: list[str], told: str) -> None:
    station.die(row("c1"))
    result = run(*words)
    assert result.exit_code == 2
    assert told in result.stderr
    assert len(station.letters) == 1


@pytest.mark.parametrize("verb", ["show", "replay", "purge"])
def test_an_id_that_is_gone_is_told_with_exit_code_1(station: Station, verb: str) -> None:
    result = run(verb, "1700000000000-1", *(["--yes"] if verb == "purge" else []))
    assert result.exit_code == 1
    assert "1700000000000-1" in result.stderr or "not there" in result.stderr


def test_redis_out_of_reach_is_one_sentence(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    result = run("list")
    assert result.exit_code == 1
    assert "Redis at redis://127.0.0.1:1/0 is not there" in result.stderr


def test_a_dead_letter_of_a_later_release_is_one_sentence(station: Station) -> None:
    station.client.hset(f"{station.ns}:dead", "1700000000000-1", '{"layout":9}')
    result = run("purge", "1700000000000-1", "--yes")
    assert result.exit_code == 1
    assert "a later release of bunce-attributes wrote: upgrade this one" in result.stderr


def test_purge_asks_and_counts(station: Station) -> None:
    station.die(row("c1"), row("c2", attribute=PLAN))
    assert run("purge", "--attribute", JOB, "--yes").stdout == "1 dead letter purged.\n"
    assert station.figures()["purged"] == 1


def test_an_export_is_enqueued_again_and_never_revives_an_old_value(station: Station, tmp_path: Path) -> None:
    station.die(row("c1", "old"), row("c2", "Ünï ☃", occurred_at="2026-01-01T00:00:00.123456Z"))
    station.put(row("c1", "new"))
    station.call()
    file = tmp_path / "dead.jsonl"
    exported = run("export", "--output", str(file))
    assert exported.stderr == "2 rows exported.\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text().splitlines()[1])["occurred_at"] == "2026-01-01T00:00:00.123456Z"
    assert run("purge", "--all", "--yes").exit_code == 0
    assert CliRunner().invoke(enqueue, [str(file)]).exit_code == 0
    station.take_in()
    assert [(sent["customer_id"], sent["value"]) for sent in station.call()] == [("c2", "Ünï ☃")]
    assert station.figures()["superseded"] == 1


def test_an_exported_row_that_was_never_valid_can_be_mended_and_enqueued(station: Station, tmp_path: Path) -> None:
    station.put({"id": JOB, "customer_id": "c1", "valu": "Developer"})
    line = json.loads(run("export").stdout)
    assert "value: is missing" in line["reason"]
    line["row"]["value"] = line["row"].pop("valu")
    file = tmp_path / "mended.jsonl"
    file.write_text(json.dumps(line) + "\n")
    assert CliRunner().invoke(enqueue, [str(file)]).exit_code == 0
    station.take_in()
    assert station.call() == [row("c1", "Developer")]


def test_messages_that_cannot_be_read_are_exported_verbatim_or_counted(station: Station, tmp_path: Path) -> None:
    station.client.lpush(station.ns, b'{"no":"task"}')
    station.take_in()
    without = run("export")
    assert without.stdout == ""
    assert "1 message cannot be read: left out" in without.stderr
    file = tmp_path / "messages.jsonl"
    run("export", "--unreadable-to", str(file))
    assert json.loads(file.read_text())["message"] == '{"no":"task"}'


def test_an_export_into_a_folder_that_is_not_there_is_one_sentence(station: Station, tmp_path: Path) -> None:
    result = run("export", "--output", str(tmp_path / "no" / "dead.jsonl"))
    assert result.exit_code == 1
    assert "cannot be written: No such file or directory" in result.stderr
