"""What embedd pull draws on a terminal."""
import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import unittest

from harness import Case, PROGRAM, model, noise, until
from hub_server import answers, waits_for


class Terminal(Case):
    def on_terminal(self, *arguments, columns=100, until_seen=None, then=None):
        """The status and everything that was written to a terminal of that width."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        p = subprocess.Popen([PROGRAM, "pull", *arguments], env=self.environment(), stdin=slave, stdout=slave, stderr=slave,
                             cwd=self.folder)
        os.close(slave)
        seen = b""
        while True:
            try:
                data = os.read(master, 65536)
            except OSError:  # the other side is closed
                break
            if not data:
                break
            seen += data
            if until_seen and re.search(until_seen, seen):
                until_seen = None
                then()
        os.close(master)
        return p.wait(60), seen.decode()

    def screen(self, text):
        """The lines that stay, by the few codes that are used."""
        lines, row = [""], 0
        for part in re.findall(r"\x1b\[\d*[AJK]|\r|\n|[^\x1b\r\n]+", text):
            if part.endswith("A") and part.startswith("\x1b"):
                row -= int(part[2:-1])
                self.assertGreaterEqual(row, 0)
            elif part == "\x1b[J":
                del lines[row:]
                lines.append("")
            elif part == "\x1b[K":
                lines[row] = ""
            elif part == "\n":
                row += 1
                if row == len(lines):
                    lines.append("")
            elif part != "\r":
                lines[row] += part
        return [line for line in lines if line]

    def test_bars(self):
        event = threading.Event()
        self.addCleanup(event.set)
        self.hub.add("org/model", {**model(), "model.safetensors": noise(3 << 20)})
        self.hub.fault("/store/", waits_for(event, 1 << 20))
        self.hub.fault("vocab.txt", answers(500))
        code, text = self.on_terminal("--no-check", "org/model", until_seen=rb"1\.0 MB / 3\.1 MB[^\n]*\n.*5 of 6 files",
                                      then=event.set)
        self.assertEqual(code, 0, text)
        self.assertRegex(text, r"model.safetensors +\[######\.{14}\] +1.0 MB / 3.1 MB")
        self.assertRegex(text, r"5 of 6 files +\[")
        lines = self.screen(text)
        self.assertEqual(lines[0], "embedd pull: 6 files to fetch, 3.1 MB")
        self.assertRegex(lines[1], r"^embedd pull: vocab.txt: the answer is 500.*; try 2 of 6 in ")
        self.assertRegex(lines[2], r"^org/model at commit ")
        self.assertEqual(len(lines), 4, lines)

    def test_narrow(self):
        event = threading.Event()
        self.addCleanup(event.set)
        self.hub.add("org/model", {**model(), "model.safetensors": noise(3 << 20)})
        self.hub.fault("/store/", waits_for(event, 1 << 20))
        code, text = self.on_terminal("--no-check", "org/model", columns=30, until_seen=rb"model.safetensors", then=event.set)
        self.assertEqual(code, 0)
        bars = [l for l in re.split(r"[\r\n]|\x1b\[\d*[AJK]", text) if l.startswith(("model.safe", "5 of"))]
        self.assertTrue(bars)
        self.assertLessEqual(max(map(len, bars)), 29)

    def test_quiet(self):
        self.hub.add("org/model", model())
        code, text = self.on_terminal("--quiet", "org/model")
        self.assertEqual(code, 0)
        self.assertRegex(text, r"^\S+/snapshots/\w{40}\r\n$")


if __name__ == "__main__":
    unittest.main()
