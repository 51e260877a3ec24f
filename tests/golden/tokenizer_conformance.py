"""Compares our tokenizer with the reference, PyPI `tokenizers`, on ids and offsets.

    tokenizer_conformance.py TOKENIZE_LINES [--lines N] [--code-points] [--prose FILE] [--variants] DIRECTORY...

TOKENIZE_LINES is the program built from tokenize_lines.c. A DIRECTORY holds a tokenizer.json; --variants are the
small tokenizers of tokenizer_variants.py. Ends with 1 and prints the first differences if there are any.
"""
import argparse
import itertools
import os
import struct
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("RAYON_NUM_THREADS", "1")
import numpy as np
from tokenizers import Tokenizer

import tokenizer_texts
import tokenizer_variants

SHOWN = 12


def byte_positions(text):
    """Byte position of every character, and the end."""
    out = [0]
    for c in text:
        out.append(out[-1] + len(c.encode("utf-8")))
    return out


def run_ours(program, directory, texts, extra):
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as taken:
        for text in texts:
            data = text.encode("utf-8")
            given.write(struct.pack("<I", len(data)))
            given.write(data)
        given.seek(0)
        subprocess.run([program, directory, *extra], stdin=given, stdout=taken, check=True)
        taken.seek(0)
        return np.frombuffer(taken.read(), dtype=np.uint32)


def compare(program, directory, texts, max_tokens=0, left=False):
    """Number of differing texts."""
    reference = Tokenizer.from_file(os.path.join(directory, "tokenizer.json"))
    reference.no_padding()
    reference.no_truncation()
    extra = []
    if max_tokens:
        reference.enable_truncation(max_tokens, direction="left" if left else "right")
        extra = [str(max_tokens)] + (["left"] if left else [])
    started = time.time()
    ours = run_ours(program, directory, texts, extra)
    our_seconds = time.time() - started
    at, wrong, started = 0, 0, time.time()
    for begin in range(0, len(texts), 1000):
        batch = texts[begin:begin + 1000]
        for text, expected in zip(batch, reference.encode_batch(batch)):
            count = int(ours[at])
            ids, starts, ends, special = ours[at + 1:at + 1 + 4 * count].reshape(-1, 4).T
            at += 1 + 4 * count
            plain_count = int(ours[at])
            plain = ours[at + 1:at + 1 + plain_count]
            at += 1 + plain_count
            where = byte_positions(text)
            want = [(where[s], where[e]) for s, e in expected.offsets]
            got = list(zip(starts.tolist(), ends.tolist()))
            what = ("ids" if ids.tolist() != expected.ids else "ids without offsets" if plain.tolist() != expected.ids
                    else "offsets" if got != want
                    else "special" if special.tolist() != expected.special_tokens_mask else None)
            if what:
                wrong += 1
                if wrong <= SHOWN:
                    print(f"  {what} of {text!r}\n    ours      {ids.tolist()} {plain.tolist()} {got}\n"
                          f"    reference {expected.ids} {want} {expected.tokens}")
    name = os.path.basename(os.path.normpath(directory))
    print(f"{name}{' max_tokens=%d%s' % (max_tokens, ' left' if left else '') if max_tokens else ''}: {len(texts)} texts, "
          f"{wrong} differ (ours {our_seconds:.1f} s twice over, reference {time.time() - started:.1f} s)", flush=True)
    return wrong


def compare_variants(program, texts):
    wrong = 0
    for name, text in tokenizer_variants.variants():
        with tempfile.TemporaryDirectory() as parent:
            directory = os.path.join(parent, name)
            os.mkdir(directory)
            with open(os.path.join(directory, "tokenizer.json"), "w", encoding="utf-8") as f:
                f.write(text)
            wrong += compare(program, directory, texts)
            wrong += compare(program, directory, texts[::4], max_tokens=9, left=True)
    return wrong


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("directories", nargs="*")
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--code-points", action="store_true", help="also every code point below 0x30000")
    parser.add_argument("--prose", help="a file of English paragraphs")
    parser.add_argument("--variants", action="store_true", help="also the small tokenizers with every option")
    arguments = parser.parse_intermixed_args()
    texts = list(tokenizer_texts.corpus(arguments.lines, arguments.seed, arguments.prose))
    wrong = 0
    for directory in arguments.directories:
        wrong += compare(arguments.program, directory, texts)
        for max_tokens, left in itertools.product((2, 3, 16), (False, True)):
            wrong += compare(arguments.program, directory, texts[:: max(1, len(texts) // 2000)], max_tokens, left)
        if arguments.code_points:
            wrong += compare(arguments.program, directory, list(tokenizer_texts.code_points()))
    if arguments.variants:
        wrong += compare_variants(arguments.program, tokenizer_variants.TEXTS + texts)
    print("identical" if wrong == 0 else f"{wrong} differences")
    return wrong != 0


if __name__ == "__main__":
    sys.exit(main())
