"""Memory stays flat however large the input is."""
import os
import subprocess
import unittest

from harness import Case, PROGRAM, ROOT, SANITIZED, environment

ALLOWED = 48 << 20


@unittest.skipIf(SANITIZED, "sanitizers keep freed memory")
class Memory(Case):
    def peak(self, path, *words):
        p = subprocess.Popen([PROGRAM, "embed", "--quiet", "--input", path, "--max-tokens", "8", "--threads", "1",
                              "--output", "/dev/null", *words], env=environment(), cwd=ROOT)
        _, status, usage = os.wait4(p.pid, 0)
        p.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(p.returncode, 0)
        return usage.ru_maxrss * 1024

    def grows(self, line, few, many, *words, name="in.txt"):
        small = self.peak(self.write("small-" + name, line * few), *words)
        large_path = self.path("large-" + name)
        with open(large_path, "wb") as f:
            for _ in range(many // few):
                f.write(line * few)
        size = os.path.getsize(large_path)
        large = self.peak(large_path, *words)
        os.unlink(large_path)
        self.assertLess(large, small + ALLOWED, "%d MB of input took %d MB more memory" %
                        (size >> 20, (large - small) >> 20))
        return size

    def test_many_lines(self):
        self.grows(b"a short text\n", 2000, 100000)

    def test_long_lines(self):
        self.assertGreater(self.grows(b"many words " * 5000 + b"\n", 100, 6000), 300 << 20)

    def test_json_with_other_fields(self):
        line = b'{"body":"' + b"x" * 50000 + b'","id":12345,"text":"short"}\n'
        self.assertGreater(self.grows(line, 100, 5000, name="in.jsonl"), 200 << 20)

    def test_array(self):
        self.grows(b"a short text\n", 2000, 50000, "--format", "npy")


if __name__ == "__main__":
    unittest.main()
