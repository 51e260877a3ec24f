"""tokenize, similarity, models, inspect, bench, quantize."""
import json
import os
import shutil
import subprocess
import tempfile
import unittest

import numpy

from harness import Case, DIMENSION, MODEL, PROGRAM, ROOT, SANITIZED, environment, vectors_of

MODEL_DIR = os.path.join(ROOT, "models", MODEL)


class Pii(Case):
    TEXT = "Mail ann@example.com\n\nfrom 10.1.2.3 or 10.1.2.4\n"

    def path(self):
        path = os.path.join(tempfile.mkdtemp(), "t.txt")
        self.addCleanup(shutil.rmtree, os.path.dirname(path))
        with open(path, "w") as f:
            f.write(self.TEXT)
        return path

    def test_text(self):
        out = self.good("pii", self.path()).out
        self.assertEqual(out, "1\temail\t5\t15\tpattern\n3\tip_address\t5\t8\tpattern\n3\tip_address\t17\t8\tpattern\n")
        self.assertNotIn("ann", out)

    def test_json_and_redact(self):
        rows = [json.loads(line) for line in self.good("pii", "-f", "json", "-k", "email", self.path()).out.splitlines()]
        self.assertEqual([len(r["findings"]) for r in rows], [1, 0, 0])
        self.assertEqual(rows[0]["findings"][0], {"kind": "email", "offset": 5, "length": 15, "confidence": "pattern"})
        self.assertEqual(self.good("pii", "--redact", "--pattern", "verb=Mail", self.path()).out,
                         "<VERB> <EMAIL>\n\nfrom <IP_ADDRESS> or <IP_ADDRESS>\n")


class Tokenize(Case):
    def test_json(self):
        self.assertEqual(self.good("tokenize", "Hello, wörld 🙂").out,
                         '{"index":0,"text":"Hello, wörld 🙂","count":6,"ids":[101,7592,1010,2088,100,102],'
                         '"tokens":["[CLS]","hello",",","world","[UNK]","[SEP]"],'
                         '"offsets":[[0,0],[0,5],[5,6],[7,13],[14,18],[0,0]]}\n')

    def test_several(self):
        r = self.good("tokenize", "embeddings", "", "--no-special")
        self.assertEqual(r.out,
                         '{"index":0,"text":"embeddings","count":4,"ids":[7861,8270,4667,2015],'
                         '"tokens":["em","##bed","##ding","##s"],"offsets":[[0,2],[2,5],[5,9],[9,10]]}\n'
                         '{"index":1,"text":"","count":0,"ids":[],"tokens":[],"offsets":[]}\n')

    def test_text(self):
        self.assertEqual(self.good("tokenize", "-f", "text", "hi you", "x").out,
                         "    101  -            [CLS]\n   7632  0-2          hi\n   2017  3-6          you\n"
                         "    102  -            [SEP]\n\n"
                         "    101  -            [CLS]\n   1060  0-1          x\n    102  -            [SEP]\n")

    def test_no_limit_unless_asked(self):
        text = "word " * 1000
        self.assertEqual(self.good("tokenize", text).json()["count"], 1002)
        self.assertEqual(self.good("tokenize", "--max-tokens", "7", text).json()["count"], 7)

    def test_invalid_utf8(self):
        o = self.good(b"tokenize", b"a\xffb").json()
        self.assertEqual(o["text"], "a\ufffdb")

    def test_input(self):
        self.write("a.jsonl", '{"text":"hi you"}\n{"text":"x"}\n')
        lines = self.good("tokenize", "--input", self.path("a.jsonl")).lines()
        self.assertEqual([o["ids"] for o in lines], [[101, 7632, 2017, 102], [101, 1060, 102]])
        self.write("a.jsonl", '{"text":"hi you"}\n{"body":"x"}\n')
        r = self.run_program("tokenize", "--count", "--input", self.path("a.jsonl"))
        self.assertEqual((r.code, r.bytes), (1, b""))
        self.assertIn("a.jsonl: line 2: ", r.err)
        self.assertIn("/nowhere", self.fails(1, "tokenize", "--input", "/nowhere"))
        self.assertEqual(self.usage("tokenize", "x", "--input", "-"), "embedd tokenize: give texts or --input, not both")

    def test_count(self):
        self.assertEqual(self.good("tokenize", "--count", "hi you", "x").json(),
                         {"model": MODEL, "texts": 2, "tokens": 7, "longest": 4, "limit": 256, "over_limit": 0})
        self.assertEqual(self.good("tokenize", "-c", "-f", "text", "--no-special", "--max-tokens", "1", "hi you").out,
                         MODEL + ": 1 text, 1 token, longest 1\n")


