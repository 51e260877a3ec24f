"""The program l2_driver and a server that lies, for tests of the cache's second level."""
import json
import os
import socket
import subprocess
import threading

OK, INVALID, IO, DEADLINE = 0, 2, 6, 9  # emb_status
SANITIZED = bool(os.environ.get("EMBEDD_SANITIZED"))
# Milliseconds that a call may take beyond its deadline here: the machine is busy with other tests. What is being tested, not
# waiting for a server that does not answer, would cost much more.
SLACK = 5000


class Driver:
    def __init__(self, url, connect_ms=1000):
        self.process = subprocess.Popen([os.environ["L2_DRIVER"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.opened = self.do("open", url, connect_ms)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.process.stdin.close()
        code = self.process.wait(60)
        self.process.stdout.close()
        if kind is None and code != 0:  # a sanitizer's report stands on stderr
            raise AssertionError("l2_driver ended with %d" % code)

    def send(self, *words):
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()

    def receive(self):
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError("l2_driver ended with %s" % self.process.wait(60))
        return json.loads(line)

    def do(self, *words):
        self.send(*words)
        return self.receive()

    def get(self, first=0, count=20, deadline_ms=50):
        return self.do("get", first, count, deadline_ms)

    def put(self, first=0, count=20, deadline_ms=5000, ttl_s=0):
        return self.do("put", first, count, deadline_ms, ttl_s)


class Listener:
    """Accepts on a free port and gives every connection to `serve` on a thread of its own."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.socket.getsockname()[1]
        self.open = []
        self.stopping = False
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopping = True
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()
        for c in self.open:
            try:
                c.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.thread.join()

    def _accept(self):
        while not self.stopping:
            try:
                connection = self.socket.accept()[0]
            except OSError:
                return
            self.open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            self.serve(connection)
        except OSError:
            pass
        finally:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connection.close()


class Liar(Listener):
    """A server that does `behaviour(connection)`."""

    def __init__(self, behaviour):
        self.serve = behaviour
        super().__init__()


class CountingProxy(Listener):
    """Passes everything on to a port, counting how often the client speaks after the server has: round trips."""

    def __init__(self, port):
        self.target = port
        self.lock = threading.Lock()
        self.trips = 0
        self.connections = 0
        super().__init__()

    def serve(self, client):
        server = socket.create_connection(("127.0.0.1", self.target))
        self.open.append(server)
        state = {"speaker": None}
        with self.lock:
            self.connections += 1

        def back():
            try:
                while data := server.recv(65536):
                    with self.lock:
                        state["speaker"] = "server"
                    client.sendall(data)
                client.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        threading.Thread(target=back, daemon=True).start()
        try:
            while data := client.recv(65536):
                with self.lock:
                    if state["speaker"] != "client":
                        self.trips += 1
                        state["speaker"] = "client"
                server.sendall(data)
        finally:
            server.close()

    def count(self, work):
        with self.lock:
            before = self.trips
        result = work()
        with self.lock:
            return result, self.trips - before
