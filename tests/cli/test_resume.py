"""embedd embed --resume: a run that is killed at any moment goes on and ends with the same bytes."""
import fcntl
import json
import os
import random
import signal
import subprocess
import time
import unittest

from harness import Case, PROGRAM, ROOT, SANITIZED, environment, limit_file_size

TEXTS, KILLS = (60, 5) if SANITIZED else (600, 20)


class Resume(Case):
    def setUp(self):
        super().setUp()
        self.write_input(1)
        self.output = self.path("out.jsonl")
        self.partial = self.output + ".partial"
        self.words = ["embed", "--input", self.input, "--output", self.output, "--resume", "--threads", "1"]

    def write_input(self, length):
        self.input = self.write("in.jsonl", "".join(
            json.dumps({"id": "n%d" % i, "text": "Text %d. %s" % (i, "and some more words " * (i % 7 * length))}) +
            "\n" for i in range(TEXTS)))

    def want(self):
        if not hasattr(self, "complete"):
            self.complete = self.good("embed", "--input", self.input, "--threads", "1").bytes
        return self.complete

    def finish(self):
        r = self.good(*self.words)
        self.assertEqual(self.read("out.jsonl"), self.want())
        self.assertEqual(self.files(), ["in.jsonl", "out.jsonl"])
        return r

    def leave(self, data):
        self.write("out.jsonl.partial", data)

    def test_killed_at_random(self):
        """Killed a random time after it has written more than the run before, so that fast and slow machines
        alike stop at many places; now and then before it writes at all."""
        self.write_input(8)
        want = self.want()
        rng = random.Random(1)
        stops, killed = set(), 0
        for kill in range(KILLS):
            p = subprocess.Popen([PROGRAM, *self.words], stderr=subprocess.DEVNULL, env=environment(), cwd=ROOT)
            before = os.path.getsize(self.partial) if os.path.exists(self.partial) else 0
            if kill % 4:
                while p.poll() is None and (not os.path.exists(self.partial) or
                                            os.path.getsize(self.partial) <= before):
                    time.sleep(0.0002)
            time.sleep(rng.random() * 0.03)
            p.send_signal(signal.SIGKILL)
            if p.wait() == -signal.SIGKILL:
                killed += 1
            if os.path.exists(self.partial):
                partial = self.read("out.jsonl.partial")
                stops.add(len(partial))
                self.assertEqual(want[:len(partial)], partial)
            if os.path.exists(self.output):
                self.assertEqual(self.read("out.jsonl"), want)
                os.unlink(self.output)
        self.assertGreater(killed, KILLS // 3)
        self.assertGreater(len(stops), 0 if SANITIZED else 3)
        self.finish()

    def test_every_cut_of_the_last_lines(self):
        lines = self.want().splitlines(True)
        rng = random.Random(2)
        head = b"".join(lines[:TEXTS // 2])
        for cut in [0, 1, len(lines[TEXTS // 2]) - 1] + [rng.randrange(len(lines[TEXTS // 2])) for _ in range(4)]:
            self.leave(head + lines[TEXTS // 2][:cut])
            r = self.finish()
            self.assertIn("embedd embed: %d texts were there already\n" % (TEXTS // 2 - 1), r.err)
            os.unlink(self.output)

    def test_nothing_or_all_there(self):
        self.leave(b"")
        self.finish()
        os.unlink(self.output)
        self.leave(self.want()[:50])
        self.finish()
        os.unlink(self.output)
        self.leave(self.want())
        self.finish()
        self.finish()

    def test_signal_keeps_what_is_done(self):
        for number, name in ((signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "SIGINT")):
            with open(self.path("fifo.jsonl"), "wb"):
                pass
            os.unlink(self.path("fifo.jsonl"))
            os.mkfifo(self.path("fifo.jsonl"))
            p = subprocess.Popen([PROGRAM, "embed", "--input", self.path("fifo.jsonl"), "--output", self.output,
                                  "--resume"], stderr=subprocess.PIPE, env=environment(), cwd=ROOT)
            with open(self.path("fifo.jsonl"), "wb") as f, open(self.input, "rb") as g:
                f.write(b"".join(g.readlines()[:20]))
                f.flush()
                deadline = time.monotonic() + 60
                while not (os.path.exists(self.partial) and self.read("out.jsonl.partial").count(b"\n") == 20):
                    self.assertLess(time.monotonic(), deadline)
                    time.sleep(0.01)
                p.send_signal(number)
                err = p.communicate(timeout=60)[1].decode()
            os.unlink(self.path("fifo.jsonl"))
            self.assertEqual(p.returncode, -number)
            self.assertEqual(err, "embedd embed: stopped by %s after 20 texts; the same command goes on from there\n" % name)
            self.assertEqual(self.read("out.jsonl.partial"), b"".join(self.want().splitlines(True)[:20]))
            self.finish()
            os.unlink(self.output)

    def test_another_input(self):
        lines = self.want().splitlines(True)
        good = b"".join(lines[:10])
        for wrong in (good.replace(b"Text 3", b"Text X"), good.replace(b'"n5"', b'"n6"'),
                      b"".join(lines[1:10]), good.replace(b'"dimension":384', b'"dimension":383'),
                      b"something else\n" * 5, b"".join(lines[:5] + lines[6:10])):
            self.leave(wrong)
            message = self.fails(1, *self.words)
            self.assertRegex(message, r"^embedd embed: .*out\.jsonl\.partial: line \d+ does not belong to this input")
            self.assertEqual(self.read("out.jsonl.partial"), wrong)

    def test_other_options(self):
        self.leave(b"".join(self.want().splitlines(True)[:10]))
        message = self.fails(1, *self.words, "--pooling", "max")
        self.assertIn("its last line does not come out the same", message)
        message = self.fails(1, *self.words, "--dimensions", "100")
        self.assertIn("line 1 does not belong to this input", message)
        self.finish()

    def test_more_lines_than_the_input(self):
        extra = self.want().splitlines(True)[-1].replace(b'"index":%d' % (TEXTS - 1), b'"index":%d' % TEXTS)
        for more in (1, 2):
            self.leave(self.want() + extra * more)
            self.assertIn("has more lines than the input", self.fails(1, *self.words))

    def test_skipped_lines(self):
        with open(self.input, "rb") as f:
            lines = f.readlines()
        long = json.dumps({"id": "long", "text": "word " * 500}).encode() + b"\n"
        self.write("in.jsonl", b"".join(lines[:5] + [b"{bad\n", long] + lines[5:10] + [long] + lines[10:20]))
        self.words += ["--on-error", "skip", "--truncate", "none"]
        self.complete = self.good("embed", "--input", self.input, "--on-error", "skip", "--truncate", "none").bytes
        self.assertEqual(self.complete.count(b"\n"), 20)
        for keep in range(0, 20, 5 if SANITIZED else 1):
            self.leave(b"".join(self.complete.splitlines(True)[:keep]))
            self.finish()
            os.unlink(self.output)

    def test_two_at_once(self):
        self.leave(b"")
        with open(self.partial, "r+b") as f:
            fcntl.flock(f, fcntl.LOCK_EX)
            self.assertIn("is being written by another process", self.fails(1, *self.words))
        self.finish()

    def test_full_disk_keeps_the_partial_file(self):
        r = self.run_program(*self.words, preexec_fn=limit_file_size(TEXTS * 800))
        self.assertEqual(r.code, 1)
        self.assertIn("out.jsonl", r.err)
        self.assertIn("are kept in", r.err)
        self.assertFalse(os.path.exists(self.output))
        self.assertTrue(os.path.exists(self.partial))
        self.finish()

    def test_target_that_is_no_file(self):
        self.assertIn("not a regular file", self.fails(1, "embed", "x", "--resume", "-o", "/dev/null"))


if __name__ == "__main__":
    unittest.main()
