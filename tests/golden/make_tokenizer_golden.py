"""Writes tests/data/tokenizers/{minilm,variants}.json with the reference, PyPI `tokenizers`.

    make_tokenizer_golden.py          (in the environment that tools/python-env makes)

minilm.json: {"cases": [[text, [id, ...], [start, end, ...]], ...]} for models/all-MiniLM-L6-v2.
variants.json: {"vocabs": ["{...}", ...], "texts": [...], "variants": [{"name", "vocab": index, "tokenizer",
"results": [[ids, offsets], ...]}]};
"tokenizer" is the text of a tokenizer.json with @VOCAB@ in place of the vocabulary. Offsets are bytes.
"""
import json
import os

from tokenizers import Tokenizer

import tokenizer_texts
import tokenizer_variants
from tokenizer_conformance import byte_positions

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
OUT = os.path.join(ROOT, "tests", "data", "tokenizers")


def result(reference, text):
    encoding = reference.encode(text)
    where = byte_positions(text)
    return encoding.ids, [where[p] for span in encoding.offsets for p in span]


def write(name, value):
    with open(os.path.join(OUT, name), "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")


def minilm():
    reference = Tokenizer.from_file(os.path.join(ROOT, "models", "all-MiniLM-L6-v2", "tokenizer.json"))
    reference.no_padding()
    reference.no_truncation()
    texts = [t for t in tokenizer_texts.corpus(4000, seed=3) if len(t) <= 100]
    texts = list(dict.fromkeys(texts))[:2500]
    write("minilm.json", {"cases": [[text, *result(reference, text)] for text in texts]})


def variants():
    vocabs, out = [], []
    texts = [t for t in tokenizer_variants.TEXTS if len(t) < 60]
    for name, text in tokenizer_variants.variants():
        reference = Tokenizer.from_str(text)
        vocab = json.dumps(json.loads(text)["model"]["vocab"], ensure_ascii=False)
        if vocab not in vocabs:
            vocabs.append(vocab)
        assert vocab in text
        out.append({"name": name, "vocab": vocabs.index(vocab), "tokenizer": text.replace(vocab, "@VOCAB@"),
                    "results": [result(reference, t) for t in texts]})
    write("variants.json", {"vocabs": vocabs, "texts": texts, "variants": out})


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    minilm()
    variants()
