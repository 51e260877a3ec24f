"""Closed pipes, full disks, signals: a clear message, the right status, nothing left behind."""
import fcntl
import os
import pty
import signal
import subprocess
import threading
import time
import unittest

from harness import Case, PROGRAM, ROOT, SANITIZED, environment, limit_file_size, until


class Writing(Case):
    def many(self, count=100 if SANITIZED else 400):
        return self.write("in.txt", "".join("text %d\n" % i for i in range(count)))

    def test_closed_pipe(self):
        for words in (["embed", "--input", self.many()], ["models", "--format", "json"], ["help", "embed"]):
            read, write = os.pipe()
            os.close(read)
            p = subprocess.run([PROGRAM, *words], stdout=write, stderr=subprocess.PIPE, env=environment(), cwd=ROOT,
                               timeout=300)
            os.close(write)
            self.assertEqual(p.returncode, 1, words)
            self.assertEqual(p.stderr.decode(), "embedd %s: standard output was closed by its reader\n" % words[0])

    def test_pipe_closed_midway(self):
        p = subprocess.Popen([PROGRAM, "embed", "--input", self.many()], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, env=environment(), cwd=ROOT)
        p.stdout.readline()
        p.stdout.close()
        self.assertEqual(p.stderr.read().decode(), "embedd embed: standard output was closed by its reader\n")
        self.assertEqual(p.wait(timeout=60), 1)
        p.stderr.close()

    def test_full_disk_on_stdout(self):
        for words in (["embed", "--input", self.many()], ["embed", "-f", "npy", "x"], ["models"], ["help"],
                      ["tokenize", "x"], ["similarity", "a", "b"]):
            with open("/dev/full", "wb") as full:
                p = subprocess.run([PROGRAM, *words], stdout=full, stderr=subprocess.PIPE, env=environment(),
                                   cwd=ROOT, timeout=300)
            self.assertEqual(p.returncode, 1, words)
            self.assertRegex(p.stderr.decode(), r"^embedd \w+: .*standard output.*: No space left on device\n$")

    def test_full_disk_in_a_file(self):
        for form in ("jsonl", "npy", "json", "base64", "text"):
            r = self.run_program("embed", "--input", self.many(), "--format", form, "--output", self.path("out"),
                                 preexec_fn=limit_file_size(100000))
            self.assertEqual(r.code, 1)
            self.assertRegex(r.err, r"^embedd embed: writing .*out: File too large\n$")
            self.assertEqual(self.files(), ["in.txt"])

    def test_full_device_as_output(self):
        message = self.fails(1, "embed", "x", "--output", "/dev/full")
        self.assertEqual(message, "embedd embed: writing /dev/full: No space left on device\n")
        self.assertTrue(os.path.exists("/dev/full"))
        self.good("embed", "x", "--output", "/dev/null")
        self.assertFalse(os.path.isfile("/dev/null"))

    def test_old_output_survives_a_failure(self):
        old = self.write("out.jsonl", "old contents")
        path = self.write("in.jsonl", '{"text":"a"}\n{bad\n')
        self.fails(1, "embed", "--input", path, "--output", old)
        self.assertEqual(self.read("out.jsonl"), b"old contents")
        self.assertEqual(self.files(), ["in.jsonl", "out.jsonl"])

    def test_spooled_array_needs_its_folder(self):
        message = self.fails(1, "embed", "-f", "npy", "x", env={"TMPDIR": "/nonexistent"})
        self.assertIn("/nonexistent", message)


