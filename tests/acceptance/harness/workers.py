"""Worker processes as an operator starts them: `bunce-attributes worker`, with settings in the environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
from tests.acceptance.harness.deadline import until

COMMAND = Path(sys.executable).with_name("bunce-attributes")
"""The installed command, so that the entry point of the wheel is part of what is tested."""
READY_SECONDS = 30.0


class Worker:
    """One worker process; its output goes to ``log``."""

    def __init__(self, folder: Path, name: str, environment: Mapping[str, str], *options: str) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [os.fspath(COMMAND), "worker", "--name", f"{name}@%h", *options],
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def text(self) -> str:
        """Everything it has said."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def ready(self, *, seconds: float = READY_SECONDS) -> Worker:
        """Wait until it consumes wake-ups."""
        until(
            f"worker {self.name} is ready",
            lambda: " ready." in self.text() or not self.alive,
            seconds=seconds,
            explain=self.text,
        )
        assert self.alive, self.text()
        return self

    def children(self) -> list[psutil.Process]:
        """The processes of its pool."""
        return psutil.Process(self.pid).children(recursive=True) if self.alive else []

    def kill(self) -> None:
        """``kill -9``, of the pool's processes too."""
        children = self.children()
        if self.alive:
            self.process.kill()
        for child in children:
            if child.is_running():
                child.kill()
        self.process.wait()

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        if self.alive:
            self.process.send_signal(signal.SIGTERM)

    def ended(self, *, seconds: float) -> int:
        """Wait for its end and return its exit code (negative: the signal that ended it)."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"worker {self.name} still runs after {seconds:g} s:\n{self.text()[-4000:]}") from None
