"""The program ledger_driver, and a proxy to PostgreSQL that can lose the answer of a commit."""
import json
import os
import socket
import subprocess
import threading
import time


class Driver:
    def __init__(self, url, zone="UTC"):
        self.process = subprocess.Popen([os.environ["LEDGER_DRIVER"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.opened = self.do("open", url, zone)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.process.stdin.close()
        code = self.process.wait(60)
        self.process.stdout.close()
        if kind is None and code != 0:  # a sanitizer's report stands on stderr
            raise AssertionError("ledger_driver ended with %d" % code)

    def do(self, *words):
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError("ledger_driver ended with %s" % self.process.wait(60))
        return json.loads(line)

    def add(self, nusd, at=None, kind="api", provider="openai", category="-", saved=0):
        self.do("add", int(at if at is not None else time.time()), kind, provider, category, nusd, saved)


class Proxy:
    """Before a server's port. `lose`: of how many commits the answer is lost ("after": it was committed, "before": not)."""

    def __init__(self, port):
        self.server_port = port
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.lose, self.when, self.lost = 0, "after", 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.server_port))
            except OSError:
                client.close()
                continue
            state = {"losing": False}
            threading.Thread(target=self._up, args=(client, server, state), daemon=True).start()
            threading.Thread(target=self._down, args=(client, server, state), daemon=True).start()

    def _up(self, client, server, state):
        try:
            while data := client.recv(65536):
                if b"COMMIT" in data:
                    with self.lock:
                        if self.lose > 0:
                            self.lose -= 1
                            self.lost += 1
                            state["losing"] = True
                    if state["losing"] and self.when == "before":
                        break
                server.sendall(data)
        except OSError:
            pass
        if not state["losing"] or self.when == "before":
            self._close(client, server)

    def _down(self, client, server, state):
        try:
            while data := server.recv(65536):
                if state["losing"]:
                    break  # it has answered; nobody hears of it
                client.sendall(data)
        except OSError:
            pass
        self._close(client, server)

    @staticmethod
    def _close(*sockets):
        for s in sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()
