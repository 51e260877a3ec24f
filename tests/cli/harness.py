"""What the tests of the program share: running it and reading what it wrote."""
import base64
import json
import os
import resource
import shutil
import subprocess
import tempfile
import time
import unittest

import numpy

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.environ.get("EMBEDD", os.path.join(ROOT, "build", "embedd"))
SANITIZED = bool(os.environ.get("EMBEDD_SANITIZED"))
MODEL = "all-MiniLM-L6-v2"
DIMENSION = 384
PATIENCE = 120 if SANITIZED else 60  # seconds for what should take a moment: test machines are busy
SETTINGS = ("EMBEDD_ISA", "EMBEDD_MODELS", "LOCAL_EMBEDDING_MODEL", "EMBEDDING_MODEL", "LOCAL_EMBEDDING_DEVICE", "EMBEDDING_DEVICE",
            "LOCAL_EMBEDDING_BATCH_SIZE", "EMBEDDING_BATCH_SIZE")


def environment(extra=None):
    """The caller's environment without what would change the program's behaviour."""
    env = {k: v for k, v in os.environ.items() if k not in SETTINGS}
    env["EMBEDD_MODELS"] = os.environ.get("EMBEDD_TEST_MODELS", os.path.join(ROOT, "models"))
    env["HF_HOME"] = "/nonexistent"
    env.update(extra or {})
    return env


def until(condition, what):
    """Waits for condition() to be true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("waited %d s in vain for %s" % (PATIENCE, what))
        time.sleep(0.01)


class Result:
    def __init__(self, code, out, err):
        self.code, self.bytes, self.err = code, out, err.decode("utf-8", "replace")

    @property
    def out(self):
        return self.bytes.decode("utf-8")

    def json(self):
        return json.loads(self.bytes)

    def lines(self):
        return [json.loads(line) for line in self.bytes.splitlines()]


def limit_file_size(size):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return limit


class Case(unittest.TestCase):
    maxDiff = 4000

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="embedd-cli-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, data):
        with open(self.path(name), "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())
        return self.path(name)

    def read(self, name):
        with open(self.path(name), "rb") as f:
            return f.read()

    def files(self):
        return sorted(os.listdir(self.folder))

    def run_program(self, *arguments, stdin=b"", env=None, cwd=ROOT, **more):
        p = subprocess.run([PROGRAM, *arguments], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env=environment(env), cwd=cwd, timeout=300, **more)
        return Result(p.returncode, p.stdout, p.stderr)

    def good(self, *arguments, **more):
        r = self.run_program(*arguments, **more)
        self.assertEqual(r.code, 0, r.err)
        return r

    def fails(self, code, *arguments, **more):
        """Runs what must fail with `code`; gives the message. Nothing may be on stdout."""
        r = self.run_program(*arguments, **more)
        self.assertEqual(r.code, code, r.err + r.out[:500])
        self.assertEqual(r.bytes, b"")
        return r.err

    def usage(self, *arguments, **more):
        """The first line of a message about wrong use; the second must point to the help."""
        lines = self.fails(2, *arguments, **more).splitlines()
        self.assertEqual(len(lines), 2, lines)
        self.assertRegex(lines[1], r"^Try 'embedd (\w+ --help|help)'\.$")
        return lines[0]


def vectors_of(objects):
    return numpy.array([o["embedding"] for o in objects], dtype=numpy.float32)


def vectors_of_base64(data):
    return numpy.array([numpy.frombuffer(base64.b64decode(line, validate=True), dtype="<f4")
                        for line in data.splitlines()])
