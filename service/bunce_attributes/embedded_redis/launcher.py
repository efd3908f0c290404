"""Turns itself into a server that ends with the process that asked for it, even when that one is killed with -9.

Run as a script with the standard library alone: ``python -I -S launcher.py HOW PARENT LIFELINE SERVER …``

* ``HOW`` is ``signal`` (Linux: the kernel kills the server when its parent ends) or ``lifeline`` (anywhere: a watcher
  reads from a pipe whose other end only the parent holds, and kills the server when that end closes).
* ``PARENT`` is the process id of the parent, ``LIFELINE`` the pipe's descriptor (-1 with ``signal``).
* ``SERVER …`` is the command to become. The process id stays the same.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

_PR_SET_PDEATHSIG = 1


def _ask_the_kernel(parent: int) -> None:
    import ctypes  # noqa: PLC0415 -- costs some milliseconds, and `lifeline` goes without

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"embedded Redis: prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it ended before the request, so nobody is left to send the signal
        sys.exit("embedded Redis: the parent process has ended")


def _leave_a_watcher(lifeline: int) -> None:
    """The watcher is a *child* of the server: it knows it by ``getppid`` and can never kill a reused process id."""
    server = os.getpid()
    if os.fork() != 0:
        os.close(lifeline)
        return
    os.closerange(0, lifeline)  # among them the lock on the folder, which must end with the server
    os.closerange(lifeline + 1, 256)
    os.read(lifeline, 1)
    if os.getppid() == server:
        os.kill(server, signal.SIGKILL)
    os._exit(0)


def main(arguments: list[str]) -> NoReturn:
    """Becomes the server; does not return."""
    how, parent, lifeline, *command = arguments
    if how == "signal":
        _ask_the_kernel(int(parent))
    else:
        _leave_a_watcher(int(lifeline))
    os.execv(command[0], command)  # noqa: S606 -- no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