class HostedTokens(Case):
    """Tokens of OpenAI's encoding; tests/golden compares it with tiktoken."""

    def test_ids(self):
        self.assertEqual(self.good("tokenize", "-m", "cl100k_base", "hello world 🙂").out,
                         '{"index":0,"text":"hello world 🙂","count":3,"ids":[15339,1917,28584],'
                         '"tokens":["hello"," world"," 🙂"],"offsets":[[0,5],[5,11],[11,16]]}\n')
        for model in ("text-embedding-3-small", "text-embedding-3-large", "text-embedding-ada-002"):
            self.assertEqual(self.good("tokenize", "-m", model, "<|endoftext|>").json()["ids"],
                             [27, 91, 8862, 728, 428, 91, 29])
        self.assertEqual(self.good("tokenize", "-m", "cl100k_base", "--max-tokens", "2", "hello world 🙂").json()["ids"],
                         [15339, 1917])
        self.assertEqual(self.good("tokenize", "-m", "cl100k_base", "").json()["count"], 0)

    def test_price(self):
        self.write("a.jsonl", "".join('{"text":"hello world"}\n' for _ in range(12345)))
        o = self.good("tokenize", "-m", "text-embedding-3-small", "--count", "--input", self.path("a.jsonl"))
        self.assertEqual(o.out, '{"model":"text-embedding-3-small","encoding":"cl100k_base","texts":12345,"tokens":24690,'
                         '"longest":2,"limit":8191,"over_limit":0,"price_nusd_per_1k":20000,"cost_nusd":493800,'
                         '"cost_usd":0.000493800}\n')
        r = self.good("tokenize", "-m", "text-embedding-3-large", "-c", "-f", "text", "-i", "-", stdin=b"hello world\n" + b"\xe8\xaa\x9e" * 20000)
        self.assertRegex(r.out, r"^text-embedding-3-large: 2 texts, 40002 tokens, longest 40000, 1 over the limit of 8191, "
                         r"0\.005200260 USD\n$")
        self.assertNotIn("cost_usd", self.good("tokenize", "-m", "cl100k_base", "-c", "x").json())

    def test_no_ranks(self):
        program = self.path("bin/embedd")
        os.mkdir(self.path("bin"))
        shutil.copy(PROGRAM, program)
        r = subprocess.run([program, "tokenize", "-m", "cl100k_base", "x"], cwd=self.folder, capture_output=True,
                           env=environment({"EMBEDD_MODELS": self.path("none")}))
        if r.returncode:  # otherwise they are installed on this machine
            self.assertIn(b"no cl100k_base/ranks.bin; looked in: ", r.stderr)
        os.makedirs(self.path("models/cl100k_base"))
        self.write("models/cl100k_base/ranks.bin", "EMBRANKS")
        r = subprocess.run([program, "tokenize", "-m", "cl100k_base", "x"], cwd=self.folder, capture_output=True,
                           env=environment({"EMBEDD_MODELS": self.path("models")}))
        self.assertEqual((r.returncode, r.stdout), (1, b""))
        self.assertIn(b"ranks.bin: this is not a file of byte-pair ranks", r.stderr)


