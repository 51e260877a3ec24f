"""A running `embedd serve` for tests: on a free port, with a data directory of its own, stopped by its pid.

    with Service(env={"EMBEDD_API_KEYS": "k"}) as s:
        s.wait_ready()
        status, headers, body = s.post("/v1/embeddings", {"input": "hello"})
"""
import http.client
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.environ.get("EMBEDD", os.path.join(ROOT, "build", "embedd"))
SANITIZED = bool(os.environ.get("EMBEDD_SANITIZED"))
PATIENCE = 120 if SANITIZED else 60  # seconds for what should take a moment: test machines are busy
OURS = ("EMBED", "ALERT_", "REDIS_", "OPENAI_", "HF_", "LOCAL_EMBEDDING_", "USE_HYBRID", "HUGGING_FACE_")


def clean_environment(extra=None):
    """The caller's environment without settings of embedd."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    env["EMBEDD_MODELS"] = os.environ.get("EMBEDD_TEST_MODELS", os.path.join(ROOT, "models"))
    env["HF_HOME"] = "/nonexistent"
    env["HF_HUB_OFFLINE"] = "1"
    env.update(extra or {})
    return {k: v for k, v in env.items() if v is not None}


def until(condition, what, patience=PATIENCE, step=0.01):
    """Waits for condition() to be true; gives its value."""
    deadline = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("waited %d s in vain for %s" % (patience, what))
        time.sleep(step)


class Service:
    def __init__(self, *arguments, env=None, listen="127.0.0.1:0", cwd=None, ready=True, program=PROGRAM):
        self.folder = tempfile.mkdtemp(prefix="embedd-serve-")
        self.lines = []  # of the log: dicts, or text where it is not JSON
        self.condition = threading.Condition()
        settings = {"EMBEDD_LISTEN": listen, "EMBEDD_DATA_DIR": os.path.join(self.folder, "data"),
                    "EMBEDD_LOG": "info,json"}
        settings.update(env or {})
        self.process = subprocess.Popen([program, "serve", *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                                        stdin=subprocess.DEVNULL, env=clean_environment(settings), cwd=cwd or self.folder)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        if ready:
            try:
                self.wait_ready()
            except BaseException:
                self.close()
                raise

    def _read(self):
        for line in self.process.stderr:
            try:
                entry = json.loads(line)
            except ValueError:
                entry = line.decode("utf-8", "replace").rstrip("\n")
            with self.condition:
                self.lines.append(entry)
                self.condition.notify_all()

    def log(self, message, after=0):
        """The entries of the log whose message is this."""
        with self.condition:
            return [l for l in self.lines[after:] if isinstance(l, dict) and l.get("message") == message]

    def wait_log(self, message, after=0, patience=PATIENCE):
        deadline = time.monotonic() + patience
        with self.condition:
            while True:
                found = [l for l in self.lines[after:] if isinstance(l, dict) and l.get("message") == message]
                if found:
                    return found[-1]
                left = deadline - time.monotonic()
                if left <= 0 or (self.process.poll() is not None and not self.reader.is_alive()):
                    raise AssertionError("no log line %r; the log is %r" % (message, self.lines[-20:]))
                self.condition.wait(min(left, 0.2))

    @property
    def url(self):
        return self.wait_log("listening")["address"]

    @property
    def port(self):
        return urllib.parse.urlsplit(self.url).port

    def wait_ready(self):
        self.wait_log("listening")
        until(lambda: self._status("/ready") == 200, "/ready")
        return self

    def _status(self, path):
        if self.process.poll() is not None:
            raise AssertionError("embedd serve ended with %s; the log is %r" % (self.process.returncode, self.lines[-20:]))
        try:
            return self.get(path)[0]
        except (OSError, http.client.HTTPException):
            return None

    def connect(self, timeout=PATIENCE):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(self, method, path, body=None, headers=None, timeout=PATIENCE):
        """(status, headers, body); body and answer as JSON where they are."""
        connection = self.connect(timeout)
        headers = dict(headers or {})
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            headers.setdefault("content-type", "application/json")
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        fields = {k.lower(): v for k, v in answer.getheaders()}
        if fields.get("content-type", "").startswith("application/json"):
            data = json.loads(data) if data else None
        return answer.status, fields, data

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body, **more):
        return self.request("POST", path, body, **more)

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, patience=PATIENCE):
        code = self.process.wait(patience)
        self.reader.join(patience)
        return code

    def stop(self):
        """SIGTERM; the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def close(self):
        try:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                try:
                    self.process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
                    raise AssertionError("embedd serve did not stop") from None
        finally:
            self.reader.join(5)
            self.process.stderr.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
