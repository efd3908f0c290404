"""Our own messages are what Celery itself would have written, as far as any reader can tell."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

from celery import Celery
from kombu import Connection

from bunce_attributes.celery_message import update_message
from bunce_attributes.updates import Lane

ROW = '{"id":"9f171295-6935-400c-af6b-fd628a46bc71","value":"Žofie \\"Z\\" 🎈","customer_id":"1"}'


def message(**changes: Any) -> dict[str, Any]:
    options: dict[str, Any] = {"queue": "bunce-attributes", "lane": Lane.LIVE, "enqueued_at": 1795559753.25} | changes
    decoded: dict[str, Any] = json.loads(update_message([ROW, ROW], **options))
    return decoded


def celerys_own() -> dict[str, Any]:
    app = Celery(broker="memory://", set_as_current=False)
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        app.send_task(
            "bunce_attributes.update",
            args=[[json.loads(ROW)] * 2],
            kwargs={"lane": "live"},
            queue="bunce-attributes",
            ignore_result=True,
            connection=connection,
        )
        raw: dict[str, Any] = channel._get("bunce-attributes")
    return raw


def test_it_has_every_field_that_celery_writes() -> None:
    ours, theirs = message(), celerys_own()
    assert set(ours) == set(theirs)
    assert set(theirs["headers"]) <= set(ours["headers"])
    assert set(ours["headers"]) - set(theirs["headers"]) <= {"enqueued_at"}
    # Nobody answers, so there is no address for answers.
    assert set(theirs["properties"]) - set(ours["properties"]) <= {"reply_to", "argsrepr", "kwargsrepr"}


def test_its_body_says_what_celerys_own_says() -> None:
    assert json.loads(b64decode(message()["body"])) == json.loads(b64decode(celerys_own()["body"]))


def test_kombu_reads_it() -> None:
    with Connection("memory://") as connection:
        channel = connection.default_channel
        read = channel.message_to_python(message())
        args, kwargs, embed = read.decode()
    assert args == [[json.loads(ROW)] * 2]
    assert kwargs == {"lane": "live"}
    assert not any(embed.values())
    assert read.headers["task"] == "bunce_attributes.update"


def test_it_shows_no_row_to_tools_that_show_arguments() -> None:
    # Empty texts would make Celery show the real arguments.
    headers = message()["headers"]
    assert (headers["argsrepr"], headers["kwargsrepr"]) == ("-", "-")


def test_it_says_when_it_was_written_and_in_which_lane_it_goes() -> None:
    bulk = message(lane=Lane.BULK)
    assert bulk["headers"]["enqueued_at"] == 1795559753.25
    assert json.loads(b64decode(bulk["body"]))[1] == {"lane": "bulk"}


def test_no_two_messages_share_an_id_or_a_delivery_tag() -> None:
    # A doubled tag would overwrite another message wherever Celery consumes.
    one, other = message(), message()
    assert one["headers"]["id"] != other["headers"]["id"]
    assert one["properties"]["delivery_tag"] != other["properties"]["delivery_tag"]
    assert one["headers"]["id"] == one["properties"]["correlation_id"]


def test_any_name_of_a_queue_is_written_as_json() -> None:
    assert message(queue='a"b\\c')["properties"]["delivery_info"] == {"exchange": "", "routing_key": 'a"b\\c'}