class Similarity(Case):
    A, B, C = "a cat sleeps", "a kitten is napping", "stock markets fell"

    def test_two(self):
        out = self.good("similarity", self.A, self.B).out
        self.assertRegex(out, r"^0\.\d{6}\n$")
        v = vectors_of(self.good("embed", self.A, self.B).lines()).astype(float)
        self.assertAlmostEqual(float(out), float(v[0] @ v[1]), delta=2e-6)
        o = self.good("similarity", "-f", "json", self.A, self.B).json()
        self.assertEqual(list(o), ["model", "similarity"])
        self.assertAlmostEqual(o["similarity"], float(out), delta=1e-6)
        self.assertEqual(self.good("similarity", self.A, self.A).out, "1.000000\n")

    def test_matrix(self):
        out = self.good("similarity", self.A, self.B, self.C).out
        m = numpy.array([[float(x) for x in line.split()] for line in out.splitlines()])
        self.assertEqual(m.shape, (3, 3))
        numpy.testing.assert_allclose(numpy.diag(m), 1, atol=1e-6)
        numpy.testing.assert_array_equal(m, m.T)
        self.assertGreater(m[0, 1], m[0, 2])
        o = self.good("similarity", "-f", "json", self.A, self.B, self.C).json()
        numpy.testing.assert_allclose(o["similarity"], m, atol=1e-6)

    def test_first(self):
        out = self.good("similarity", "--mode", "first", self.A, self.C, self.B).out
        self.assertRegex(out, r"^ 0\.\d{6}  a kitten is napping\n[ -]0\.\d{6}  stock markets fell\n$")
        o = self.good("similarity", "--mode", "first", "-f", "json", self.A, self.C, self.B).json()
        self.assertEqual([(x["index"], x["text"]) for x in o["ranking"]], [(2, self.B), (1, self.C)])
        # without prompts of its own a model searches as it compares
        self.assertEqual(self.good("similarity", "--mode", "search", self.A, self.C, self.B).out, out)
        self.assertEqual(self.usage("similarity", "--mode", "search", "--query", "a", "b"),
                         "embedd similarity: --mode search chooses the prompts itself")


class KnownPrompts(Case):
    """A model of a known name whose files have no prompts takes those it was trained with."""

    def test_e5(self):
        folder = self.path("e5-small-v2")
        shutil.copytree(MODEL_DIR, folder)
        def vector(*words):
            return self.good("embed", "--model", folder, "--no-text", *words).json()["embedding"]
        self.assertEqual(vector("--query", "hello"), vector("query: hello"))
        self.assertEqual(vector("--document", "hello"), vector("passage: hello"))
        self.assertEqual(vector("--prompt", "", "hello"), vector("hello"))
        a = self.good("similarity", "--model", folder, "--mode", "search", "x", "y", "z").out
        b = self.good("similarity", "--mode", "first", "query: x", "passage: y", "passage: z").out
        self.assertEqual(a, b.replace("passage: ", ""))


