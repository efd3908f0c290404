"""A TCP proxy that can fall silent, as a link does whose other end vanished: connections stay, bytes do not come."""

from __future__ import annotations

import contextlib
import socket
import threading


class SilentProxy:
    """Forwards to 127.0.0.1:``port`` until :meth:`silence`.

    Connections that exist then are half open for good: nothing comes through, nothing is closed. Connections that
    are made later work, because the network has healed.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._silenced: set[socket.socket] = set()
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def silence(self) -> int:
        """Every connection of now falls silent; how many these are."""
        with self._lock:
            for pair in self._pairs:
                self._silenced.update(pair)
            count = len(self._pairs)
            self._pairs = []
        return count

    def close(self) -> None:
        self._listener.close()
        self.silence()
        for one in self._silenced:
            with contextlib.suppress(OSError):
                one.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            with self._lock:
                self._pairs.append((near, far))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._forward, args=(source, sink), name="proxy", daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        while True:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            with self._lock:
                if source in self._silenced:
                    # Keep reading and drop it; a closed end is not told to the other.
                    if not data:
                        return
                    continue
            if not data:
                break
            try:
                sink.sendall(data)
            except OSError:
                break
        with self._lock:
            self._pairs = [pair for pair in self._pairs if source not in pair]
        for one in (source, sink):
            with contextlib.suppress(OSError):
                one.close()
