"""Compares cl100k_base with PyPI `tiktoken`, built from the ranks that ship with the program.

    tiktoken_conformance.py TIKTOKEN_LINES [--lines N] [--golden FILE]

Checks the hash of the ranks, then ids and counts of the texts of tokenizer_texts.py, of every code point in
several surroundings, and of long runs. --golden writes texts with their ids for the unit test instead.
Ends with 1 and prints the first differences if there are any.
"""
import argparse
import importlib.machinery
import importlib.util
import inspect
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import numpy as np
import tiktoken
import tiktoken_ext.openai_public

import tokenizer_texts

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DIRECTORY = os.path.join(ROOT, "models", "cl100k_base")
PUBLISHED = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
SHOWN = 12


def tool(name):
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), os.path.join(ROOT, "tools", name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def reference():
    """The encoding with the pattern of the installed tiktoken, and with the one that was published first."""
    packing = tool("make-tiktoken-ranks")
    with open(os.path.join(DIRECTORY, "ranks.bin"), "rb") as f:
        tokens = packing.unpack(f.read())
    source = inspect.getsource(tiktoken_ext.openai_public.cl100k_base)
    pattern = re.search(r'"pat_str": r"""(.*?)"""', source, re.S).group(1)
    expected = re.search(r'expected_hash="(\w+)"', source).group(1)
    assert expected == "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7", expected
    assert packing.tiktoken_hash(tokens) == expected, "the shipped ranks are not those of cl100k_base"
    ranks = {token: rank for rank, token in enumerate(tokens)}
    return [tiktoken.Encoding("cl100k_base", pat_str=p, mergeable_ranks=ranks, special_tokens={})
            for p in (pattern, PUBLISHED)]


def code_points():
    """Every code point alone and between what the pattern treats differently."""
    for c in range(0x110000):
        if not 0xD800 <= c < 0xE000:
            c = chr(c)
            yield f"{c}a{c}1{c} {c}{c}.{c}\n{c}'{c}s  {c}"
            yield f"A{c}  .{c}b \n{c}9{c}9{c}9 {c}"


def hard(rng):
    """White space, line ends, numbers, apostrophes and signs in every order; long runs."""
    parts = [" ", "  ", "\n", "\r", "\r\n", "\t", "\u3000", "\u0085", "\u2028", "a", "Ab", "é", "ſ", "'", "'S", "'lL", "'re", "'VE", "'ſ",
             "1", "12", "٣", "Ⅷ", ".", "!!", "—", "🙂", "\u0301", "word", "<|endoftext|>", "\0", "語"]
    for _ in range(60000):
        yield "".join(rng.choice(parts) for _ in range(rng.randrange(1, 12)))
    for n in (31, 32, 33, 95, 96, 97, 98, 127, 128, 129, 255, 256, 257, 272, 500, 1000, 4095, 4096, 4097, 9000, 70000):
        for letter in ("a", "é", "語", "ab", ".", "=-", " ", "\n", "\t ", "A\u0301", "x1", "qzjx", "🙂"):
            yield letter * (n // len(letter)) + rng.choice(["", " end"])
        for letters in ("ab", "abcdefghijklmnopqrstuvwxyz", "-=_*#", "語文字漢中国人"):
            yield "".join(rng.choice(letters) for _ in range(n))


def compare(program, encodings, what, texts):
    wrong, started = 0, time.time()
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as taken:
        for text in texts:
            data = text.encode("utf-8")
            given.write(struct.pack("<I", len(data)) + data)
        given.seek(0)
        subprocess.run([program, DIRECTORY], stdin=given, stdout=taken, check=True)
        taken.seek(0)
        ours = np.frombuffer(taken.read(), dtype=np.uint32)
    our_seconds, started, at = time.time() - started, time.time(), 0
    for text in texts:
        count = int(ours[at])
        ids, alone = ours[at + 1:at + 1 + count].tolist(), int(ours[at + 1 + count])
        at += 2 + count
        for encoding in encodings:
            expected = encoding.encode_ordinary(text)
            if ids != expected or alone != len(expected):
                wrong += 1
                if wrong <= SHOWN:
                    print(f"  {text[:200]!r}\n    ours      {ids[:50]} ({alone})\n    reference {expected[:50]}")
    assert at == len(ours)
    print(f"{what}: {len(texts)} texts, {wrong} differ (ours {our_seconds:.1f} s, reference {time.time() - started:.1f} s)",
          flush=True)
    return wrong


def write_golden(path, encoding):
    rng = random.Random(5)
    texts = list(tokenizer_texts.SENTENCES) + tokenizer_texts.EMOJI[:8] + tokenizer_texts.SPECIAL[:4]
    texts += rng.sample(list(tokenizer_texts.corpus(4000, 7))[60:], 250) + rng.sample(list(hard(rng))[:60000], 250)
    texts = [text for text in texts if len(text) < 400]
    with open(path, "w", encoding="ascii") as f:
        for text in texts:
            f.write(" ".join([text.encode("utf-8").hex() or "-", *map(str, encoding.encode_ordinary(text))]) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--lines", type=int, default=100_000)
    parser.add_argument("--golden")
    arguments = parser.parse_args()
    encodings = reference()
    if arguments.golden:
        return write_golden(arguments.golden, encodings[0])
    wrong = compare(arguments.program, encodings, "texts", list(tokenizer_texts.corpus(arguments.lines)))
    wrong += compare(arguments.program, encodings, "hard texts", list(hard(random.Random(3))))
    wrong += compare(arguments.program, encodings[:1], "code points", list(code_points()))
    print("identical" if wrong == 0 else f"{wrong} differences")
    return wrong != 0


if __name__ == "__main__":
    sys.exit(main())