class Signals(Case):
    def start(self, *words):
        p = subprocess.Popen([PROGRAM, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=environment(), cwd=ROOT)
        self.addCleanup(lambda: (p.kill(), p.wait(), p.stdin.close(), p.stdout.close(), p.stderr.close()))
        return p

    def test_while_waiting_for_input(self):
        for number, name in ((signal.SIGTERM, "TERM"), (signal.SIGINT, "INT"), (signal.SIGHUP, "HUP")):
            p = self.start("embed", "--input", "-")
            p.stdin.write(b"one\n")
            p.stdin.flush()
            self.assertIn(b'"one"', p.stdout.readline())
            p.send_signal(number)
            self.assertEqual(p.wait(timeout=20), -number)  # no input comes that could end it
            self.assertEqual(p.stderr.read().decode(), "embedd embed: stopped by SIG%s after 1 texts\n".replace(
                "1 texts", "1 text") % name)

    def test_removes_the_temporary_file(self):
        p = self.start("embed", "--input", "-", "--output", self.path("out.jsonl"))
        p.stdin.write(b"one\n")
        p.stdin.flush()
        deadline = time.monotonic() + 60
        while not self.files():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)
        p.send_signal(signal.SIGTERM)
        self.assertEqual(p.wait(timeout=60), -signal.SIGTERM)
        self.assertEqual(p.stderr.read().decode(),
                         "embedd embed: stopped by SIGTERM; %s was not written\n" % self.path("out.jsonl"))
        self.assertEqual(self.files(), [])

    def test_while_the_reader_of_the_output_sleeps(self):
        path = self.write("in.txt", "".join("text %d\n" % i for i in range(1000)))
        p = self.start("embed", "--input", path)
        p.stdout.readline()
        time.sleep(0.5)
        p.send_signal(signal.SIGTERM)
        self.assertEqual(p.wait(timeout=60), -signal.SIGTERM)

    def test_while_computing(self):
        path = self.write("in.txt", ("some words to work on " * 30 + "\n") * 100000)
        p = self.start("embed", "--input", path, "--output", self.path("out.npy"), "--format", "npy")
        until(lambda: len(self.files()) > 1, "the file that is written")
        time.sleep(1)  # into the computing, which takes minutes
        start = time.monotonic()
        p.send_signal(signal.SIGINT)
        self.assertEqual(p.wait(timeout=60), -signal.SIGINT)
        self.assertLess(time.monotonic() - start, 20)
        self.assertEqual(self.files(), ["in.txt"])


class Progress(Case):
    def on_terminal(self, words, feed=None):
        """Runs with a terminal as stderr; gives status, stdout and what the terminal received."""
        terminal, other = pty.openpty()
        fcntl.ioctl(other, 0x5414, b"\x28\x00\x78\x00\0\0\0\0")  # TIOCSWINSZ: 40 lines of 120
        p = subprocess.Popen([PROGRAM, *words], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=other,
                             env=environment(), cwd=ROOT)
        os.close(other)
        seen = []
        def listen():
            while True:
                try:
                    data = os.read(terminal, 4096)
                except OSError:
                    return
                if not data:
                    return
                seen.append(data)
        listener = threading.Thread(target=listen)
        listener.start()
        if feed:
            feed(p.stdin)
        p.stdin.close()
        code = p.wait(timeout=120)
        listener.join(timeout=10)
        os.close(terminal)
        return code, b"".join(seen).decode()

    @staticmethod
    def slowly(stdin):
        for i in range(12):
            stdin.write(b"line %d\n" % i)
            stdin.flush()
            time.sleep(0.2)

    def test_shown_in_long_work(self):
        code, seen = self.on_terminal(["embed", "--input", "-"], self.slowly)
        self.assertEqual(code, 0)
        self.assertRegex(seen, r"\r\x1b\[K\d+ texts  \d+ texts/s  \d+ tokens/s")
        self.assertTrue(seen.endswith("\r\x1b[K"), repr(seen[-80:]))

    def test_not_shown_when_quiet_or_quick(self):
        code, seen = self.on_terminal(["embed", "--quiet", "--input", "-"], self.slowly)
        self.assertEqual((code, seen), (0, ""))
        code, seen = self.on_terminal(["embed", "hello"])
        self.assertEqual((code, seen), (0, ""))

    @unittest.skipIf(SANITIZED, "too slow")
    def test_share_and_time_left_of_a_file(self):
        line = "some words to work on " * 30 + "\n"
        start = time.monotonic()
        self.good("embed", "-d1", "-t1", "--input", self.write("few.txt", line * 40))
        one = max((time.monotonic() - start) / 40, 1e-4)
        path = self.write("in.txt", line * min(int(4 / one), 20000))
        code, seen = self.on_terminal(["embed", "-d1", "-t1", "--input", path])
        self.assertEqual(code, 0)
        if time.monotonic() - start > 3:
            self.assertRegex(seen, r"\[#*\.+\] +\d+ %  [\d,]+ texts  [\d,]+ texts/s  [\d,]+ tokens/s  [\d.:]+( s)? left")


if __name__ == "__main__":
    unittest.main()
