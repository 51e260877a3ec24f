#!/usr/bin/env python3
"""Makes tests/golden/minilm.json (texts and token ids) and minilm.f32 (their vectors, float32 rows) with the
float64 reference and the fp32 weights of all-MiniLM-L6-v2. Needs numpy and tokenizers.

    make_minilm.py MODEL_DIR PARAGRAPHS.txt
"""
import json
import os
import sys

import numpy as np
from tokenizers import Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from reference import Model  # noqa: E402

SPECIAL = [
    "", "hello world", "a", "?", "Which planet is known as the Red Planet?", "naïve café, déjà vu", "Привет, мир",
    "你好，世界", "こんにちは世界", "안녕하세요", "مرحبا بالعالم", "שלום עולם", "नमस्ते दुनिया", "🙂🙃 👩‍👩‍👧‍👦 🇩🇪", "e = mc² ≠ 3×10⁸",
    "int main(void) { return 0; }", "SELECT * FROM t WHERE a <> 'b';", "https://example.org/a?b=c&d=%20#e",
    "x" * 300, "ab " * 300, "!" * 200, "\t tabs\nand\r\nlines \u00a0 ", "1234567890 3.14159 1e-9 0xff",
    "The quick brown fox jumps over the lazy dog.",
]


def main():
    directory, paragraphs = sys.argv[1], sys.argv[2]
    tokenizer = Tokenizer.from_file(os.path.join(directory, "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    with open(paragraphs, encoding="utf-8") as file:
        lines = [line.strip() for line in file if len(line) > 40]
    rng = np.random.default_rng(20)
    texts = list(SPECIAL)
    for tokens in np.linspace(3, 256, 176):  # texts of about every length
        start = int(rng.integers(len(lines) - 60))
        text = " ".join(lines[start : start + 60])
        offsets = tokenizer.encode(text).offsets
        texts.append(text[: offsets[min(int(tokens), len(offsets) - 1) - 2][1]])
    model = Model(directory)
    rows, vectors = [], []
    for text in texts:
        ids = tokenizer.encode(text).ids
        rows.append(json.dumps({"text": text, "ids": ids}, ensure_ascii=False))
        vectors.append(model.embed(ids).astype("<f4"))
    with open(os.path.join(HERE, "minilm.json"), "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(rows) + "\n]\n")
    np.array(vectors, "<f4").tofile(os.path.join(HERE, "minilm.f32"))
    print(len(texts), "texts,", sum(len(json.loads(r)["ids"]) for r in rows), "tokens;", vectors[1][:5])


if __name__ == "__main__":
    main()
