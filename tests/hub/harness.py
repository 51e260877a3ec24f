"""What the tests of `embedd pull` share."""
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
PROGRAM = os.environ.get("EMBEDD", os.path.join(ROOT, "build", "embedd"))
DATA = os.path.join(ROOT, "tests", "data", "models")
OURS = ("EMBED", "LOCAL_EMBEDDING", "HF_", "HUGGING", "TRANSFORMERS_", "XDG_CACHE", "SSL_CERT", "CURL_CA", "REQUESTS_CA")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def model(name="bert"):
    """The files of one of the small models: {path: bytes}."""
    top, files = os.path.join(DATA, name), {}
    for folder, _, names in os.walk(top):
        for n in names:
            path = os.path.join(folder, n)
            with open(path, "rb") as f:
                files[os.path.relpath(path, top)] = f.read()
    return files


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


def until(condition, what, patience=60):
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("waited %d s in vain for %s" % (patience, what))
        time.sleep(0.01)


class Case(unittest.TestCase):
    maxDiff = 4000

    def setUp(self):
        from hub_server import Hub
        self.folder = tempfile.mkdtemp(prefix="embedd-hub-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.cache = os.path.join(self.folder, "cache")
        self.hub = Hub()
        self.addCleanup(self.hub.close)

    def environment(self, extra=None):
        env = {k: v for k, v in os.environ.items() if not k.startswith(OURS) and k.lower() not in PROXIES}
        env.update(HOME=self.folder, HF_HUB_CACHE=self.cache, HF_ENDPOINT=self.hub.url)
        env.update(extra or {})
        return {k: v for k, v in env.items() if v is not None}

    def start(self, *arguments, env=None, **more):
        return subprocess.Popen([PROGRAM, "pull", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                stdin=subprocess.DEVNULL, env=self.environment(env), cwd=self.folder, **more)

    def run_pull(self, *arguments, env=None, **more):
        """(status, stdout, stderr). No output may hold the token."""
        p = self.start(*arguments, env=env, **more)
        out, err = p.communicate(timeout=120)
        text = out.decode() + err.decode("utf-8", "replace")
        self.assertNotIn(self.hub.token, text)
        self.assertNotIn("secret-signature", text)
        return p.returncode, out.decode(), err.decode("utf-8", "replace")

    def good(self, *arguments, **more):
        """The path of the snapshot."""
        code, out, err = self.run_pull("--quiet", *arguments, **more)
        self.assertEqual(code, 0, err + out)
        return out.strip()

    def fails(self, pattern, *arguments, code=1, **more):
        status, out, err = self.run_pull(*arguments, **more)
        self.assertEqual(status, code, err + out)
        self.assertRegex(err, pattern)
        return err

    def assert_files(self, snapshot, files, only=True):
        for path, data in files.items():
            with open(os.path.join(snapshot, path), "rb") as f:
                self.assertEqual(f.read(), data, path)
        if only:
            there = [os.path.relpath(os.path.join(d, n), snapshot) for d, _, names in os.walk(snapshot) for n in names]
            self.assertEqual(sorted(there), sorted(files))

    def blobs(self, name="org/model"):
        folder = os.path.join(self.cache, "models--" + name.replace("/", "--"), "blobs")
        return sorted(os.listdir(folder)) if os.path.isdir(folder) else []

    def unfinished(self, name="org/model"):
        """{file name: size} of the copies that are not complete."""
        folder = os.path.join(self.cache, "models--" + name.replace("/", "--"), "blobs")
        sizes = {}
        for n in self.blobs(name):
            if n.endswith(".incomplete"):
                try:
                    sizes[n] = os.path.getsize(os.path.join(folder, n))
                except FileNotFoundError:  # complete since the folder was listed, and renamed
                    pass
        return sizes
