"""What the commands say before they need a Redis."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.table import Table

from bunce_attributes.checks.findings import fault
from bunce_attributes.cli import main
from bunce_attributes.cli.demo import demo
from bunce_attributes.cli.metrics import metrics
from bunce_attributes.cli.pages import print_page


def test_a_misspelt_command_is_told_what_is_meant(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bunce-attributes", "stauts"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "No such command 'stauts'. Is 'status' meant?" in capsys.readouterr().err


def test_metrics_on_a_port_that_is_taken_fail_with_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(metrics, ["--port", str(port)])
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: metrics cannot be served on 127.0.0.1:{port}: ")
    assert "are served" not in result.output
    assert len(result.output.splitlines()) == 1


def test_a_folder_is_no_file_for_the_demo(tmp_path: Path) -> None:
    result = CliRunner().invoke(demo, [str(tmp_path)])
    assert result.exit_code == 1
    assert f"{tmp_path} is a folder" in result.stderr


def test_a_table_in_a_pipe_has_one_line_a_row_and_no_blanks_at_the_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("a", "word " * 30)
    table.add_row("b", "short")
    print_page(table)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(line == line.rstrip() for line in lines)


def test_a_finding_that_ends_in_a_question_gets_no_full_stop() -> None:
    assert str(fault("Redis", "is it running?", "Start it.")) == "Redis: is it running? Start it."
    assert str(fault("API", "no key", "Set it.")) == "API: no key. Set it."


def test_ctrl_c_before_the_first_line_of_a_pipe_says_that_nothing_was_sent(tmp_path: Path) -> None:
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from bunce_attributes.cli.enqueue import enqueue\n"
        "import bunce_attributes.cli.enqueue as module\n"
        "opened = module.Lines\n"
        "def announced(*given):\n    print('reading', flush=True)\n    return opened(*given)\n"
        "module.Lines = announced\n"
        "enqueue(['-'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "REDIS_URL": "redis://127.0.0.1:1/0"},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reading\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert said == "Interrupted. Nothing was sent.\n"
    assert process.returncode == 1
