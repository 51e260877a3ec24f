"""The program provider_driver at the end of a pipe, and what tests of every kind of provider share."""
import json
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import certificates  # noqa: E402, F401
import upstream_faults as faults  # noqa: E402, F401
import upstream_h2 as h2  # noqa: E402, F401
from proxy import Proxy  # noqa: E402, F401
from service import until  # noqa: E402, F401
from upstream import Upstream, tokens, vector  # noqa: E402, F401

# emb_status
OK, INVALID, NOT_FOUND, LIMIT, BUSY, DEADLINE, CANCELLED, BUDGET, PROVIDER, UNAVAILABLE = 0, 2, 3, 7, 8, 9, 10, 13, 15, 16
KINDS = ("openai", "azure", "huggingface", "cohere", "ollama", "tei", "remote", "embedd")
NUMBERED = ("openai", "azure")                   # rows of the answer have an index that counts
SHORTENING = ("openai", "azure", "huggingface", "cohere", "ollama", "tei", "embedd")
TELLING = ("openai", "azure", "cohere", "ollama", "embedd")  # say what they bill
SANITIZED = bool(os.environ.get("EMBEDD_SANITIZED"))
# Milliseconds that a call may take beyond its deadline here: the machine is busy with other tests. What is being tested, not
# waiting for a peer that says nothing, would cost much more.
SLACK = 5000
KEY = "sk-upstream-secret"
DIMENSION = 8
SECRET = "Zwiebelkuchen"  # stands in every text of a test that looks for texts in messages


class Driver:
    def __init__(self, env=None, **options):
        proxies = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
        environment = {k: v for k, v in os.environ.items() if k.lower() not in proxies}
        self.process = subprocess.Popen([os.environ["PROVIDER_DRIVER"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env={**environment, **(env or {})})
        self.opened = self.do("open", **options)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.process.stdin.close()
        code = self.process.wait(60)
        self.process.stdout.close()
        if kind is None and code != 0:  # a sanitizer's report stands on stderr
            raise AssertionError("provider_driver ended with %d" % code)

    def send(self, command, **options):
        self.process.stdin.write(json.dumps({command: options}).encode() + b"\n")
        self.process.stdin.flush()

    def receive(self):
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError("provider_driver ended with %s" % self.process.wait(60))
        return json.loads(line)

    def do(self, command, **options):
        self.send(command, **options)
        return self.receive()

    def embed(self, texts, **options):
        options = {"model": "m", "dimension": DIMENSION, "vectors": True, "timeout_ms": 20000, **options}
        return self.do("embed", texts=list(texts), **options)

    def peak_kib(self):
        with open("/proc/%d/status" % self.process.pid) as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))


class Case(unittest.TestCase):
    """One kind of provider against an upstream of its kind. Subclasses are made by `for_each_kind`."""
    kind = None

    def upstream(self, **options):
        up = Upstream(**{"dimension": DIMENSION, "served": "m", "key": KEY, "require_key": True, **options})
        self.addCleanup(up.__exit__, None)
        return up

    def provider(self, up, **options):
        settings = {"kind": self.kind, "name": "upstream", "base_url": up.base_url(self.kind), "api_key": KEY, "model": "m"}
        if self.kind == "azure":
            settings["api_version"] = "2024-10-21"
        driver = Driver(**{**settings, **options})
        self.addCleanup(driver.__exit__, None)
        self.assertEqual(driver.opened["status"], OK, driver.opened)
        return driver

    def refused_provider(self, up, **options):
        """What opening it says."""
        with Driver(kind=self.kind, base_url=up.base_url(self.kind), api_key=KEY, model="m", **options) as driver:
            self.assertNotEqual(driver.opened["status"], OK)
            return driver.opened

    def pair(self, upstream=None, **options):
        up = self.upstream(**(upstream or {}))
        return up, self.provider(up, **options)

    # ---- judging answers ----

    def sound(self, answer):
        """What holds of every answer, good or not."""
        hooks = answer["hooks"]
        self.assertEqual(hooks["before"], hooks["after"], answer)
        self.assertLessEqual(hooks["before"], answer["attempts"] + 1, answer)
        for text in (answer["message"], answer["where"]):
            self.assertNotIn(KEY, text)
            self.assertNotIn(SECRET, text)
        if answer["status"] != OK:
            self.assertTrue(answer["message"], answer)
            self.assertNotIn("vectors", answer)
        return answer

    def right(self, answer, texts, dimension=DIMENSION, model="m", prompt="", length=1.0):
        """A good answer: each position has its own text's vector."""
        self.sound(answer)
        self.assertEqual(answer["status"], OK, answer["message"])
        self.assertEqual(len(answer["vectors"]), len(texts))
        for i, (text, got) in enumerate(zip(texts, answer["vectors"])):
            expected = vector(model, prompt + text if prompt else text, dimension)
            self.assertEqual(len(got), dimension)
            worst = max(abs(length * a - b) for a, b in zip(expected, got))
            self.assertLess(worst, 3e-6, "position %d has another vector" % i)
        return answer

    def failed(self, answer, *statuses):
        self.sound(answer)
        self.assertIn(answer["status"], statuses, answer)
        return answer

    def state_is_idle(self, driver):
        state = driver.do("state")
        self.assertEqual((state["active"], state["waiting"]), (0, 0), state)
        self.assertNotIn(KEY, state["last_error"])
        self.assertNotIn(SECRET, state["last_error"])
        return state


def for_each_kind(cases, namespace, kinds=KINDS):
    """Makes a class per kind of a mixin of tests."""
    for kind in kinds:
        name = "%s_%s" % (cases.__name__, kind)
        namespace[name] = type(name, (cases, Case), {"kind": kind, "__module__": namespace["__name__"]})


def words(count, start=0):
    return ["%s number %d of the batch" % (SECRET, i) for i in range(start, start + count)]
