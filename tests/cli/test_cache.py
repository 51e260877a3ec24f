"""embedd cache: what the second level holds, and clearing it."""
import os
import sqlite3
import unittest

from harness import Case


class Cache(Case):
    def setUp(self):
        super().setUp()
        self.env = {"EMBEDD_DATA_DIR": self.path("data"), "EMBEDD_CACHE_URL": "", "REDIS_URL": "", "EMBEDD_CONFIG": ""}

    def fill(self, *words):
        self.good("warm", "-q", self.write("words", "\n".join(words) + "\n"), env=self.env)

    def stats(self):
        return self.good("cache", "stats", "--json", env=self.env).json()

    def clear(self, *arguments):
        return self.good("cache", "clear", "--json", *arguments, env=self.env).json()["removed"]

    def test_stats(self):
        self.assertEqual(self.stats()["entries"], 0)
        self.fill("red", "green", "blue")
        stats = self.stats()
        self.assertEqual((stats["kind"], stats["up"], stats["entries"], stats["error"]), ("sqlite", True, 3, ""))
        self.assertGreater(stats["bytes"], 3 * 384 * 4)
        text = self.good("cache", "stats", env=self.env).out
        self.assertRegex(text, r"^store    sqlite\nvectors  3\nbytes    [0-9,]+\n$")

    def test_clear_everything(self):
        self.fill("red", "green")
        self.assertEqual(self.good("cache", "clear", env=self.env).out, "2 vectors were removed\n")
        self.assertEqual(self.stats()["entries"], 0)
        self.assertEqual(self.clear(), 0)

    def test_clear_by_model(self):
        self.fill("red", "green")
        self.assertEqual(self.clear("--model", "another"), 0)
        self.assertEqual(self.clear("--model", "sentence-transformers/all-MiniLM-L6-v2"), 2)

    def test_clear_by_age(self):
        self.fill("red", "green")
        self.assertEqual(self.clear("--older-than", "1h"), 0)
        self.assertEqual(self.clear("--older-than", "1h", "--model", "all-MiniLM-L6-v2"), 0)
        self.assertEqual(self.stats()["entries"], 2)

    def test_clear_by_key(self):
        self.fill("red", "green")
        self.assertEqual(self.clear("--key", "embed:v1:" + 64 * "0"), 0)
        db = sqlite3.connect(os.path.join(self.env["EMBEDD_DATA_DIR"], "cache.db"))
        tables = [n for n, in db.execute("select name from sqlite_master where type = 'table'")]
        keys = [k for t in tables for row in db.execute("select * from %s" % t) for k in row
                if isinstance(k, bytes) and len(k) == 32]
        db.close()
        self.assertEqual(len(keys), 2)
        self.assertEqual(self.clear("--key", "embed:v1:" + keys[0].hex()), 1)
        self.assertEqual(self.clear("--key", keys[1].hex()), 1)

    def test_wrong_use(self):
        self.assertIn("there is no 'cache list'", self.usage("cache", "list", env=self.env))
        self.assertIn("one of stats and clear is needed", self.usage("cache", env=self.env))
        self.assertIn("--key: 'xyz' is not a key", self.usage("cache", "clear", "--key", "xyz", env=self.env))
        for age in ("7", "d", "-1d", "1.5d", "7days", "0d", "99999999999999999999d"):
            self.assertIn("is not an age such as", self.usage("cache", "clear", "--older-than=" + age, env=self.env))
        self.assertIn("are for 'cache clear'", self.usage("cache", "stats", "--model", "x", env=self.env))
        self.assertIn("no second level", self.fails(1, "cache", "stats", "--cache-url", "none", env=self.env))

    def test_store_that_does_not_answer(self):
        nowhere = ("--cache-url", "sqlite:/proc/nowhere/x.db")
        self.assertIn("the store does not answer: creating /proc/nowhere/x.db",
                      self.fails(1, "cache", "stats", *nowhere, env=self.env))
        self.assertIn("creating /proc/nowhere/x.db", self.fails(1, "cache", "clear", *nowhere, env=self.env))
        r = self.run_program("cache", "stats", "--json", *nowhere, env=self.env)
        self.assertEqual((r.code, r.json()["entries"]), (1, 0))
        self.assertIn("/proc/nowhere", r.json()["error"])

    def test_file_that_is_no_database(self):
        """It is told, and left alone."""
        self.fill("red")
        contents = b"a letter to a friend, longer than a page header\n" * 100
        self.write("data/cache.db", contents)
        for arguments in (("cache", "stats"), ("cache", "clear")):
            self.assertIn("file is not a database", self.fails(1, *arguments, env=self.env))
        r = self.run_program("warm", self.write("words", "green\n"), env=self.env)
        self.assertEqual(r.code, 1)
        self.assertIn("1 vector was not written to sqlite: ", r.err)
        self.assertEqual(self.read("data/cache.db"), contents)


if __name__ == "__main__":
    unittest.main()
