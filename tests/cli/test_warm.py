"""embedd warm: lists, files and the most used texts into the second level of the cache."""
import json
import os
import re
import signal
import stat
import subprocess
import sys
import unittest

from harness import Case, MODEL, PROGRAM, ROOT, environment

FINANCE = 255


class Warm(Case):
    def settings(self, extra=None):
        env = {"EMBEDD_DATA_DIR": self.path("data"), "EMBEDD_CACHE_URL": "", "REDIS_URL": "", "EMBEDD_CONFIG": ""}
        env.update(extra or {})
        return env

    def warm(self, *arguments, env=None):
        return self.good("warm", "--json", *arguments, env=self.settings(env)).json()

    def vectors(self, env=None):
        return self.good("cache", "stats", "--json", env=self.settings(env)).json()["entries"]

    def test_finance_list(self):
        r = self.good("warm", "finance", env=self.settings())
        self.assertRegex(r.out, r"^%d texts for %s: 0 were cached, %d computed, in [0-9.]+ s\n$" % (FINANCE, MODEL, FINANCE))
        self.assertEqual(r.err, "")
        report = self.warm("finance")
        self.assertGreater(report["tokens"], FINANCE)
        self.assertEqual({k: report[k] for k in ("model", "texts", "cached", "computed", "failed")},
                         {"model": MODEL, "texts": FINANCE, "cached": FINANCE, "computed": 0, "failed": 0})
        self.assertEqual(self.vectors(), FINANCE)
        self.assertEqual(stat.S_IMODE(os.stat(self.path("data")).st_mode), 0o700)
        self.assertEqual(self.good("warm", "-q", "finance", env=self.settings()).out, "")

    def test_files(self):
        lines = self.write("terms.txt", "# comment\nred\n\n  green \nC# is no comment\n")
        self.assertEqual(self.warm(lines)["computed"], 3)
        jsonl = self.write("terms.jsonl", '{"text": "red", "id": 1}\n"blue"\n')
        report = self.warm(jsonl)
        self.assertEqual((report["cached"], report["computed"]), (1, 1))
        bad = self.write("bad.jsonl", '"fine"\n{"words": "x"}\n')
        self.assertIn("line 2 has no member \"text\"", self.fails(1, "warm", bad, env=self.settings()))
        self.assertIn("absent.txt", self.fails(1, "warm", self.path("absent.txt"), env=self.settings()))

    def test_roles_have_their_own_vectors(self):
        words = self.write("words", "red\ngreen\n")
        # This model puts no prompt before queries, so they share their vectors with texts.
        self.assertEqual(self.warm(words)["computed"], 2)
        self.assertEqual(self.warm("--query", words)["cached"], 2)
        message = self.usage("warm", "--query", "--document", words, env=self.settings())
        self.assertEqual(message, "embedd warm: only one of --query and --document can be given")

    def test_most_used(self):
        words = self.write("words", "red\n")
        keep = {"EMBEDD_CACHE_STORE_TEXT": "true"}
        self.warm(words, env=keep)
        report = self.warm("--most-used", "10", env=keep)
        self.assertEqual((report["texts"], report["cached"]), (1, 1))
        other = {"EMBEDD_DATA_DIR": self.path("other")}
        self.warm(words, env=other)
        self.assertIn("cache.store_text", self.fails(1, "warm", "--most-used", "10", env=self.settings(other)))

    def test_wrong_use(self):
        self.assertIn("either a list, a file or --most-used", self.usage("warm", env=self.settings()))
        self.assertIn("either a list, a file or --most-used", self.usage("warm", "finance", "--most-used", "3", env=self.settings()))
        self.assertIn("'finances' is neither a list that ships (finance) nor a file",
                      self.usage("warm", "finances", env=self.settings()))
        self.assertIn("no model \"absent\"", self.fails(1, "warm", "--model", "absent", "finance", env=self.settings()))
        self.assertIn("no second level", self.fails(1, "warm", "finance", "--cache-url", "none", env=self.settings()))
        self.assertIn("no second level", self.fails(1, "warm", "finance", "--cache-enabled", "false", env=self.settings()))
        self.assertIn("cuda", self.fails(1, "warm", "finance", env=self.settings({"EMBEDDING_DEVICE": "cuda"})))

    def test_interrupted(self):
        """What was computed until then is stored, and the rest is done the next time."""
        words = self.write("words", "".join("%d %s\n" % (i, "word " * 30) for i in range(20000)))
        process = subprocess.Popen([PROGRAM, "warm", words], env=environment(self.settings()), cwd=ROOT,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        log = self.path("data/cache.db-wal")
        while process.poll() is None and not (os.path.exists(log) and os.path.getsize(log) > 500000):
            try:
                process.wait(0.02)
            except subprocess.TimeoutExpired:
                pass
        self.assertIsNone(process.poll(), "it ended by itself")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, -signal.SIGINT)
        computed = int(re.search(r"(\d[\d,]*) computed", out.decode()).group(1).replace(",", ""))
        self.assertGreater(computed, 0)
        self.assertLess(computed, 20000)
        self.assertEqual(self.vectors(), computed)


if __name__ == "__main__":
    unittest.main()
