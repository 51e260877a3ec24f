"""embedd embed: what comes out, in every format."""
import io
import json
import os
import unittest

import numpy

from harness import Case, DIMENSION, MODEL, SANITIZED, vectors_of, vectors_of_base64

KEYS = ["index", "text", "model", "dimension", "tokens", "embedding"]
# The vector of "hello world" as sentence-transformers computes it starts so.
HELLO = [-0.034478, 0.03102, 0.00673, 0.02611, -0.039362]
TEXTS = ["hello world", "Der Hund schläft.", "", "日本語のテキスト", "a \"quoted\" \\ text\twith\ncontrols\x01", "x" * 3000]


class Embed(Case):
    def test_one_text(self):
        r = self.good("embed", "hello world")
        o = r.json()
        self.assertEqual(list(o), KEYS)
        self.assertTrue(r.out.startswith('{"index":0,"text":"hello world","model":"all-MiniLM-L6-v2",'
                                         '"dimension":384,"tokens":4,"embedding":['), r.out[:120])
        self.assertTrue(r.out.endswith("]}\n"))
        self.assertEqual(r.out.count("\n"), 1)
        self.assertEqual(r.err, "")
        v = numpy.array(o["embedding"])
        self.assertEqual(v.shape, (DIMENSION,))
        self.assertAlmostEqual(float(numpy.linalg.norm(v)), 1, delta=1e-5)
        numpy.testing.assert_allclose(v[:5], HELLO, atol=4e-3)

    def test_known_neighbours(self):
        r = self.good("embed", "A man is eating food.", "A man eats something.", "The stock market fell sharply.")
        v = vectors_of(r.lines())
        self.assertGreater(v[0] @ v[1], 0.6)
        self.assertLess(v[0] @ v[2], 0.3)

    def test_several_texts(self):
        r = self.good("embed", *TEXTS)
        objects = r.lines()
        self.assertEqual([o["index"] for o in objects], list(range(len(TEXTS))))
        self.assertEqual([o["text"] for o in objects], TEXTS)
        self.assertEqual(objects[2]["tokens"], 2)
        for text, o in zip(TEXTS, objects):
            self.assertEqual(self.good("embed", "--format", "jsonl", "--", text).json()["embedding"], o["embedding"])

    def test_formats_agree(self):
        want = vectors_of(self.good("embed", *TEXTS).lines())
        numpy.testing.assert_array_equal(vectors_of(self.good("embed", "-f", "json", *TEXTS).json()), want)
        npy = numpy.load(io.BytesIO(self.good("embed", "-f", "npy", *TEXTS).bytes))
        self.assertEqual(npy.dtype, numpy.dtype("<f4"))
        numpy.testing.assert_array_equal(npy, want)
        b64 = self.good("embed", "-f", "base64", *TEXTS).bytes
        numpy.testing.assert_array_equal(vectors_of_base64(b64), want)
        text = numpy.loadtxt(io.StringIO(self.good("embed", "-f", "text", *TEXTS).out), dtype=numpy.float32)
        numpy.testing.assert_array_equal(text, want)

    def test_base64_of_every_remainder(self):
        for n in (1, 2, 3, 4, 5):
            want = vectors_of([self.good("embed", "-d", str(n), "abc").json()])
            got = vectors_of_base64(self.good("embed", "-d", str(n), "-f", "base64", "abc").bytes)
            numpy.testing.assert_array_equal(got, want)

    def test_json_layout(self):
        self.assertIsInstance(self.good("embed", "-f", "json", "a").json(), dict)
        r = self.good("embed", "-f", "json", "a", "b")
        self.assertEqual([o["text"] for o in r.json()], ["a", "b"])
        self.assertTrue(r.out.startswith("[\n{") and r.out.endswith("}\n]\n"))
        path = self.write("one.txt", "a\n")
        self.assertIsInstance(self.good("embed", "-f", "json", "--input", path).json(), list)
        path = self.write("empty.txt", "")
        self.assertEqual(self.good("embed", "-f", "json", "--input", path).out, "[]\n")
        self.assertEqual(self.good("embed", "--input", path).out, "")
        npy = numpy.load(io.BytesIO(self.good("embed", "-f", "npy", "--input", path).bytes))
        self.assertEqual(npy.shape, (0, DIMENSION))

    def test_dimensions(self):
        whole = vectors_of([self.good("embed", "hello world").json()])[0]
        o = self.good("embed", "-d", "64", "hello world").json()
        self.assertEqual((o["dimension"], len(o["embedding"])), (64, 64))
        part = whole[:64] / numpy.linalg.norm(whole[:64])
        numpy.testing.assert_allclose(o["embedding"], part, atol=1e-6)
        self.assertEqual(self.fails(1, "embed", "-d", "385", "x"),
                         "embedd embed: --dimensions 385 is more than the 384 that %s has\n" % MODEL)

    def test_no_normalize_and_pooling(self):
        raw = vectors_of([self.good("embed", "--no-normalize", "hello world").json()])[0]
        unit = vectors_of([self.good("embed", "hello world").json()])[0]
        self.assertGreater(abs(float(numpy.linalg.norm(raw)) - 1), 1e-3)
        numpy.testing.assert_allclose(raw / numpy.linalg.norm(raw), unit, atol=1e-6)
        seen = {tuple(self.good("embed", "--pooling", p, "hello world").json()["embedding"])
                for p in ("mean", "cls", "max", "last")}
        self.assertEqual(len(seen), 4)
        self.assertEqual(self.good("embed", "--pooling", "mean", "hello world").bytes,
                         self.good("embed", "hello world").bytes)

    def test_prompts(self):
        plain = self.good("embed", "query: hello").json()
        prompted = self.good("embed", "--prompt", "query: ", "hello").json()
        self.assertEqual(prompted["tokens"], plain["tokens"])
        self.assertEqual(prompted["embedding"], plain["embedding"])
        self.assertEqual(prompted["text"], "hello")
        # this model has no prompts of its own, so the roles change nothing
        hello = self.good("embed", "hello").bytes
        self.assertEqual(self.good("embed", "--query", "hello").bytes, hello)
        self.assertEqual(self.good("embed", "--document", "hello").bytes, hello)
        self.assertIn("nothing", self.fails(1, "embed", "--prompt-name", "nothing", "hello"))

    def test_truncation(self):
        words = ["word%d" % i for i in range(400)]
        text = " ".join(words)
        r = self.good("embed", text)
        self.assertEqual(r.json()["tokens"], 256)
        self.assertEqual(r.err, "embedd embed: 1 of 1 text had more than 256 tokens and was cut "
                                "(--truncate none refuses it)\n")
        self.assertEqual(self.good("embed", "--quiet", text).err, "")
        left = self.good("embed", "-q", "--truncate", "left", text).json()
        self.assertTrue(left["embedding"] != r.json()["embedding"])
        message = self.fails(1, "embed", "--truncate", "none", text)
        self.assertTrue(message.startswith("embedd embed: text 1: "), message)
        self.assertIn("256", message)
        self.assertEqual(self.good("embed", "-q", "--max-tokens", "10", text).json()["tokens"], 10)
        short = self.good("embed", "-q", "--max-tokens", "3", "hello world again").json()
        self.assertEqual(short["embedding"], self.good("embed", "hello").json()["embedding"])

    def test_threads_and_batches_do_not_change_vectors(self):
        path = self.write("t.txt", "".join("text number %d %s\n" % (i, "and more " * (i % 9)) for i in range(40 if SANITIZED else 300)))
        want = self.good("embed", "--input", path).bytes
        for words in (["-t", "1"], ["-t", "3"], ["--batch-tokens", "64"], ["--batch-size", "1"],
                      ["--batch-size", "7", "-t", "2"]):
            self.assertEqual(self.good("embed", "--input", path, *words).bytes, want, words)

    def test_precisions(self):
        exact = vectors_of([self.good("embed", "--precision", "fp32", "hello world").json()])[0]
        for p, bar in (("auto", 0.9999), ("bf16", 0.9999), ("int8", 0.99)):
            v = vectors_of([self.good("embed", "--precision", p, "hello world").json()])[0]
            self.assertGreater(v @ exact, bar, p)

    def test_output_file(self):
        want = self.good("embed", "a", "b").bytes
        out = self.path("out.jsonl")
        r = self.good("embed", "a", "b", "--output", out)
        self.assertEqual((r.bytes, r.err), (b"", ""))
        self.assertEqual(self.read("out.jsonl"), want)
        self.good("embed", "c", "-f", "jsonl", "-o", out)
        self.assertEqual(json.loads(self.read("out.jsonl"))["text"], "c")
        self.good("embed", "a", "b", "-f", "npy", "-o", self.path("v.npy"))
        numpy.testing.assert_array_equal(numpy.load(self.path("v.npy")),
                                         vectors_of([json.loads(x) for x in want.splitlines()]))
        self.assertEqual(self.files(), ["out.jsonl", "v.npy"])
        self.assertEqual(self.good("embed", "a", "b", "-o", "-").bytes, want)
        self.assertEqual(os.stat(out).st_mode & 0o777, 0o666 & ~current_umask())

    def test_output_through_a_link(self):
        target = self.write("real.jsonl", "old")
        os.symlink(target, self.path("link.jsonl"))
        self.good("embed", "a", "-o", self.path("link.jsonl"))
        self.assertTrue(os.path.islink(self.path("link.jsonl")))
        self.assertEqual(json.loads(self.read("real.jsonl"))["text"], "a")

    def test_output_that_cannot_be(self):
        for out in (self.folder, "/nonexistent/x", "/proc/x"):
            message = self.fails(1, "embed", "a", "-o", out)
            self.assertIn(out, message)
            self.assertEqual(len(message.splitlines()), 1)

    def test_no_text(self):
        o = self.good("embed", "--no-text", "hello").json()
        self.assertEqual(list(o), [k for k in KEYS if k != "text"])

    def test_invalid_utf8_argument(self):
        o = self.good(b"embed", b"caf\xe9 \xff\xfe").json()
        self.assertEqual(o["text"], "caf\ufffd \ufffd\ufffd")


def current_umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


if __name__ == "__main__":
    unittest.main()
