"""A running echo_server (echo_server.c) and clients made of raw sockets."""
import json
import os
import resource
import socket
import subprocess
import tempfile
import shutil
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.environ.get("ECHO_SERVER", os.path.join(ROOT, "build-test", "tests", "http", "echo_server"))
SANITIZED = os.environ.get("EMBEDD_SANITIZED", "")
PATIENCE = 60  # seconds for what should take a moment: test machines are busy


def until(condition, what):
    deadline = time.monotonic() + PATIENCE
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("waited %d s in vain for %s" % (PATIENCE, what))
        time.sleep(0.005)


def many_files():
    """As many descriptors as the system lets us have, for this process and the servers it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard > 0 else 1 << 20


class Server:
    def __init__(self, **options):
        self.process = subprocess.Popen([PROGRAM] + ["%s=%s" % o for o in options.items()], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.addresses = []
        self.failure = None
        self.closed = None
        while True:
            line = self.process.stdout.readline().strip()
            if line.startswith("listening "):
                self.addresses.append(line[10:])
            elif line.startswith("failed "):
                self.failure = line[7:]
                self.process.wait(PATIENCE)
                break
            elif line == "ready":
                break
            else:
                raise AssertionError("echo_server said %r" % line)

    def say(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def stats(self):
        return json.loads(self.say("stats"))

    def records(self):
        return json.loads(self.say("records"))

    def port(self, index=0):
        return int(self.addresses[index].rsplit(":", 1)[1])

    def close(self):
        """Closes it; its last records. Fails if it did not end well: a sanitizer's finding shows here."""
        if self.closed is None and self.process.poll() is None:
            out, _ = self.process.communicate("close\n", timeout=PATIENCE)
            lines = out.strip().splitlines()
            if self.process.returncode or len(lines) < 2 or lines[-2] != "closed":
                raise AssertionError("echo_server ended with %d: %s" % (self.process.returncode, out))
            self.closed = json.loads(lines[-1])
        for pipe in (self.process.stdin, self.process.stdout):
            pipe.close()
        return self.closed

    def memory_kib(self):
        with open("/proc/%d/status" % self.process.pid) as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))

    def threads(self):
        return len(os.listdir("/proc/%d/task" % self.process.pid))

    def files(self):
        return len(os.listdir("/proc/%d/fd" % self.process.pid))


class Closed(Exception):
    pass


class Answer:
    def __init__(self, version, status, headers):
        self.version, self.status, self.headers, self.body = version, status, headers, b""

    def __getitem__(self, name):
        """All values of a header, with commas between; None if it is not there."""
        values = [v for k, v in self.headers if k.lower() == name.lower()]
        return ", ".join(values) if values else None

    def json(self):
        return json.loads(self.body)


class Client:
    """A connection that reads answers strictly: what the server frames wrongly fails here."""

    def __init__(self, address, context=None, receive_buffer=None, timeout=PATIENCE):
        if address.startswith("unix:"):
            self.socket = socket.socket(socket.AF_UNIX)
            target = address[5:]
        else:
            host, port = address.rsplit(":", 1)
            self.socket = socket.socket(socket.AF_INET6 if host.startswith("[") else socket.AF_INET)
            target = (host.strip("[]"), int(port))
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(target)
        if context:
            self.socket = context.wrap_socket(self.socket, server_hostname="localhost")
        self.buffer = b""

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, data):
        self.socket.sendall(data if isinstance(data, bytes) else data.encode())

    def fill(self):
        data = self.socket.recv(65536)
        if not data:
            raise Closed()
        self.buffer += data

    def line(self):
        while b"\r\n" not in self.buffer:
            self.fill()
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        assert b"\n" not in line and b"\r" not in line, line
        return line.decode("latin-1")

    def bytes(self, n):
        while len(self.buffer) < n:
            self.fill()
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def head(self):
        version, status, _ = self.line().split(" ", 2)
        answer = Answer(version, int(status), [])
        while True:
            line = self.line()
            if not line:
                return answer
            name, value = line.split(": ", 1)
            answer.headers.append((name, value))

    def read(self, head_only=False):
        answer = self.head()
        if head_only or answer.status in (100, 204, 304):
            return answer
        if answer["transfer-encoding"] == "chunked":
            while True:
                size = int(self.line(), 16)
                answer.body += self.bytes(size)
                assert self.line() == ""
                if size == 0:
                    return answer
        if answer["content-length"] is None:
            return self.read_to_end(answer)
        answer.body = self.bytes(int(answer["content-length"]))
        return answer

    def read_to_end(self, answer):
        try:
            while True:
                self.fill()
        except Closed:
            answer.body, self.buffer = self.buffer, b""
            return answer

    def request(self, method, target, body=None, headers=(), version="1.1"):
        head = "%s %s HTTP/%s\r\nHost: localhost\r\n" % (method, target, version)
        head += "".join("%s: %s\r\n" % h for h in headers)
        if body is not None:
            head += "Content-Length: %d\r\n" % len(body)
        self.send(head.encode() + b"\r\n" + (body or b""))
        return self.read(method == "HEAD")

    def ended(self):
        """Whether the server closes the connection (waits for it); what was sent before that is kept."""
        try:
            while True:
                self.fill()
        except (Closed, ConnectionResetError):
            return True


class Case(unittest.TestCase):
    maxDiff = 4000

    def server(self, **options):
        server = Server(**options)
        self.addCleanup(server.close)
        return server

    def client(self, server, index=0, **more):
        client = Client(server.addresses[index], **more)
        self.addCleanup(client.close)
        return client

    def folder(self):
        folder = tempfile.mkdtemp(prefix="embedd-http-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def refused(self, answer, status, code=None):
        self.assertEqual(answer.status, status, answer.body)
        self.assertEqual(answer["connection"], "close")
        self.assertEqual(answer["content-type"], "application/json")
        error = answer.json()["error"]
        self.assertEqual(error["type"], "invalid_request_error")
        self.assertIsNone(error["param"])
        if code:
            self.assertEqual(error["code"], code)
        self.assertTrue(answer["x-request-id"])
        return error
