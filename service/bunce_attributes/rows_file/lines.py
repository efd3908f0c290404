"""Bytes of a file or a pipe → numbered lines of text: gzip, byte order mark, wrong encoding, endless lines."""

from __future__ import annotations

import gzip
import io
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self, cast

MAX_LINE_BYTES = 1_048_576
"""Of one line, and so of the memory that a file without line ends costs; a call has less."""
STANDARD_INPUT = "-"


class UnusableFile(Exception):  # noqa: N818 - reads as what it is where it is caught
    """The file cannot be enqueued as it is, or no further; ``str()`` says why and how to mend it."""


class Line(NamedTuple):
    """One line with its end. Bytes that are no UTF-8 stand as lone surrogates, so that they can be written back."""

    number: int
    text: str
    problem: str | None = None


class Lines:
    """The lines of a source, read once. A context manager that closes what it opened."""

    def __init__(self, source: str) -> None:
        """Open a path, or ``-`` for the standard input.

        Raises:
            UnusableFile: it cannot be opened or is no text.
        """
        self.name = "standard input" if source == STANDARD_INPUT else source
        self.number = 0
        """Of the line read last; 1 is the first."""
        self._raw = _opened(source)
        self.size = _size(self._raw) if source != STANDARD_INPUT else None
        """Bytes of the file as it lies on the disk; None when nobody knows."""
        self._bytes = self._raw
        try:
            head = self._raw.peek(4)[:4]
        except OSError as error:
            self.close()
            raise UnusableFile(f"{self.name} cannot be read: {error.strerror}") from None
        if head.startswith(b"\x1f\x8b"):
            self._bytes = io.BufferedReader(cast("io.RawIOBase", gzip.GzipFile(fileobj=self._raw)), 1 << 18)
        elif (fault := _no_text(head)) is not None:
            self.close()
            raise UnusableFile(f"{self.name} {fault}")

    def position(self) -> int:
        """Bytes read of the file as it lies on the disk."""
        return self._raw.tell()

    def __iter__(self) -> Iterator[Line]:
        readline = self._bytes.readline
        while True:
            try:
                raw = readline(MAX_LINE_BYTES)
            except (EOFError, zlib.error, OSError) as error:
                reason = "its compressed data is damaged or ends early"
                if isinstance(error, OSError) and error.strerror:
                    reason = error.strerror
                raise UnusableFile(f"{self.name} cannot be read after line {self.number:,}: {reason}") from None
            if not raw:
                return
            self.number += 1
            if self.number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            if len(raw) >= MAX_LINE_BYTES and not raw.endswith(b"\n"):
                self._drop_rest()
                yield Line(
                    self.number,
                    "",
                    f"the line is longer than {MAX_LINE_BYTES:,} bytes: does the file have line ends as \\n or \\r\\n?",
                )
                continue
            try:
                yield Line(self.number, raw.decode())
            except UnicodeDecodeError as error:
                yield Line(self.number, raw.decode(errors="surrogateescape"), _encoding_problem(raw, error))

    def _drop_rest(self) -> None:
        while (raw := self._bytes.readline(MAX_LINE_BYTES)) and not raw.endswith(b"\n"):
            pass

    def close(self) -> None:
        """Close the file; the standard input stays open."""
        if self._raw is not sys.stdin.buffer:
            self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _opened(source: str) -> io.BufferedReader:
    if source == STANDARD_INPUT:
        return cast("io.BufferedReader", sys.stdin.buffer)
    try:
        return cast("io.BufferedReader", Path(source).open("rb", buffering=1 << 18))
    except OSError as error:
        raise UnusableFile(f"{source} cannot be opened: {error.strerror}") from None


def _size(stream: BinaryIO) -> int | None:
    try:
        return os.fstat(stream.fileno()).st_size or None
    except OSError:
        return None


def _no_text(head: bytes) -> str | None:
    if head.startswith(b"PK\x03\x04"):
        return "is a spreadsheet or a zip file: save it as CSV (UTF-8), or unpack it"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head:
        return "is UTF-16 (or no text): save it as UTF-8, or convert it with: iconv -f UTF-16 -t UTF-8"
    if head.startswith((b"BZh", b"\xfd7zX", b"\x28\xb5\x2f\xfd")):
        return "is compressed in a way that is not read here: unpack it, or use gzip"
    return None


def _encoding_problem(raw: bytes, error: UnicodeDecodeError) -> str:
    return (
        f"byte 0x{raw[error.start]:02X} at position {error.start + 1} is no UTF-8: save the file as UTF-8 "
        "(if it is Windows-1252: iconv -f WINDOWS-1252 -t UTF-8)"
    )
