#!/usr/bin/env python3
"""Writes tests/data/tokenizers/decode.jsonl: what the reference (PyPI `tokenizers`, see tests/requirements.txt) makes of token
ids. Each line: the tokenizer's file, ids, whether special tokens are skipped, the text. Files without a decoder of their own get
the one that their kind has in published models.

    python3 tests/golden/make_decode_golden.py"""
import json
import os
import random

from tokenizers import Tokenizer, decoders

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FILES = (("models/all-MiniLM-L6-v2/tokenizer.json", None),
         ("tests/data/tokenizers/roberta-like/tokenizer.json", decoders.ByteLevel()),
         ("tests/data/tokenizers/gpt4-like/tokenizer.json", decoders.ByteLevel()),
         ("tests/data/tokenizers/xlm-roberta-like/tokenizer.json", decoders.Metaspace()),
         ("tests/data/tokenizers/unsplit-unigram/tokenizer.json", decoders.Metaspace()))
TEXTS = ("Hello, World! Don't. Unaffable? I do not like 'quoted' words, they're n't", "naïve café 東京 🙂", "  two  spaces ",
         "we've it's I'm you're do not, can't; a . b , c ? d", "a\nb\tc", "x", "[SEP] <s> between </s>", "ÿ\u00ad\u0143 ▁ ##")


def main():
    chance = random.Random(1)
    with open(os.path.join(ROOT, "tests/data/tokenizers/decode.jsonl"), "w", encoding="utf-8") as out:
        for name, decoder in FILES:
            tokenizer = Tokenizer.from_file(os.path.join(ROOT, name))
            tokenizer.no_truncation()
            tokenizer.no_padding()
            if decoder:
                tokenizer.decoder = decoder
            cases = [tokenizer.encode(t).ids for t in TEXTS]
            cases += [[chance.randrange(tokenizer.get_vocab_size() + 5) for _ in range(chance.randrange(1, 12))] for _ in range(40)]
            for ids in cases:
                for skip in (True, False):
                    text = tokenizer.decode(ids, skip_special_tokens=skip)
                    out.write(json.dumps({"file": name, "ids": ids, "skip": skip, "text": text}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
