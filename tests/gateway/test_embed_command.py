"""`embedd embed` and `embedd similarity` through the gateway: the same planner, privacy, budgets, cache and accounts as
the server's routes, and the properties of a bulk run: order, resuming, lines named in errors, nothing spent unseen."""
import json
import os
import shutil
import subprocess
import tempfile
import unittest

import numpy

from case import Case, KEY, LOCAL, SMALL, faults, service

SPACE = "openai/text-embedding-3-small@api:1536:remote:api"
LARGE = "text-embedding-3-large"


class Command(Case):
    def setUp(self):
        super().setUp()
        self.folder = tempfile.mkdtemp(prefix="embedd-gate-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.data = os.path.join(self.folder, "data")

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(self.path(name), 0o600)
        return self.path(name)

    def run_program(self, *arguments, env=None, stdin=b""):
        settings = self.openai(EMBEDD_DATA_DIR=self.data, **(env or {}))
        p = subprocess.run([service.PROGRAM, *arguments], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                           cwd=self.folder, env=service.clean_environment(settings), timeout=240)
        self.err = p.stderr.decode()
        self.assertNotIn("Sanitizer", self.err)
        self.assertNotIn(KEY, self.err)
        return p.returncode, p.stdout

    def good(self, *arguments, **more):
        code, out = self.run_program(*arguments, **more)
        self.assertEqual(code, 0, self.err)
        return out

    def bad(self, *arguments, code=1, **more):
        got, out = self.run_program(*arguments, **more)
        self.assertEqual(got, code, self.err)
        return out

    def lines(self, data):
        return [json.loads(line) for line in data.splitlines()]

    def right(self, objects, texts, model=SMALL, first=0):
        self.assertEqual([o["text"] for o in objects], texts)
        self.assertEqual([o["index"] for o in objects], list(range(first, first + len(texts))))
        self.same([o["embedding"] for o in objects], self.expect(model, texts))

    def costs(self):
        return json.loads(self.good("costs", "--by", "kind", "--json"))


class Interactive(Command):
    def test_provider(self):
        out = json.loads(self.good("embed", "--provider", "openai", "hello world"))
        self.right([out], ["hello world"])
        self.assertEqual((out["model"], out["space"], out["dimension"], out["tokens"]), (SMALL, SPACE, 1536, 2))
        self.assertRegex(self.err, r"^embedd embed: openai / text-embedding-3-small, space \S+: 1 text, 2 tokens, "
                                   r"0 from the cache, \$0\.00000004\n$")
        again = json.loads(self.good("embed", "--provider", "openai", "hello world"))
        self.assertEqual(again, out)
        self.assertEqual(self.up.calls, 1)  # it was in the cache, which a server would share
        self.assertIn("1 from the cache, $0.00\n", self.err)

    def test_model_of_the_configuration(self):
        self.right([json.loads(self.good("embed", "--model", SMALL, "a b"))], ["a b"])
        out = json.loads(self.good("embed", "--model", "openai/" + LARGE, "-d", "8", "a b"))
        self.same([out["embedding"]], self.expect(LARGE, ["a b"], 8))
        self.assertEqual(out["space"], "openai/text-embedding-3-large@api:8:remote:api")
        self.good("embed", "--quiet", "--model", SMALL, "a b")
        self.assertEqual(self.err, "")

    def test_local_opens_nothing(self):
        """A model of this machine is used as ever, whatever is configured, and leaves no trace."""
        out = json.loads(self.good("embed", "hello"))
        self.assertEqual((out["model"], out["dimension"]), (LOCAL, 384))
        self.assertNotIn("space", out)
        self.assertEqual(self.err, "")
        self.assertFalse(os.path.exists(self.data))
        broken = self.write("broken.yaml", "nonsense: [")
        self.good("embed", "hello", env={"EMBEDD_CONFIG": broken})  # not even read
        self.assertEqual(self.up.calls, 0)

    def test_route(self):
        self.assertEqual(json.loads(self.good("embed", "--route", "x"))["model"], LOCAL)
        self.assertEqual(json.loads(self.good("embed", "--route", "--context", "analysis", "x"))["model"], SMALL)
        self.assertEqual(json.loads(self.good("embed", "--route", "--context", "sensitive", "x"))["model"], LOCAL)
        self.assertEqual(self.up.texts(), ["x"])
        out = json.loads(self.good("embed", "--space", SPACE, "x"))
        self.assertEqual(out["space"], SPACE)

    def test_fallback_before_the_first_vector(self):
        self.up.always(faults.status(503))
        out = self.lines(self.good("embed", "--route", "--context", "analysis", "a", "b", "c"))
        self.assertEqual({o["model"] for o in out}, {LOCAL})
        self.assertEqual(len({o["space"] for o in out}), 1)

    def test_private(self):
        self.bad("embed", "--provider", "openai", "write to ann@example.com")
        self.assertIn("text 1: the texts are private (email)", self.err)
        self.assertEqual(self.up.calls, 0)
        out = json.loads(self.good("embed", "--route", "--context", "analysis", "write to ann@example.com"))
        self.assertEqual(out["model"], LOCAL)

    def test_roles_and_options(self):
        self.bad("embed", "--provider", "openai", "--pooling", "cls", "x", code=2)
        self.bad("embed", "--provider", "openai", "--threads", "2", "x", code=2)
        self.bad("embed", "--provider", "openai", "--prompt", "p", "x", code=2)
        self.bad("embed", "--provider", "openai", "--max-cost", "much", "x", code=2)
        self.bad("embed", "--max-cost", "1", "x", code=2)
        self.assertIn("--max-cost is of the gateway", self.err)
        self.bad("embed", "--estimate", "x", code=2)
        self.bad("embed", "--provider", "openai", "--estimate", "--output", "f", "x", code=2)
        self.bad("embed", "--provider", "nobody", "x")
        self.assertIn("nobody", self.err)
        self.assertEqual(self.up.calls, 0)

    def test_similarity(self):
        value = float(self.good("similarity", "--provider", "openai", "a", "b"))
        a, b = self.expect(SMALL, ["a", "b"])
        self.assertAlmostEqual(value, float(a @ b), places=5)
        out = json.loads(self.good("similarity", "--model", SMALL, "--mode", "search", "-f", "json", "a", "b", "c"))
        self.assertEqual((out["model"], out["space"]), (SMALL, SPACE))
        self.assertEqual({r["text"] for r in out["ranking"]}, {"b", "c"})
        self.assertIn("$0.0000000", self.err)


class Bulk(Command):
    TEXTS = ["line %d of %d" % (i, i * i % 97) for i in range(1500)]

    def setUp(self):
        super().setUp()
        self.input = self.write("in.txt", "\n".join(self.TEXTS) + "\n")

    def test_order(self):
        out = self.path("out.jsonl")
        self.good("embed", "--provider", "openai", "-i", self.input, "-o", out)
        with open(out, "rb") as f:
            self.right(self.lines(f.read()), self.TEXTS)
        self.assertEqual(sorted(self.up.texts()), sorted(set(self.TEXTS)))  # each once
        self.assertLess(self.up.calls, 12)
        self.assertAlmostEqual(self.costs()["total"]["cost_usd"], self.up.cost_nusd * 1e-9, places=6)

    def test_formats(self):
        out = self.path("out.npy")
        self.good("embed", "--provider", "openai", "-i", self.input, "-f", "npy", "-o", out)
        numpy.testing.assert_allclose(numpy.load(out), self.expect(SMALL, self.TEXTS), rtol=0, atol=1e-6)
        empty = self.write("empty.txt", "")
        self.good("embed", "--provider", "openai", "-i", empty, "-f", "npy", "-o", out)
        self.assertEqual(numpy.load(out).shape[0], 0)
        self.assertEqual(json.loads(self.good("embed", "--provider", "openai", "-i", "-", "-f", "json")), [])

    def test_estimate(self):
        self.bad("embed", "--provider", "openai", "-i", self.path("missing"), "--estimate")
        told = json.loads(self.good("embed", "--provider", "openai", "-i", self.input, "--estimate", "-f", "json"))
        self.assertEqual((told["provider"], told["model"], told["texts"], told["exact"]), ("openai", SMALL, 1500, True))
        self.assertEqual(self.up.calls, 0)
        text = self.good("embed", "--provider", "openai", "-i", self.input, "--estimate").decode()
        self.assertIn("openai / " + SMALL, text)
        self.assertIn("texts     1,500\n", text)
        # the price of those tokens, as the built-in table has it
        self.assertAlmostEqual(told["estimated_cost_usd"], told["tokens"] * 0.00002 / 1000, places=7)
        private = self.write("private.txt", "one\nmail ann@example.com\nthree\n")
        told = json.loads(self.good("embed", "--provider", "openai", "-i", private, "--estimate", "-f", "json"))
        self.assertEqual((told["texts"], told["private_texts"]), (2, 1))

    def test_max_cost_and_resume(self):
        """It stops before the call that would go over, keeps what is paid for, and goes on where it was."""
        out = self.path("out.jsonl")
        told = json.loads(self.good("embed", "--provider", "openai", "-i", self.input, "--estimate", "-f", "json"))
        half = "%.9f" % (told["estimated_cost_usd"] * 0.6)
        run = ["embed", "--provider", "openai", "-i", self.input, "-o", out, "--resume", "--max-cost"]
        self.bad(*run, half)
        self.assertIn("--max-cost is $", self.err)
        self.assertIn("the same command goes on from there", self.err)
        self.assertFalse(os.path.exists(out))
        with open(out + ".partial", "rb") as f:
            kept = self.lines(f.read())
        self.assertTrue(0 < len(kept) < len(self.TEXTS), len(kept))
        self.right(kept, self.TEXTS[:len(kept)])
        self.good(*run, "1")
        self.assertIn("texts were there already", self.err)
        with open(out, "rb") as f:
            self.right(self.lines(f.read()), self.TEXTS)
        # nothing was paid for twice
        self.assertEqual(sorted(self.up.texts()), sorted(set(self.TEXTS)))

    def test_resumed_lines_stay_as_they_are(self):
        """An API does not repeat its vectors to the last bit: the last line that is there is kept, not compared."""
        out = self.path("out.jsonl")
        run = ["embed", "--provider", "openai", "-i", self.input, "-o", out, "--resume", "--cache-enabled=false"]
        self.bad(*run, "--max-cost", "0.0001")
        with open(out + ".partial", "rb") as f:
            before = f.read()

        @faults.edit
        def slightly_other(reply, _):
            for row in reply.rows:
                row.vector = [x * 1.0001 for x in row.vector]
        self.up.always(slightly_other)
        self.good(*run)
        with open(out, "rb") as f:
            self.assertTrue(f.read().startswith(before))

    def test_resume_of_another_space(self):
        out = self.path("out.jsonl")
        small = self.write("small.txt", "a\nb\nc\n")
        self.bad("embed", "-i", small, "-o", out, "--resume", "--model", SMALL, "--max-cost", "0.00000003",
                 "--batch-size", "1")
        with open(out + ".partial", "rb") as f:
            self.assertEqual(len(f.read().splitlines()), 1)
        self.bad("embed", "-i", small, "-o", out, "--resume", "--model", LARGE)
        self.assertIn("space", self.err)
        self.good("embed", "-i", small, "-o", out, "--resume", "--model", SMALL)
        with open(out, "rb") as f:
            self.right(self.lines(f.read()), ["a", "b", "c"])

    def test_private_lines(self):
        path = self.write("private.txt", "one\ntwo\nmail ann@example.com\nfour\ncall bob@example.com now\nsix\n")
        out = self.bad("embed", "--provider", "openai", "-i", path)
        self.right(self.lines(out), ["one", "two"])
        self.assertIn("private.txt:3: the texts are private (email)", self.err)
        out = self.lines(self.good("embed", "--provider", "openai", "-i", path, "--on-error", "skip"))
        self.assertEqual([(o["index"], o["text"]) for o in out], [(0, "one"), (1, "two"), (3, "four"), (5, "six")])
        self.assertIn("private.txt:3: ", self.err)
        self.assertIn("private.txt:5: ", self.err)
        self.assertFalse([t for t in self.up.texts() if "@" in t])

    def test_text_that_is_too_long(self):
        path = self.write("long.txt", "one\n" + "word " * 9000 + "\nthree\n")
        out = self.bad("embed", "--provider", "openai", "-i", path)
        self.assertEqual([o["text"] for o in self.lines(out)], ["one"])
        self.assertIn("long.txt:2: ", self.err)
        out = self.lines(self.good("embed", "--provider", "openai", "-i", path, "--on-error", "skip", "--no-text"))
        self.assertEqual([o["index"] for o in out], [0, 2])

    def test_budget(self):
        """The configured limits hold for the command as for the server."""
        out = self.path("out.jsonl")
        run = ["embed", "--provider", "openai", "-i", self.input, "-o", out, "--resume",
               "--hybrid-daily-api-budget-usd", "0.0001"]
        self.bad(*run)
        self.assertIn("budget", self.err)
        self.assertLessEqual(self.up.cost_nusd, 100000)
        self.good("embed", "--provider", "openai", "-i", self.input, "-o", out, "--resume")
        with open(out, "rb") as f:
            self.right(self.lines(f.read()), self.TEXTS)

    def test_provider_that_fails_in_the_middle(self):
        """There is no falling into another space once a line is written."""
        self.up.script(lambda r: faults.status(503) if self.up.calls > 3 else None)
        out = self.path("out.jsonl")
        run = ["embed", "--route", "--context", "analysis", "-i", self.input, "-o", out, "--resume", "--batch-size", "100"]
        self.bad(*run)
        self.assertIn("openai", self.err)
        self.assertNotIn(LOCAL, self.err)
        self.up.script([])
        with open(out + ".partial", "rb") as f:
            kept = self.lines(f.read())
        self.right(kept, self.TEXTS[:len(kept)])

    def test_busy_provider_is_waited_for(self):
        self.up.script([None, faults.rate_limited({"retry-after": "1"}), faults.rate_limited({"retry-after": "1"})])
        path = self.write("few.txt", "a\nb\nc\n")
        out = self.lines(self.good("embed", "--provider", "openai", "-i", path))
        self.right(out, ["a", "b", "c"])
        self.assertEqual(self.err.count("; waiting\n"), 1, self.err)

    def test_jsonl_ids(self):
        path = self.write("in.jsonl", '{"id":"a","text":"one"}\n{"id":7,"text":"two"}\nnonsense\n{"text":"four"}\n')
        out = self.lines(self.good("embed", "--provider", "openai", "-i", path, "--on-error", "skip", "--category", "faq"))
        self.assertEqual([(o["index"], o.get("id"), o["text"]) for o in out],
                         [(0, "a", "one"), (1, 7, "two"), (3, None, "four")])
        self.assertIn("in.jsonl:3: ", self.err)
        self.assertIn("faq", self.good("costs", "--by", "category").decode())


if __name__ == "__main__":
    unittest.main(verbosity=2)
