"""What a run plays on: a Redis of its own, a sandbox that answers at once, and the contender's processes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
import redis

from benchmarks.rows import KEY
from bunce_attributes.embedded_redis import EmbeddedRedis
from bunce_attributes.sandbox.running import SandboxProcess

APPENDFSYNC: Final = "everysec"
"""Redis' own default, for all contenders alike."""
POLL_SECONDS = 0.01
ROOT = Path(__file__).parent.parent


class BenchmarkFailed(Exception):  # noqa: N818 - reads as what it is where it is caught
    """A contender did not do what it was to do; the text says which and shows the end of its log."""


@dataclass
class Stage:
    """One Redis, one sandbox, and whatever was started on them."""

    redis_url: str
    client: redis.Redis
    redis_process: psutil.Process
    sandbox: SandboxProcess
    folder: Path
    processes: list[psutil.Popen] = field(default_factory=list)

    def start(self, command: Sequence[str], **environment: str) -> psutil.Popen:
        """Start one process of the contender; it ends with the stage."""
        variables = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "REDIS_URL": self.redis_url,
            "BUNCE_API_URL": self.sandbox.url,
            "BUNCE_API_KEY": KEY,
            "BUNCE_REQUESTS_PER_MINUTE": "10000000",
            "BUNCE_LOG_FORMAT": "json",
            "BUNCE_LOG_LEVEL": "WARNING",
            **environment,
        }
        with (self.folder / f"{len(self.processes)}.log").open("wb") as log:
            process = psutil.Popen(
                [sys.executable, *command], env=variables, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT
            )
        self.processes.append(process)
        return process

    def wait_for(self, what: str, is_so: Callable[[], bool], seconds: float = 600.0) -> float:
        """Wait until something is so; returns the moment, seconds of ``time.perf_counter``.

        Raises:
            BenchmarkFailed: it took too long, or a process of the contender ended.
        """
        ends = time.monotonic() + seconds
        while not is_so():
            if any(process.poll() for process in self.processes):
                raise BenchmarkFailed(f"a process ended before this was so: {what}\n{self.logs()}")
            if time.monotonic() > ends:
                raise BenchmarkFailed(f"not within {seconds:g} s: {what}\n{self.logs()}")
            time.sleep(POLL_SECONDS)
        return time.perf_counter()

    def cpu_seconds(self) -> float:
        """Processor time of the contender's processes and their children so far."""
        return sum(_cpu(process) for process in self._family())

    def redis_cpu_seconds(self) -> float:
        """The same of Redis."""
        return _cpu(self.redis_process)

    def memory_bytes(self) -> list[int]:
        """Resident memory of each of the contender's processes."""
        return [process.memory_info().rss for process in self._family()]

    def logs(self) -> str:
        """The last lines that the processes wrote."""
        return "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(self.folder.glob("*.log")))

    def stop_processes(self) -> None:
        """End the contender's processes."""
        family = self._family()
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        _, alive = psutil.wait_procs(family, timeout=10)
        for process in alive:
            process.kill()
        self.processes.clear()

    def _family(self) -> list[psutil.Process]:
        family: list[psutil.Process] = []
        for process in self.processes:
            if process.poll() is None:
                family += (process, *process.children(recursive=True))
        return family


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


@contextmanager
def stage(*, call_log: bool = False) -> Iterator[Stage]:
    """A fresh stage; everything on it ends with the block."""
    options: list[str] = ["--instant", "--no-limit", "--key", KEY]
    if not call_log:
        options.append("--no-log")
    with (
        tempfile.TemporaryDirectory() as folder,
        EmbeddedRedis(appendfsync=APPENDFSYNC) as server,
        SandboxProcess(*options) as sandbox,
    ):
        here = Stage(server.url, server.client(), psutil.Process(server.pid), sandbox, Path(folder))
        try:
            yield here
        finally:
            here.stop_processes()


def values_of(key: Any, client: redis.Redis) -> dict[str, int]:
    """A hash of counters as whole numbers."""
    found: dict[bytes, bytes] = client.hgetall(key)  # type: ignore[assignment]  # the synchronous client
    return {name.decode(): int(value) for name, value in found.items()}
