"""A network between the shipper and PostgreSQL that can be cut, at any time or at a certain word."""

import contextlib
import socket
import threading
from collections.abc import Callable

from sqlalchemy import URL


class Relay:
    """Passes connections on from a port on the loopback; ``url`` leads through it, unencrypted."""

    def __init__(self, url: URL) -> None:
        self._target = (str(url.host), url.port or 5432)
        self._listener = self._listen(0)
        self._port = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._cut_at: tuple[bytes, bool] | None = None
        self.cuts = 0
        self.url = url.set(host="127.0.0.1", port=self._port).update_query_dict({"sslmode": "disable"})

    def cut(self) -> None:
        """Break every connection and refuse new ones."""
        self._close(self._listener)
        for pair in self._pairs:
            self._close(*pair)
        self._pairs.clear()

    def mend(self) -> None:
        """Take connections again."""
        self._listener = self._listen(self._port)

    def cut_at(self, word: bytes, *, arrives: bool) -> None:
        """Break the connection that says a word next: before it arrives, or before its answer comes back."""
        self._cut_at = word, arrives

    def close(self) -> None:
        self.cut()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        # A closed listener ends the loop.
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(self._target)
                self._pairs.append((client, server))
                for source, sink, filtered in ((client, server, self._says), (server, client, None)):
                    threading.Thread(target=self._pump, args=(source, sink, filtered), daemon=True).start()

    def _pump(
        self, source: socket.socket, sink: socket.socket, says: Callable[[bytes, socket.socket], bool] | None
    ) -> None:
        # A broken connection ends the loop.
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if says is not None and says(data, sink):
                    break
                sink.sendall(data)
        self._close(source, sink)

    def _says(self, data: bytes, server: socket.socket) -> bool:
        """Whether this is where the connection breaks."""
        if self._cut_at is None or self._cut_at[0] not in data:
            return False
        arrives = self._cut_at[1]
        self._cut_at = None
        self.cuts += 1
        client = next(pair[0] for pair in self._pairs if pair[1] is server)
        client.shutdown(socket.SHUT_RDWR)
        if arrives:
            server.sendall(data)
        return True

    @staticmethod
    def _close(*sockets: socket.socket) -> None:
        for one in sockets:
            # It may have been closed from the other side.
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
