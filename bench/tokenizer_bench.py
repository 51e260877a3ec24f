"""Our tokenizer against PyPI `tokenizers` on one core, their runs taking turns.

    tokenizer_bench.py BUILD/tokenizer_bench DIRECTORY [FILE] [--rounds N] [--core N]

FILE has one text a line. Prints the median of each path in MB/s and tokens/s, and ratios.
"""
import argparse
import os
import statistics
import subprocess
import sys
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "true"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("directory")
    parser.add_argument("file", nargs="?", default="../shared/data/text/peps.paragraphs.txt")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--core", type=int, default=0)
    parser.add_argument("--lines", type=int, default=20000)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {arguments.core})
    import tempfile
    import tokenizers

    with open(arguments.file, encoding="utf-8", errors="replace") as f:
        texts = [line.rstrip("\n") for line in f][: arguments.lines]
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="\n") as cut:
        cut.write("\n".join(texts) + "\n")
        cut.flush()
        size = os.path.getsize(cut.name)
        started = time.perf_counter()
        reference = tokenizers.Tokenizer.from_file(os.path.join(arguments.directory, "tokenizer.json"))
        print(f"reference tokenizers {tokenizers.__version__}, opened in {1e3 * (time.perf_counter() - started):.1f} ms; "
              f"{len(texts)} texts, {size / 1e6:.1f} MB, core {arguments.core}")
        reference.no_padding()
        reference.no_truncation()
        ours = subprocess.Popen([arguments.program, arguments.directory, cut.name, "0"], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True)
        print(f"ours opened in {1e3 * float(ours.stdout.readline().split()[1]):.1f} ms")
        seconds, tokens = {}, {}

        def note(name, taken, count):
            seconds.setdefault(name, []).append(taken)
            tokens[name] = count

        def timed(name, encode):
            begin = time.perf_counter()
            encoded = encode()
            taken = time.perf_counter() - begin
            note(name, taken, sum(len(e.ids) for e in encoded))

        for _ in range(arguments.rounds + 1):  # the first round warms up
            ours.stdin.write("\n")
            ours.stdin.flush()
            for _ in range(3):
                name, taken, count, _ = ours.stdout.readline().split()
                note("ours " + name, float(taken), int(count))
            timed("reference encode_batch", lambda: reference.encode_batch(texts))
            timed("reference encode_batch_fast", lambda: reference.encode_batch_fast(texts))
            timed("reference encode", lambda: [reference.encode(text) for text in texts])
            reference.enable_truncation(128)
            timed("reference first128", lambda: reference.encode_batch_fast(texts))
            reference.no_truncation()
        ours.stdin.close()
        ours.wait()
    if tokens["ours ids"] != tokens["reference encode_batch"]:
        sys.exit(f"token counts differ: {tokens}")
    median = {name: statistics.median(taken[1:]) for name, taken in seconds.items()}
    for name, taken in median.items():
        print(f"{name:28} {size / taken / 1e6:8.1f} MB/s {tokens[name] / taken / 1e6:8.2f} Mtokens/s")
    best = min(median["reference encode_batch"], median["reference encode_batch_fast"], median["reference encode"])
    print(f"ratio ids / best reference path: {best / median['ours ids']:.1f}; "
          f"offsets / encode_batch: {median['reference encode_batch'] / median['ours offsets']:.1f}; "
          f"first128: {median['reference first128'] / median['ours first128']:.1f}")


if __name__ == "__main__":
    main()
