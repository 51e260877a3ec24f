"""cl100k_base against PyPI `tiktoken` on one core, their runs taking turns.

    tiktoken_bench.py BUILD/tiktoken_bench [FILE] [--rounds N] [--core N]

FILE has one text a line. Prints medians in Mtokens/s and MB/s, and the ratio. tests/requirements.txt has what it needs.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "tests", "golden"))
import tiktoken_conformance


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("file", nargs="?", default=os.path.join(ROOT, "bench", "data", "peps.sample.txt"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--core", type=int, default=0)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {arguments.core})
    with open(arguments.file, encoding="utf-8", errors="replace", newline="\n") as f:
        texts = f.read().rstrip("\n").split("\n")
    while sum(map(len, texts)) < 4e6:
        texts = texts + texts
    encoding = tiktoken_conformance.reference()[0]
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="\n") as cut:
        cut.write("\n".join(texts) + "\n")
        cut.flush()
        size = os.path.getsize(cut.name)
        ours = subprocess.Popen([arguments.program, tiktoken_conformance.DIRECTORY, cut.name], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True)
        print(f"{len(texts)} texts, {size / 1e6:.1f} MB; opened in {1e3 * float(ours.stdout.readline().split()[1]):.1f} ms")
        seconds, tokens = {}, {}
        for _ in range(arguments.rounds + 1):  # the first round warms up
            ours.stdin.write("\n")
            ours.stdin.flush()
            for _ in range(2):
                name, taken, count = ours.stdout.readline().split()
                seconds.setdefault("ours " + name, []).append(float(taken))
                tokens["ours " + name] = int(count)
            begin = time.perf_counter()
            count = sum(len(encoding.encode_ordinary(text)) for text in texts)
            seconds.setdefault("tiktoken", []).append(time.perf_counter() - begin)
            tokens["tiktoken"] = count
        ours.stdin.close()
        ours.wait()
    if len(set(tokens.values())) != 1:
        sys.exit(f"token counts differ: {tokens}")
    median = {name: statistics.median(taken[1:]) for name, taken in seconds.items()}
    for name, taken in median.items():
        print(f"{name:12} {tokens[name] / taken / 1e6:8.2f} Mtokens/s {size / taken / 1e6:8.1f} MB/s "
              f"{median['tiktoken'] / taken:6.1f} times tiktoken")


if __name__ == "__main__":
    main()
