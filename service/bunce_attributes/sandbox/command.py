"""The command `sandbox`."""

import gc
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import click

from bunce_attributes.sandbox.config import (
    DATA_TYPES,
    DEFAULT_HOST,
    DEFAULT_MAX_BODY_BYTES,
    DEFAULT_PORT,
    DataType,
    SandboxConfig,
    SandboxError,
)


@click.command(short_help="A local stand-in for the API.")
@click.option("--host", default=DEFAULT_HOST, show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0 takes a free one."
)
@click.option("--port-file", type=click.Path(path_type=Path), help="Write the port here once it listens.")
@click.option(
    "--key", "keys", multiple=True, help="Accept this API key and no other (repeatable).  [default: any sk_test_…]"
)
@click.option(
    "--attribute",
    "attributes",
    multiple=True,
    metavar="UUID:TYPE",
    help=f"An attribute that exists from the start, of type {', '.join(DATA_TYPES)} (repeatable).",
)
@click.option("--strict-attributes", is_flag=True, help="Refuse rows of unknown attributes, instead of creating these.")
@click.option("--requests-per-minute", type=int, default=500, show_default=True, help="Limit for each client address.")
@click.option("--no-limit", is_flag=True, help="No rate limit.")
@click.option(
    "--penalty", type=float, default=60, show_default=True, help="Seconds an address is refused once over the limit."
)
@click.option("--max-rows", type=int, help="Rows in a call, past it 413.  [default: no limit]")
@click.option(
    "--max-bytes", type=int, default=DEFAULT_MAX_BODY_BYTES, show_default=True, help="Bytes in a call, past it 413."
)
@click.option(
    "--faults",
    "faults_json",
    metavar="JSON|@FILE",
    help="What goes wrong, like '{\"latency\": 0.2}'; docs/sandbox.md has all faults.",
)
@click.option("--latency", type=float, help="Shortcut: seconds every answer takes.")
@click.option("--refuse-share", type=float, help="Shortcut: the share of rows to refuse, 0 to 1.")
@click.option("--refuse-times", type=int, help="Shortcut: how often each of these is refused.  [default: 1]")
@click.option("--seed", type=int, help="Shortcut: which rows these are.")
@click.option("--instant", is_flag=True, help="Answer without looking at the rows; for benchmarks.")
@click.option("--no-log", is_flag=True, help="Keep no call log; for long runs.")
@click.option("--until-stdin-closes", is_flag=True, help="Stop when standard input ends.")
def sandbox(
    *,
    host: str,
    port: int,
    port_file: Path | None,
    keys: tuple[str, ...],
    attributes: tuple[str, ...],
    strict_attributes: bool,
    requests_per_minute: int,
    no_limit: bool,
    penalty: float,
    max_rows: int | None,
    max_bytes: int,
    faults_json: str | None,
    latency: float | None,
    refuse_share: float | None,
    refuse_times: int | None,
    seed: int | None,
    instant: bool,
    no_log: bool,
    until_stdin_closes: bool,
) -> None:
    """Run a local stand-in for the API, in memory, until it is interrupted.

    Set BUNCE_API_URL to the address it prints, and BUNCE_API_KEY to any key that it accepts.
    """
    shortcuts = {"latency": latency, "refuse_share": refuse_share, "refuse_times": refuse_times, "seed": seed}
    try:
        config = SandboxConfig(
            keys=frozenset(keys),
            strict_attributes=strict_attributes,
            attributes=dict(_attribute(text) for text in attributes),
            requests_per_minute=None if no_limit else requests_per_minute,
            penalty_seconds=penalty,
            max_rows=max_rows,
            max_body_bytes=max_bytes,
            instant=instant,
            log=not no_log,
        )
        _serve(
            config,
            _faults_text(faults_json, shortcuts),
            host=host,
            port=port,
            port_file=port_file,
            until_stdin_closes=until_stdin_closes,
        )
    except SandboxError as error:
        raise click.ClickException(str(error)) from error


def _serve(
    config: SandboxConfig, faults: str, *, host: str, port: int, port_file: Path | None, until_stdin_closes: bool
) -> None:
    # --help and the other commands need no web server.
    from bunce_attributes.sandbox.app import SandboxApp  # noqa: PLC0415
    from bunce_attributes.sandbox.faults import parse_faults  # noqa: PLC0415
    from bunce_attributes.sandbox.server import SandboxServer, listen, root_url  # noqa: PLC0415

    app = SandboxApp(config, parse_faults(faults))
    listener = listen(host, port)
    server = SandboxServer(app)
    root = root_url(host, listener)
    click.echo(f"Sandbox for BUNCE_API_URL={root}/v1 with BUNCE_API_KEY={config.example_key}")
    click.echo(f"What it holds: {root}/_sandbox/values   What it saw: {root}/_sandbox/stats   Stop: Ctrl+C")
    if port_file is not None:
        _write_port(port_file, listener.getsockname()[1])
    if until_stdin_closes:
        threading.Thread(target=_stop_at_end_of_stdin, args=(server,), daemon=True).start()
    # Nearly all objects here are rows that live on. Looking through them as often as Python does by default (every
    # 700 allocations) doubles the time a call of 100 rows takes.
    gc.set_threshold(100_000, 20, 100)
    server.run([listener])


def _stop_at_end_of_stdin(server: Any) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    server.should_exit = True


def _write_port(port_file: Path, port: int) -> None:
    # A reader that sees the file sees all of it.
    unfinished = port_file.with_name(port_file.name + ".unfinished")
    try:
        unfinished.write_text(f"{port}\n")
        unfinished.replace(port_file)
    except OSError as error:
        raise SandboxError(f"The port file {port_file} cannot be written: {error.strerror}.") from error


def _attribute(text: str) -> tuple[str, DataType]:
    attribute_id, _, wanted = text.partition(":")
    data_type = next((known for known in DATA_TYPES if known == wanted), None)
    if data_type is None:
        raise SandboxError(f"--attribute {text}: give UUID:TYPE, the type one of {', '.join(DATA_TYPES)}.")
    return attribute_id, data_type


def _faults_text(given: str | None, shortcuts: dict[str, float | None]) -> str:
    text = given or "{}"
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SandboxError(f"--faults {given}: the file cannot be read: {error}.") from error
    wanted = {name: value for name, value in shortcuts.items() if value is not None}
    if not wanted:
        return text
    try:
        faults = json.loads(text)
    except ValueError as error:
        raise SandboxError(f"--faults is no JSON: {error}.") from error
    if not isinstance(faults, dict):
        raise SandboxError("--faults is no JSON object: give one, like '{\"latency\": 0.2}'.")
    return json.dumps({**faults, **wanted})
