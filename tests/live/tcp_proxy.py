"""A bad network between a client and a worker: a TCP proxy that delays, throttles, swallows and cuts."""

import contextlib
import select
import socket
import threading
import time

CHUNK = 16 * 1024


class TcpProxy:
    """Forwards connections on `address` to a worker, as badly as it is told to."""

    def __init__(self, worker_address: str) -> None:
        host, port = worker_address.removeprefix("tcp://").split(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.delay_s = 0.0
        self.bytes_per_s = float("inf")
        self.swallow = False
        self.cut_after_bytes = float("inf")
        """Of one connection, from the client."""
        self.connections = 0
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset all connections, in the middle of whatever they carry."""
        with self._lock:
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
            self._open.clear()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    worker = socket.create_connection(self._target, timeout=5)
                except OSError:
                    client.close()
                    continue
                self.connections += 1
                for end in (client, worker):
                    # Small buffers: what is slow is felt at the other end, as with a real network.
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * CHUNK)
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2 * CHUNK)
                with self._lock:
                    self._open += [client, worker]
                for ends in ((client, worker, True), (worker, client, False)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, from_client: bool) -> None:
        carried = 0
        with contextlib.suppress(OSError, ValueError):
            while True:
                select.select([source], [], [])
                block = source.recv(CHUNK)
                if not block:
                    break
                carried += len(block)
                if from_client and carried > self.cut_after_bytes:
                    self.cut()
                    return
                if self.swallow:
                    continue
                time.sleep(self.delay_s + len(block) / self.bytes_per_s)  # the network's own time
                sink.sendall(block)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
