"""A cable of the network that a test can pull: what is sent to its port goes on to another port."""

import socket
import threading
from contextlib import suppress


class Cable:
    """Forwards its `port` of 127.0.0.1 to another one; `cut` and `hold` as a network may fail."""

    def __init__(self, to):
        self.to = ("127.0.0.1", to)
        self.port = 0
        self.broken = self.held = 0  # connections that were cut, pieces that were held back
        self._flows = threading.Event()
        self._lock = threading.Lock()
        self._open = set()
        self.mend()

    def mend(self):
        """Everything passes; what was held back arrives now."""
        if self._flows.is_set():
            return
        if not self.port or self._listener.fileno() < 0:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self.port = self._listener.getsockname()[1]
            threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()
        self._flows.set()

    def hold(self):
        """Nothing passes, and nobody is told."""
        self._flows.clear()

    def cut(self):
        """Connections break, and new ones are refused."""
        self._flows.clear()
        with self._lock:
            for one in (self._listener, *self._open):
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
            self.broken += len(self._open) // 2
            self._listener.close()

    def _accept(self, listener):
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                threading.Thread(target=self._join, args=[near], daemon=True).start()

    def _join(self, near):
        with near:
            self._flows.wait()
            with suppress(OSError), socket.create_connection(self.to) as far:
                with self._lock:
                    self._open |= {near, far}
                back = threading.Thread(target=self._pump, args=[far, near], daemon=True)
                back.start()
                self._pump(near, far)
                back.join()
                with self._lock:
                    self._open -= {near, far}

    def _pump(self, source, sink):
        with suppress(OSError):
            while data := source.recv(65536):
                self.held += not self._flows.is_set()
                self._flows.wait()
                sink.sendall(data)
        for one in (source, sink):  # the other direction ends too
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
