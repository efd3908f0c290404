"""A server's process: it ends with ours, and while it lives no other may use its folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Final, Literal

from bunce_attributes.embedded_redis.errors import FolderInUseError

_LAUNCHER: Final = Path(__file__).with_name("launcher.py")
_ORDERLY_SECONDS: Final = 10.0


class ServerProcess:
    """A running server; see launcher.py for how it ends with us."""

    how: Literal["signal", "lifeline"] = "signal" if sys.platform == "linux" else "lifeline"

    def __init__(self, command: list[str], folder: Path, log: Path, deadline: float) -> None:
        """Starts ``command`` in ``folder``, its output appended to ``log``.

        Starting it is left to a thread that lives as long as the process: the kernel's "kill me when my parent ends"
        means the *thread* that forked, so a server started by a passing thread would end with that thread. The same
        thread reaps the process, however it ends.

        Args:
            deadline: on the monotonic clock, until when to wait for another server to leave the folder.

        Raises:
            FolderInUseError: another server is still there.
            OSError: the launcher cannot be started.
        """
        lock = _lock(folder, deadline)
        started: Future[subprocess.Popen[bytes]] = Future()
        self._owner = os.getpid()
        self._keeper = threading.Thread(
            target=self._keep, args=(command, folder, log, lock, started), name="embedded-redis", daemon=True
        )
        self._keeper.start()
        self._process = started.result()

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it is alive, as the process that started it sees it."""
        return self._keeper.is_alive()

    def end(self, how: signal.Signals) -> None:
        """Sends the signal and waits for the end; after 10 s the end is made. Nothing in a process forked from us."""
        if os.getpid() != self._owner:
            return
        self._process.send_signal(how)
        self._keeper.join(_ORDERLY_SECONDS)
        if self.running:
            self._process.kill()
            self._keeper.join()

    def _keep(
        self, command: list[str], folder: Path, log: Path, lock: int, started: Future[subprocess.Popen[bytes]]
    ) -> None:
        with contextlib.ExitStack() as at_its_end, contextlib.ExitStack() as once_started:
            try:
                once_started.callback(os.close, lock)
                inherited, lifeline = [lock], -1
                if self.how == "lifeline":
                    lifeline, ours = os.pipe()
                    once_started.callback(os.close, lifeline)
                    at_its_end.callback(os.close, ours)
                    inherited.append(lifeline)
                launcher = [sys.executable, "-I", "-S", str(_LAUNCHER), self.how, str(os.getpid()), str(lifeline)]
                process = subprocess.Popen(  # noqa: S603 -- our launcher and a server that was probed
                    [*launcher, *command],
                    cwd=folder,
                    env=_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=once_started.enter_context(log.open("ab")),
                    stderr=subprocess.STDOUT,
                    pass_fds=inherited,
                    umask=0o077,  # its files hold customers' data
                    start_new_session=True,  # Ctrl-C in the terminal is for us, who need it until we have stopped
                )
            except BaseException as error:
                started.set_exception(error)
                return
            once_started.close()
            started.set_result(process)
            process.wait()


def _environment() -> dict[str, str]:
    """Without our settings (the API key is among them) and in a locale that every machine has: Redis 7 insists."""
    left_out = ("BUNCE_", "REDIS_", "LC_", "LANG")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)} | {"LC_ALL": "C"}


def _lock(folder: Path, deadline: float) -> int:
    """A lock on the folder that the server inherits, so that it is free exactly when no server uses the folder."""
    lock = os.open(folder / "redis.lock", os.O_RDWR | os.O_CREAT, 0o600)
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(lock)
                raise FolderInUseError(
                    f"another server uses {folder}: stop it, or give this one a folder of its own"
                ) from None
            time.sleep(0.02)
        else:
            return lock