class Models(Case):
    def test_table(self):
        out = self.good("models").out
        self.assertRegex(out, r"(?m)^all-MiniLM-L6-v2 +384 +256 +56\.3 +91 MB +free +local +en +installed$")
        self.assertRegex(out, r"(?m)^bge-m3 +1024 +8192 +- +2\.3 GB +free +local +many +BAAI/bge-m3$")
        self.assertRegex(out, r"(?m)^text-embedding-3-small +1536 +8191 +62\.3 +- +\$0\.00002 +openai +many +hosted$")
        for line in out.splitlines():
            self.assertEqual(line, line.rstrip())

    def test_json(self):
        models = {m["name"]: m for m in self.good("models", "-f", "json").json()}
        self.assertEqual(len(models), 18)
        mini = models["all-MiniLM-L6-v2"]
        self.assertEqual((mini["dimension"], mini["max_tokens"], mini["installed"]), (384, 256, True))
        self.assertTrue(os.path.samefile(mini["path"], MODEL_DIR))
        self.assertEqual(models["text-embedding-3-large"]["usd_per_1k_tokens"], 0.00013)
        self.assertEqual(models["text-embedding-ada-002"]["usd_per_1k_tokens"], 0.0001)
        self.assertIsNone(models["bge-m3"]["mteb"])
        self.assertIsNone(models["bge-m3"]["path"])
        self.assertEqual(models["e5-base-v2"]["query_prompt"], "query: ")
        self.assertEqual(models["bge-small-en-v1.5"]["query_prompt"],
                         "Represent this sentence for searching relevant passages: ")

    def test_catalogue_agrees_with_the_model_that_ships(self):
        mini = [m for m in self.good("models", "-f", "json").json() if m["name"] == MODEL][0]
        seen = self.good("inspect", "-f", "json", MODEL).json()
        self.assertEqual((mini["dimension"], mini["max_tokens"]), (seen["dimension"], seen["max_tokens"]))
        self.assertAlmostEqual(mini["parameters"], seen["parameters"], delta=mini["parameters"] * 0.01)

    def test_recommend(self):
        for goal, name in (("quality", "bge-large-en-v1.5"), ("speed", "all-MiniLM-L6-v2"),
                           ("balance", "bge-base-en-v1.5"), ("multilingual", "bge-m3"), ("code", "bge-base-en-v1.5")):
            out = self.good("models", "--recommend", goal).out
            self.assertEqual(out.splitlines()[1].split()[0], name)
            self.assertIn("For %s take %s: " % (goal, name), out)
            picks = self.good("models", "--recommend", goal, "-f", "json").json()
            self.assertEqual((picks[0]["name"], len(picks)), (name, 3))
        self.assertEqual(self.usage("models", "--recommend", "beauty"),
                         "embedd models: --recommend: 'beauty' is not one of quality|speed|balance|multilingual|code")

    def test_other_models_are_listed(self):
        os.mkdir(self.path("m"))
        shutil.copytree(MODEL_DIR, self.path("m/my-own-model"))
        out = self.good("models", env={"EMBEDD_MODELS": self.path("m")}).out
        self.assertRegex(out, r"(?m)^Also installed:\n  my-own-model +.*m/my-own-model$")


class Inspect(Case):
    def copy(self):
        folder = self.path("model")
        shutil.copytree(MODEL_DIR, folder)
        return folder

    def edit(self, folder, name, change):
        path = os.path.join(folder, name)
        with open(path) as f:
            o = json.load(f)
        change(o)
        with open(path, "w") as f:
            json.dump(o, f)

    def test_text(self):
        out = self.good("inspect", MODEL).out
        self.assertTrue(out.startswith("all-MiniLM-L6-v2\ndirectory     "), out)
        for line in ("architecture  bert: 6 layers, 384 wide, 12 heads, 1,536 feed-forward, gelu",
                     "texts         up to 256 tokens, longer ones cut at the end",
                     "vectors       384 dimensions, of length 1",
                     "modules       transformer, pooling (mean), normalize",
                     "prompts       none", "tokenizer     WordPiece, 30,522 tokens"):
            self.assertIn("\n" + line + "\n", out)
        self.assertRegex(out, r"\nweights       22,7\d\d,\d{3} parameters in \d+ tensors, .*: \d\d\.\d MB\n")
        self.assertRegex(out, r"\nruns with     (fp32|bf16|int8) products on \w+, \d+ threads?; \d+\.\d MB in memory, ")

    def test_json(self):
        o = self.good("inspect", "--format", "json", MODEL_DIR, "--precision", "fp32", "--isa", "portable").json()
        self.assertEqual((o["runnable"], o["problems"], o["dimension"], o["pooling"], o["normalize"]),
                         (True, [], 384, "mean", True))
        self.assertEqual((o["precision"], o["isa"]), ("fp32", "portable"))

    def test_unsupported(self):
        folder = self.copy()
        self.edit(folder, "config.json", lambda o: o.update(position_embedding_type="relative_key"))
        r = self.run_program("inspect", folder)
        self.assertEqual(r.code, 1)
        self.assertRegex(r.out, r"(?m)^cannot run    .*config\.json.*position_embedding_type")
        self.assertIn("tokenizer     WordPiece", r.out)
        o = json.loads(self.run_program("inspect", "-f", "json", folder).out)
        self.assertFalse(o["runnable"])
        self.assertIn("position_embedding_type", o["problems"][0])
        message = self.fails(1, "embed", "--model", folder, "x")
        self.assertIn("position_embedding_type", message)

    def test_damaged(self):
        folder = self.copy()
        with open(os.path.join(folder, "model.safetensors"), "r+b") as f:
            f.truncate(1000)
        os.unlink(os.path.join(folder, "tokenizer.json"))
        os.unlink(os.path.join(folder, "vocab.txt")) if os.path.exists(os.path.join(folder, "vocab.txt")) else None
        r = self.run_program("inspect", folder)
        self.assertEqual(r.code, 1)
        self.assertIn("architecture  bert", r.out)
        self.assertIn("model.safetensors", r.out)
        self.assertGreaterEqual(r.out.count("\n              ") + r.out.count("cannot run"), 2)

    def test_what_is_no_model(self):
        self.assertIn(self.folder, self.fails(1, "inspect", self.folder))
        self.assertIn("no-such", self.fails(1, "inspect", "no-such"))


