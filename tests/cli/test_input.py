"""embedd embed --input: lines and JSONL, and what hostile files contain."""
import json
import os
import subprocess
import threading
import time
import unittest

from harness import Case, PROGRAM, ROOT, SANITIZED, environment


class Lines(Case):
    def texts(self, data, *words, name="in.txt"):
        """The texts that the program finds in a file, checked to be the same from standard input."""
        path = self.write(name, data)
        r = self.good("embed", "-d", "1", "--input", path, *words)
        with open(path, "rb") as f:
            same = self.good("embed", "-d", "1", "--input", "-", *words, stdin=f.read())
        self.assertEqual(same.bytes, r.bytes)
        return [o["text"] for o in r.lines()]

    def test_lines(self):
        self.assertEqual(self.texts("one\ntwo\n"), ["one", "two"])
        self.assertEqual(self.texts("no newline\nat the end"), ["no newline", "at the end"])
        self.assertEqual(self.texts("dos\r\nlines\r\n\r\nand one\r"), ["dos", "lines", "", "and one"])
        self.assertEqual(self.texts("\n\n"), ["", ""])
        self.assertEqual(self.texts(""), [])
        self.assertEqual(self.texts("a\rb\u2028c\x0bd\x85e\n"), ["a\rb\u2028c\x0bd\x85e"])

    def test_byte_order_mark(self):
        self.assertEqual(self.texts(b"\xef\xbb\xbfone\ntwo"), ["one", "two"])
        self.assertEqual(self.texts(b"\xef\xbb\xbf"), [])
        self.assertEqual(self.texts(b"x\n\xef\xbb\xbfy\n"), ["x", "\ufeffy"])
        path = self.write("utf16.txt", "text".encode("utf-16"))
        self.assertEqual(self.fails(1, "embed", "-i", path),
                         "embedd embed: %s is UTF-16 text; convert it first: iconv -f UTF-16 -t UTF-8\n" % path)

    def test_any_bytes(self):
        self.assertEqual(self.texts(b"caf\xe9\n\x00nul\x00\n\xf0\x9f\x98\n\xed\xa0\x80\n\xff\xff\n"),
                         ["caf\ufffd", "\0nul\0", "\ufffd", "\ufffd\ufffd\ufffd", "\ufffd\ufffd"])
        rng = bytes((i * 7919 + (i >> 3) * 104729) % 256 for i in range(20000 if SANITIZED else 200000))
        want = rng.split(b"\n")
        if not want[-1]:
            want.pop()
        want = [w[:-1] if w.endswith(b"\r") else w for w in want]
        self.assertEqual(self.texts(rng), [w.decode("utf-8", "replace") for w in want])

    def test_empty_lines(self):
        self.assertEqual(self.texts("a\n\nb\n\n", "--skip-empty"), ["a", "b"])
        path = self.write("e.txt", "a\n\nb\n")
        self.assertEqual([o["index"] for o in self.good("embed", "-d1", "-i", path, "--skip-empty").lines()], [0, 2])
        self.assertEqual([o["tokens"] for o in self.good("embed", "-d1", "-i", path).lines()], [3, 2, 3])

    def test_long_lines(self):
        text = "word " * (20000 if SANITIZED else 400000)
        r = self.good("embed", "-d", "1", "-i", self.write("long.txt", text + "\nshort"))
        self.assertEqual([len(o["text"]) for o in r.lines()], [len(text), 5])
        self.assertIn("1 of 2 texts had more than 256 tokens", r.err)

    @unittest.skipIf(SANITIZED, "too slow")
    def test_line_over_the_limit(self):
        path = self.path("huge.txt")
        with open(path, "wb") as f:
            f.write(b"first\n")
            for _ in range(70):
                f.write(b"x" * (1 << 20))
            f.write(b"\nlast\n")
        r = self.run_program("embed", "-d", "1", "-i", path)
        self.assertEqual(r.code, 1)
        self.assertEqual(r.err, "embedd embed: %s:2: the line is over the limit of 64 MiB\n" % path)
        self.assertEqual([o["text"] for o in r.lines()], ["first"])
        r = self.good("embed", "-d", "1", "-i", path, "--on-error", "skip")
        self.assertEqual([(o["index"], o["text"]) for o in r.lines()], [(0, "first"), (2, "last")])
        self.assertEqual(r.err, "embedd embed: %s:2: the line is over the limit of 64 MiB; skipped\n"
                                "embedd embed: 1 text was skipped\n" % path)

    def test_files_that_cannot_be_read(self):
        self.assertEqual(self.fails(1, "embed", "-i", self.path("none")),
                         "embedd embed: reading %s: No such file or directory\n" % self.path("none"))
        self.assertEqual(self.fails(1, "embed", "-i", self.folder),
                         "embedd embed: %s is a directory; --input takes a file\n" % self.folder)
        self.assertIn("/proc/self/mem", self.fails(1, "embed", "-i", "/proc/self/mem"))

    def test_answers_before_the_input_ends(self):
        """A line in a pipe is answered although more may follow."""
        p = subprocess.Popen([PROGRAM, "embed", "-d", "1", "--input", "-"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, env=environment(), cwd=ROOT)
        watchdog = threading.Timer(60, p.kill)
        watchdog.start()
        for text in (b"one", b"two"):
            p.stdin.write(text + b"\n")
            p.stdin.flush()
            self.assertEqual(json.loads(p.stdout.readline())["text"], text.decode())
        p.stdin.close()
        self.assertEqual(p.stdout.read(), b"")
        self.assertEqual(p.wait(), 0)
        watchdog.cancel()
        p.stdout.close()

    def test_order_is_kept(self):
        lines = ["%d %s" % (i, "pad " * (i * 37 % 50)) for i in range(200 if SANITIZED else 3000)]
        self.assertEqual(self.texts("\n".join(lines), "--max-tokens", "8", "-q"), lines)

    def test_pipe_as_input_file(self):
        path = self.path("fifo")
        os.mkfifo(path)
        def feed():
            with open(path, "wb") as f:
                for i in range(5):
                    f.write(b"line %d\n" % i)
                    f.flush()
                    time.sleep(0.02)
        thread = threading.Thread(target=feed)
        thread.start()
        r = self.good("embed", "-d", "1", "-i", path)
        thread.join()
        self.assertEqual([o["text"] for o in r.lines()], ["line %d" % i for i in range(5)])


class JsonLines(Case):
    def objects(self, data, *words, name="in.jsonl"):
        return self.good("embed", "-d", "1", "-i", self.write(name, data), *words).lines()

    def bad(self, line, *words):
        """The message about a bad second line; the first line is answered all the same."""
        data = b'{"text":"first"}\n' + (line if isinstance(line, bytes) else line.encode()) + b'\n{"text":"third"}\n'
        path = self.write("in.jsonl", data)
        r = self.run_program("embed", "-d", "1", "-i", path, *words)
        self.assertEqual(r.code, 1)
        self.assertEqual([o["text"] for o in r.lines()], ["first"])
        prefix = "embedd embed: %s:2: " % path
        self.assertTrue(r.err.startswith(prefix), r.err)
        self.assertEqual(len(r.err.splitlines()), 1, r.err)
        skipped = self.good("embed", "-d", "1", "-i", path, "--on-error", "skip", *words)
        self.assertEqual([o["index"] for o in skipped.lines()], [0, 2])
        self.assertEqual(skipped.err, r.err.rstrip("\n") + "; skipped\nembedd embed: 1 text was skipped\n")
        return r.err[len(prefix):].rstrip("\n")

    def test_ids(self):
        got = self.objects('{"id":"a\\"b","text":"x"}\n{"text":"y","id":-7}\n{"id":null,"text":"z"}\n'
                           '{"id":9007199254740993,"text":"w"}\n')
        self.assertEqual([o.get("id") for o in got], ['a"b', -7, None, 9007199254740993])
        self.assertEqual([list(o)[:3] for o in got[:3]],
                         [["index", "id", "text"], ["index", "id", "text"], ["index", "text", "model"]])

    def test_keys(self):
        got = self.objects('{"body":"x","key":"k1"}\n', "--text-key", "body", "--id-key", "key")
        self.assertEqual((got[0]["text"], got[0]["id"]), ("x", "k1"))

    def test_detection(self):
        line = '{"text":"x"}\n'
        self.assertEqual(self.objects(line, name="a.JSONL")[0]["text"], "x")
        self.assertEqual(self.objects(line, name="a.ndjson")[0]["text"], "x")
        self.assertEqual(self.objects(line, name="a.txt")[0]["text"], line.strip())
        self.assertEqual(self.objects(line, "--input-format", "jsonl", name="a.txt")[0]["text"], "x")
        self.assertEqual(self.objects(line, "--input-format", "lines")[0]["text"], line.strip())

    def test_escapes_and_blank_lines(self):
        got = self.objects('\n{"text":"\\u00e9\\ud83d\\ude00\\u0000\\n"}\r\n  \n\n{"text":""}')
        self.assertEqual([(o["index"], o["text"]) for o in got], [(1, "é😀\0\n"), (4, "")])
        self.assertEqual([o["index"] for o in self.objects('{"text":""}\n{"text":"a"}', "--skip-empty")], [1])

    def test_malformed(self):
        self.assertRegex(self.bad("{"), "^not valid JSON: ")
        self.assertRegex(self.bad('{"text":"x"'), "^not valid JSON: ")
        self.assertRegex(self.bad('{"text":"x"} trailing'), "^not valid JSON: ")
        self.assertRegex(self.bad(b'{"text":"\xff"}'), "^not valid JSON: ")
        self.assertRegex(self.bad('{"text":"\\ud800"}'), "^not valid JSON: ")
        self.assertRegex(self.bad("[" * 5000), "^not valid JSON: ")
        self.assertRegex(self.bad(b"\0"), "^not valid JSON: ")

    def test_wrong_shape(self):
        self.assertEqual(self.bad('"text"'), 'the line is a string, not an object like {"text": "..."}')
        self.assertEqual(self.bad("[1]"), 'the line is an array, not an object like {"text": "..."}')
        self.assertEqual(self.bad("{}"), 'there is no key "text" (keys: none); --text-key names another')
        self.assertEqual(self.bad('{"body":"x","title":"y"}'),
                         'there is no key "text" (keys: "body", "title"); --text-key names another')
        self.assertEqual(self.bad('{"text":17}'), '"text" is a number, not a string')
        self.assertEqual(self.bad('{"text":null}'), '"text" is null, not a string')
        self.assertEqual(self.bad('{"text":"x","id":1.5}'),
                         'the id under "id" is a number; it can be a string or an integer')
        self.assertEqual(self.bad('{"text":"x","id":{}}'),
                         'the id under "id" is an object; it can be a string or an integer')
        path = self.write("in.jsonl", '{"text":"x"}\n')
        self.assertEqual(self.fails(1, "embed", "-i", path, "--id-key", "key"),
                         'embedd embed: %s:1: there is no key "key" for the id\n' % path)

    def test_too_long_text(self):
        long = " ".join(["word"] * 400)
        path = self.write("in.jsonl", "".join(json.dumps({"id": i, "text": long if i in (3, 4, 9) else "short %d" % i}) +
                                              "\n" for i in range(12)))
        r = self.run_program("embed", "-d", "1", "-i", path, "--truncate", "none")
        self.assertEqual(r.code, 1)
        self.assertEqual([o["id"] for o in r.lines()], [0, 1, 2])
        self.assertTrue(r.err.startswith("embedd embed: %s:4: " % path), r.err)
        r = self.good("embed", "-d", "1", "-i", path, "--truncate", "none", "--on-error", "skip")
        self.assertEqual([o["id"] for o in r.lines()], [0, 1, 2, 5, 6, 7, 8, 10, 11])
        self.assertEqual(len(r.err.splitlines()), 4)
        self.assertIn("3 texts were skipped", r.err)


if __name__ == "__main__":
    unittest.main()
