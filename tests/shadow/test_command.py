"""`embedd shadow` on a SQLite store that a service has written."""
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from test_postgresql import Driver


class Command(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="embedd-shadow-", dir="/tmp")
        self.addCleanup(self.folder.cleanup)
        with Driver("sqlite:%s/shadow.db" % self.folder.name) as driver:
            self.assertEqual(driver.do("submit", 120)["accepted"], 120)
            self.assertTrue(driver.do("flush", 60000)["ok"])

    def environment(self):
        return {"PATH": os.environ["PATH"], "EMBEDD_DATA_DIR": self.folder.name}

    def command(self, *arguments, code=0):
        r = subprocess.run([os.environ["EMBEDD"], "shadow", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           env=self.environment(), text=True, timeout=60)
        self.assertEqual(r.returncode, code, r.stderr)
        return r.stdout if code == 0 else r.stderr

    def test_report(self):
        text = self.command("report")
        self.assertRegex(text, r"comparisons +120, 0.00 % failed")
        self.assertRegex(text, r"overlap@10 +1\.0000 .* of 100 texts")
        self.assertRegex(text, r"(?m)^c +120 ")
        self.assertRegex(text, r"(?m)^all +120 ")
        self.assertEqual(len(re.findall(r"(?m)^[0-9a-f]{32} ", text)), 5)
        self.assertLess(max(map(len, text.splitlines())), 150)

    def test_json(self):
        answer = json.loads(self.command("report", "--json", "--samples", "2"))
        self.assertEqual(answer["comparisons"], 120)
        self.assertEqual(answer["cosine"]["worst"], 1.0)
        self.assertEqual([c["category"] for c in answer["categories"]], ["c"])
        self.assertEqual(len(answer["worst"]), 2)
        self.assertEqual(len(answer["newest"]), 2)
        self.assertEqual(answer["newest"][0]["legacy"], "legacy/m")
        self.assertEqual(json.loads(self.command("report", "--json", "--since", "1"))["comparisons"], 120)

    def test_watch(self):
        p = subprocess.Popen([os.environ["EMBEDD"], "shadow", "watch", "--interval", "1"], stdout=subprocess.PIPE,
                             env=self.environment(), text=True)
        try:
            for _ in range(2):
                self.assertRegex(p.stdout.readline(), r"comparisons 120  failed 0  cosine 1\.0000  overlap 1\.0000  dropped 0")
            p.send_signal(signal.SIGINT)
            self.assertEqual(p.wait(60), -signal.SIGINT)
        finally:
            p.kill()
            p.wait()
            p.stdout.close()

    def test_clear(self):
        self.assertIn("--yes", self.command("clear", code=2))
        self.assertIn("removed", self.command("clear", "--yes"))
        self.assertIn("nothing was compared", self.command("report"))

    def test_wrong_use(self):
        self.assertIn("there is no 'shadow reprot'", self.command("reprot", code=2))
        self.assertIn("--json", self.command("watch", "--json", code=2))
        self.command(code=2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
