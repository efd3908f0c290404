"""The command, as a process and as far as it can be wrong without becoming one."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import httpx
import pytest
from click.testing import CliRunner
from pydantic import BaseModel
from tests.sandbox.account import AGE, TEXT, row

from bunce_attributes.sandbox import SandboxError, SandboxProcess, faults
from bunce_attributes.sandbox.command import sandbox as command

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "sandbox.md").read_text(encoding="utf-8")


def _post(sandbox: SandboxProcess, *rows: dict[str, str], key: str = "sk_test_sandbox") -> httpx.Response:
    return httpx.post(
        f"{sandbox.url}/attributes/customers",
        json={"attributes": list(rows)},
        headers={"X-Authorization": key},
        trust_env=False,
    )


def test_options_reach_the_sandbox() -> None:
    with SandboxProcess(
        *("--key", "sk_live_mine", "--attribute", f"{AGE}:numeric", "--strict-attributes"),
        *("--requests-per-minute", "3", "--penalty", "9", "--max-rows", "2"),
        *("--faults", '{"refuse": [{"customer_id": "bad"}]}', "--latency", "0.001"),
    ) as sandbox:
        answer = _post(sandbox, row("1", "x", AGE), row("1", "x", TEXT), key="sk_live_mine")
        assert sorted(answer.json()["data"]["errors"]) == ["0", "1"]
        assert list(_post(sandbox, row("bad", "7", AGE), key="sk_live_mine").json()["data"]["errors"]) == ["0"]
        assert _post(sandbox, *[row("1", "7", AGE)] * 3, key="sk_live_mine").status_code == 413
        limited = _post(sandbox, row("1", "7", AGE), key="sk_live_mine")
        assert (limited.status_code, limited.headers["retry-after"]) == (429, "9")


def test_it_says_where_it_listens_and_ends_cleanly_on_sigterm(tmp_path: Path) -> None:
    port_file = tmp_path / "port"
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "bunce_attributes.sandbox", "--port", "0", "--port-file", str(port_file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        first, second = process.stdout.readline(), process.stdout.readline()
        root = f"http://127.0.0.1:{re.findall(r':([0-9]+)/v1', first)[0]}"
        assert first == f"Sandbox for BUNCE_API_URL={root}/v1 with BUNCE_API_KEY=sk_test_sandbox\n"
        assert f"{root}/_sandbox/values" in second
        assert httpx.get(f"{root}/_sandbox/stats", trust_env=False).json()["rows_saved"] == 0
        assert port_file.read_text() == f"{root.rsplit(':', 1)[1]}\n"
        process.send_signal(signal.SIGTERM)
        rest, complaints = process.communicate(timeout=20)
        assert (process.returncode, rest, complaints) == (0, "", "")
    finally:
        process.kill()
        process.wait()


def test_it_ends_with_its_parent() -> None:
    parent = subprocess.run(
        [
            sys.executable,
            "-c",
            "import os; from bunce_attributes.sandbox import SandboxProcess\n"
            "print(SandboxProcess().pid, flush=True); os._exit(1)",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    pid = int(parent.stdout)
    # Its exit code belongs to init; that nobody holds its pid any more is all that shows.
    _wait_until_gone(pid)


def _wait_until_gone(pid: int) -> None:
    script = f"""
import os, sys, time
deadline = time.monotonic() + 20
while time.monotonic() < deadline:
    try:
        os.kill({pid}, 0)
    except ProcessLookupError:
        sys.exit(0)
    if os.path.exists("/proc/{pid}/stat") and open("/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] == "Z":
        sys.exit(0)
    time.sleep(0.02)
sys.exit(1)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--requests-per-minute", "0"], "requests_per_minute is 0"),
        (["--max-rows", "0"], "max_rows is 0"),
        (["--penalty", "-1"], "penalty_seconds is -1"),
        (["--attribute", "nonsense:text"], "'nonsense' is no UUID"),
        (["--attribute", TEXT], "--attribute " + TEXT),
        (["--attribute", f"{TEXT}:date"], "text, timestamp, numeric"),
        (["--faults", "{"], "These faults cannot be set"),
        (["--faults", "{", "--latency", "1"], "--faults is no JSON"),
        (["--faults", "[]", "--latency", "1"], "--faults is no JSON object"),
        (["--faults", '{"latencies": 1}'], "latencies"),
        (["--faults", "@/nowhere/faults.json"], "/nowhere/faults.json"),
        (["--refuse-share", "2"], "refuse_share"),
        (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1"),
        (["--port-file", "/nowhere/port"], "/nowhere/port cannot be written"),
    ],
)
def test_what_cannot_be_is_one_sentence(options: list[str], complaint: str) -> None:
    result = CliRunner().invoke(command, ["--port", "0", *options])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert complaint in result.stderr
    assert "Traceback" not in result.output


def test_a_process_that_cannot_start_says_why() -> None:
    with pytest.raises(SandboxError, match="did not start: Error: requests_per_minute is 0"):
        SandboxProcess("--requests-per-minute", "0")


def test_faults_can_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "faults.json"
    file.write_text('{"calls": [{"do": "answer", "status": 503}]}')
    with SandboxProcess("--faults", f"@{file}", "--seed", "5") as sandbox:
        assert _post(sandbox, row("1")).status_code == 503


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl on this machine")
def test_the_commands_of_the_guide_work() -> None:
    scripts = re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL)
    assert len(scripts) == 2
    with SandboxProcess() as sandbox:

        def run(script: str) -> str:
            shell = ["sh", "-ec", script.replace("http://127.0.0.1:8400", sandbox.root)]
            return subprocess.run(shell, capture_output=True, text=True, timeout=60, check=True).stdout

        answers = run(scripts[0])
        assert '"errors":{}' in answers
        assert '"first_name":"Dami Edited"' in answers
        assert '"seen":0' in run(scripts[1])
        assert {value["identity"] for value in sandbox.values()} == {
            "verynewcustomer@gmail.com",
            "new_id_100",
            "290000",
        }


def test_the_guide_names_every_fault() -> None:
    models: list[type[BaseModel]] = [faults.Faults, faults.Refusal, faults.Shapes, *get_args(faults.CallRule)]
    names = {name for model in models for name in model.model_fields} | set(get_args(faults.MalformedKind))
    for rule in get_args(faults.CallRule):
        names |= set(get_args(rule.model_fields["do"].annotation))
    assert {name for name in names if f"`{name}`" not in GUIDE} == set()


def test_the_guide_names_every_option() -> None:
    named = {option for parameter in command.params for option in parameter.opts}
    unexplained = {option for option in named if option not in GUIDE}
    assert unexplained == set()


def test_it_imports_nothing_from_the_rest_of_the_package() -> None:
    """Service and stand-in are written apart: a misreading of the documentation would hide in shared code."""
    for file in (ROOT / "service" / "bunce_attributes" / "sandbox").glob("*.py"):
        for imported in re.findall(r"^\s*(?:from|import) (bunce_attributes[\w.]*)", file.read_text(), re.MULTILINE):
            assert imported.startswith("bunce_attributes.sandbox"), f"{file.name} imports {imported}"


def test_help_loads_no_web_server() -> None:
    script = (
        "import sys; from bunce_attributes.sandbox.command import sandbox; "
        "sys.exit(any(name in sys.modules for name in ('uvicorn', 'starlette', 'httpx')))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, env={**os.environ}).returncode == 0
