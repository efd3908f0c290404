"""A sandbox for as long as a `with` block: in a thread of this process, or in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bunce_attributes.sandbox.app import SandboxApp
from bunce_attributes.sandbox.client import SandboxClient
from bunce_attributes.sandbox.config import DEFAULT_HOST, DEFAULT_KEY, SandboxConfig, SandboxError
from bunce_attributes.sandbox.faults import parse_faults
from bunce_attributes.sandbox.server import SandboxServer, listen, root_url

_STOP_SECONDS: Final = 10.0
_START_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.02


class Sandbox(SandboxClient):
    """A sandbox in a background thread, from construction to `close` (or the end of the `with` block).

    Args:
        faults: What goes wrong from the start, as for `put_faults`.
        keys: The API keys it accepts, in place of the configured ones.
        config: Everything else.
        port: 0 takes a free one.

    Attributes:
        key: An API key it accepts.

    Raises:
        SandboxError: The faults cannot be set, or the port cannot be had.
    """

    def __init__(
        self,
        *,
        faults: Mapping[str, Any] | None = None,
        keys: Collection[str] = (),
        config: SandboxConfig | None = None,
        port: int = 0,
    ) -> None:
        chosen = config if config is not None else SandboxConfig()
        if keys:
            chosen = replace(chosen, keys=frozenset(keys))
        app = SandboxApp(chosen, parse_faults(json.dumps(faults or {})))
        # It listens from here on: a client that comes before the thread runs waits in the backlog.
        listener = listen(DEFAULT_HOST, port)
        super().__init__(root_url(DEFAULT_HOST, listener))
        self.key = chosen.example_key
        self._server = SandboxServer(app)
        self._thread = threading.Thread(target=self._server.run, args=([listener],), name="sandbox", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop it; calls that hang end at once."""
        super().close()
        self._server.should_exit = True
        self._thread.join(_STOP_SECONDS)
        if self._thread.is_alive():
            raise SandboxError(f"The sandbox at {self.root} did not stop within {_STOP_SECONDS:g} s.")


class SandboxProcess(SandboxClient):
    """A sandbox in a process of its own, which ends with this one; options as on the command line.

    Attributes:
        key: An API key it accepts, if the options name none.
        pid: Its process id.

    Raises:
        SandboxError: It did not start; the text is what it said.
    """

    def __init__(self, *options: str) -> None:
        self.key = DEFAULT_KEY
        # A file and no pipe: nobody reads it while the sandbox runs.
        self._complaints = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 -- closed in _stop
        with tempfile.TemporaryDirectory(prefix="bunce-sandbox-") as folder:
            port_file = Path(folder) / "port"
            # The pipe on its stdin closes when this process ends, however it ends.
            self._process = subprocess.Popen(  # noqa: S603 -- our own module, with the caller's options
                [
                    *(sys.executable, "-m", "bunce_attributes.sandbox", "--port", "0", "--until-stdin-closes"),
                    *("--port-file", os.fspath(port_file), *options),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._complaints,
            )
            try:
                port = self._wait_for_port(port_file)
            except BaseException:
                self._stop()
                raise
        self.pid = self._process.pid
        super().__init__(f"http://{DEFAULT_HOST}:{port}")

    def close(self) -> None:
        """Stop it."""
        super().close()
        self._stop()

    def _wait_for_port(self, port_file: Path) -> int:
        deadline = time.monotonic() + _START_SECONDS
        while not port_file.exists():
            if self._process.poll() is not None:
                self._complaints.seek(0)
                raise SandboxError(f"The sandbox did not start: {self._complaints.read().strip()}")
            if time.monotonic() > deadline:
                raise SandboxError(f"The sandbox did not listen within {_START_SECONDS:g} s.")
            time.sleep(_POLL_SECONDS)
        return int(port_file.read_text())

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._complaints.close()
        if self._process.stdin is not None:
            self._process.stdin.close()
