"""The file of refused rows: what can be mended there is enqueued again as it stands."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from bunce_attributes.rows_file.lines import UnusableFile


class RejectsFile:
    """Written from the first line on, or, when an interrupted run goes on, continued. Readable by its owner alone."""

    def __init__(self, path: str, *, source: str, head: str, go_on: bool) -> None:
        """Open the file.

        Args:
            path: of the file.
            source: the file that is enqueued, which must be another.
            head: its first line, or nothing.
            go_on: keep what is there.

        Raises:
            UnusableFile: it cannot be written.
        """
        self.path = path
        try:
            if Path(path).exists() and Path(source).exists() and Path(path).samefile(source):
                raise UnusableFile(f"--rejects names the file that is enqueued ({path}): name another")
            flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if go_on else os.O_TRUNC)
            descriptor = os.open(path, flags, 0o600)
            # Surrogates stand for bytes that are no UTF-8: they are written back as they were.
            self._file = os.fdopen(descriptor, "a", encoding="utf-8", newline="", errors="surrogateescape")
            if self._file.tell() == 0:
                self._file.write(head)
                self._file.flush()
        except OSError as error:
            raise _unwritable(path, error) from None

    def write(self, lines: Iterable[str]) -> None:
        """Append lines, and hand them to the operating system.

        Raises:
            UnusableFile: the disk is full, for example.
        """
        try:
            self._file.writelines(lines)
            self._file.flush()
        except OSError as error:
            raise _unwritable(self.path, error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _unwritable(path: str, error: OSError) -> UnusableFile:
    return UnusableFile(f"--rejects {path} cannot be written: {error.strerror}")