class Bench(Case):
    def test_bench(self):
        words = ["--seconds", "1", "--isa", "portable"] if SANITIZED else ["--seconds", "1"]
        o = self.good("bench", "-f", "json", *words).json()
        self.assertEqual(o["model"], MODEL)
        self.assertEqual([t["texts"] for t in o["throughput"]], ["equal"] * 3 + ["mix"])
        lengths = [t["tokens_per_text"] for t in o["throughput"]]
        for got, wanted in zip(lengths, (16, 128, 256)):
            self.assertLess(abs(got - wanted), 1 + wanted // 16)
        for t in o["throughput"]:
            self.assertGreater(t["tokens_per_second"], 0)
        self.assertLess(o["latency"]["median_us"], o["latency"]["p99_us"] + 1)
        self.assertGreater(o["peak_memory_bytes"], o["weight_bytes"])

    def test_text(self):
        out = self.good("bench", "--seconds", "1").out
        for words in ("tokens in a text", "256 (its limit)", "mix (mean", "one text of", "loading the model", "memory"):
            self.assertIn(words, out)


class Quantize(Case):
    def test_again(self):
        """The weights are int8 already: quantizing them again changes nothing."""
        out = self.path(MODEL)
        r = self.good("quantize", MODEL_DIR, out)
        self.assertRegex(r.out, r"^.*%s: \d+ of \d+ tensors as int8, \d+\.\d MB instead of \d+\.\d MB\n$" % MODEL)
        with open(os.path.join(MODEL_DIR, "model.safetensors"), "rb") as a:
            self.assertEqual(a.read(), self.read(MODEL + "/model.safetensors"))
        self.assertEqual(self.good("embed", "--model", out, "hello").bytes, self.good("embed", "hello").bytes)
        self.assertEqual(self.good("quantize", "--quiet", MODEL_DIR, out).out, "")

    def test_coarser(self):
        out = self.path("coarse")
        self.good("quantize", "--group", "128", "--table-group", "128", MODEL_DIR, out)
        a, b = (vectors_of([self.good("embed", "--model", m, "hello world").json()])[0] for m in (MODEL_DIR, out))
        self.assertGreater(float(a @ b), 0.99)
        self.assertLess(os.path.getsize(out + "/model.safetensors"),
                        os.path.getsize(MODEL_DIR + "/model.safetensors") - 500000)

    def test_mistakes(self):
        self.assertIn("is not a directory", self.usage("quantize", self.path("none"), self.path("out")))
        self.assertIn("config.json", self.fails(1, "quantize", self.folder, self.path("out")))
        self.assertIn(MODEL_DIR, self.fails(1, "quantize", MODEL_DIR, MODEL_DIR))
        self.assertEqual(self.usage("quantize", "--group", "7", "a", "b"),
                         "embedd quantize: --group: '7' is not a whole number from 8 to 256")


if __name__ == "__main__":
    unittest.main()
