"""Precision and recall of `embedd pii`, kind by kind, on the set that make_set.py makes. `-v` prints them."""
import collections
import json
import os
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))


def measure():
    lines = subprocess.run([sys.executable, os.path.join(HERE, "make_set.py")], stdout=subprocess.PIPE, check=True).stdout
    answer = subprocess.run([os.environ["EMBEDD"], "pii", "--format", "json", "--input-format", "jsonl"], input=lines,
                            stdout=subprocess.PIPE, check=True).stdout
    found, missed, false = collections.Counter(), collections.Counter(), collections.Counter()
    rows, answers = lines.splitlines(), answer.splitlines()
    assert len(rows) == len(answers)
    for row, got in zip(map(json.loads, rows), map(json.loads, answers)):
        hit = False
        for f in got["findings"]:
            right = f["kind"] == row["kind"] and not hit and (f["offset"], f["length"]) == (
                row["start"], row["end"] - row["start"])
            hit = hit or right
            (found if right else false)[f["kind"]] += 1
        if row["kind"]:
            missed[row["kind"]] += not hit
    return found, missed, false


class Quality(unittest.TestCase):
    def test_every_kind(self):
        found, missed, false = measure()
        self.assertEqual(len(missed), 16)
        for kind in sorted(missed):
            recall, precision = found[kind] / (found[kind] + missed[kind]), found[kind] / max(1, found[kind] + false[kind])
            if "-v" in sys.argv:
                print("%-16s recall %.3f precision %.3f" % (kind, recall, precision))
            with self.subTest(kind):
                self.assertGreaterEqual(recall, 0.99)
                self.assertGreaterEqual(precision, 0.99)


if __name__ == "__main__":
    unittest.main()
