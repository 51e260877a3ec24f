"""The benchmark's texts: paragraphs cut to a number of tokens, and as they are.

    sets = build(load(path), tokenizer, {"16": 512, "128": 96, "512": 24, "mix": 256})
    sets["128"]   # 96 texts of exactly 128 tokens each, special tokens included

Everything is drawn with a fixed seed, so two runs over one file compare the same texts.
"""
import random

LIMIT = 512  # tokens; the models' position tables end here


def load(path):
    with open(path, encoding="utf-8") as lines:
        return [line.strip() for line in lines if line.strip()]


def tokenizer(directory):
    """The model's own tokenizer, cutting at LIMIT tokens and never padding."""
    from tokenizers import Tokenizer
    t = Tokenizer.from_file(f"{directory}/tokenizer.json")
    t.no_padding()
    t.enable_truncation(LIMIT)
    return t


def cut(tok, paragraphs, start, tokens):
    """Text of exactly `tokens` tokens from the paragraphs at `start`, None if no cut gives that."""
    text, i = "", start
    while True:
        text = f"{text} {paragraphs[i % len(paragraphs)]}" if text else paragraphs[i % len(paragraphs)]
        enc = tok.encode(text, add_special_tokens=False)
        if len(enc.ids) >= tokens - 2:
            break
        i += 1
    text = text[: enc.offsets[tokens - 3][1]]
    return text if len(tok.encode(text).ids) == tokens else None


def build(paragraphs, tok, counts, seed=20261121):
    rng = random.Random(seed)
    wide = paragraphs
    sets = {}
    for name, count in counts.items():
        texts = []
        while len(texts) < count:
            start = rng.randrange(len(wide))
            text = wide[start] if name == "mix" else cut(tok, wide, start, int(name))
            if text and text not in texts:
                texts.append(text)
        sets[name] = texts
    return sets


def sample(paragraphs, block, blocks, seed=1):
    """Blocks of neighbouring paragraphs: a small file that still reads like the whole."""
    rng = random.Random(seed)
    starts = sorted(rng.sample(range(0, len(paragraphs) - block, block), blocks))
    return [p for s in starts for p in paragraphs[s : s + block]]


if __name__ == "__main__":
    import sys
    print("\n".join(sample(load(sys.argv[1]), 40, 48)))
