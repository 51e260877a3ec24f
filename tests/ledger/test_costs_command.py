"""`embedd costs` on a ledger that the driver writes."""
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from driver import Driver
from service import clean_environment

DAY = 86400
START = int(datetime.datetime(2026, 3, 28, 12, tzinfo=datetime.timezone.utc).timestamp())


class Costs(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="embedd-costs-")
        self.addCleanup(self.folder.cleanup)

    def costs(self, *words, code=0):
        r = subprocess.run([os.environ["EMBEDD"], "costs", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, env=dict(clean_environment(), EMBEDD_DATA_DIR=self.folder.name), timeout=120)
        self.assertEqual(r.returncode, code, r)
        return (r.stderr if code else r.stdout).decode()

    def fill(self):
        with Driver("sqlite:%s/ledger.db" % self.folder.name, "Europe/Berlin") as d:
            d.add(1234567890123, at=START, category="faq")
            d.add(8400, at=START + DAY, category="faq")
            d.add(0, at=START + DAY, kind="cache", category="faq", saved=1400)
            d.add(0, at=START + DAY, kind="local", provider="local", saved=2500)
            d.add(77, at=START + DAY, kind="shadow", provider="voyage")
            d.add(50_000_000, at=START + 2 * DAY, provider="cohere", category="docs \"1\"".replace(" ", "_"))

    def test_nothing_yet(self):
        self.assertIn("no ledger yet", self.costs())
        self.assertEqual(json.loads(self.costs("--json")), None)
        self.assertFalse(os.path.exists(os.path.join(self.folder.name, "ledger.db")))

    def test_table(self):
        self.fill()
        lines = self.costs("--from", "2026-03-28", "--to", "2026-03-31").splitlines()
        self.assertEqual(lines[0].split(), ["day", "texts", "cached", "local", "tokens", "cost", "$", "saved", "$"])
        self.assertEqual([re.split(" +", line) for line in lines[1:5]], [
            ["2026-03-28", "2", "0", "0", "20", "1,234.57", "0.00000000"],
            ["2026-03-29", "6", "2", "2", "60", "<0.01", "0.00000390"],
            ["2026-03-30", "2", "0", "0", "20", "0.05", "0.00000000"],
            ["total", "10", "2", "2", "100", "1,234.62", "0.00000390"]])
        self.assertEqual(len({len(line) for line in lines[1:5]}), 1)  # columns
        text = "\n".join(lines)
        self.assertIn("saved by the cache     $0.00000140  (2 texts)", text)
        self.assertIn("saved by local models  $0.00000250  (2 texts)", text)
        self.assertRegex(text, r"month 20\d\d-\d\d: spent \$")

    def test_two_dimensions_and_filters(self):
        self.fill()
        lines = self.costs("--by", "provider,category").splitlines()
        self.assertEqual([line.split()[:2] for line in lines[1:5]],
                         [["openai", "faq"], ["cohere", 'docs_"1"'], ["local", "-"], ["total", "10"]])
        self.assertIn("total", self.costs("--by", "total"))
        self.assertIn("voyage", self.costs("--by", "provider", "--shadow"))
        self.assertIn("nothing was embedded", self.costs("--provider", "nobody"))
        only = json.loads(self.costs("--provider", "cohere", "--by", "week", "--json"))
        self.assertEqual(only["rows"], [{"week": "2026-W14", "calls": 1, "texts": 2, "cached_texts": 0, "local_texts": 0, "tokens": 20,
                                         "cost_usd": 0.05, "saved_cache_usd": 0, "saved_local_usd": 0}])

    def test_json(self):
        self.fill()
        text = self.costs("--json", "--by", "day,category", "--from", "2026-03-28", "--to", "2026-03-30")
        self.assertIn('"cost_usd":1234.567890123,', text)  # exact
        a = json.loads(text)
        self.assertEqual((a["from"], a["to"]), ("2026-03-28", "2026-03-30"))
        self.assertEqual([(r["day"], r["category"]) for r in a["rows"]],
                         [("2026-03-28", "faq"), ("2026-03-29", "faq"), ("2026-03-29", ""), ("2026-03-30", 'docs_"1"')])
        self.assertRegex(a["projection"]["month"], r"^\d{4}-\d\d$")
        p = json.loads(self.costs("--projection", "--json"))
        self.assertEqual(set(p), {"month", "spent_usd", "projected_usd", "low_usd", "high_usd", "days_left", "days_of_history"})

    def test_wrong_use(self):
        self.fill()
        self.assertIn("--by", self.costs("--by", "colour", code=2))
        self.assertIn("from", self.costs("--from", "yesterday", code=1))
        self.assertIn("no time zone", self.costs("--budget-timezone", "Atlantis/Main", code=1))


if __name__ == "__main__":
    unittest.main(verbosity=2)
