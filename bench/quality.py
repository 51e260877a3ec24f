"""Compares embedd with sentence-transformers' encode() on the real all-MiniLM-L6-v2 weights.

    python3 bench/quality.py --model DIR/minilm --library build/libembedd.so [--count 2000]

Checks that fp32 has cosine >= 0.999999 for every text, bf16 >= 0.9999 and int8 >= 0.99, that both count
the same tokens, and that "hello world" gives the vector known for this model. Ends with status 1 otherwise.
"""
import argparse
import os
import sys

import numpy as np

import texts as corpus
from compare import cosine
from embedd_ctypes import Engine

KNOWN = [-0.034478, 0.03102, 0.00673, 0.02611, -0.039362]
BARS = {"fp32": 0.999999, "bf16": 0.9999, "int8": 0.99}
ODD = ["", " ", "a", "hello world", "Ünïcödé àccénts", "日本語のテキスト", "🙂 emoji 👩‍👩‍👧", "x" * 300, "word " * 2000,
       "tab\tand\nnewline", "[CLS] not special [SEP]", "don't isn't we'll", "1,234.56 € 100%", "\u200bzero\u00adwidth"]


def expected(model, texts):
    os.environ["HF_HUB_OFFLINE"] = "1"
    import sentence_transformers
    st = sentence_transformers.SentenceTransformer(model, device="cpu")
    vectors = st.encode(texts, batch_size=16, show_progress_bar=False)
    return vectors, st.max_seq_length


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = os.path.dirname(os.path.abspath(__file__))
    parser.add_argument("--model", required=True)
    parser.add_argument("--library", required=True)
    parser.add_argument("--texts", default=f"{here}/data/peps.sample.txt")
    parser.add_argument("--count", type=int, default=2000)
    args = parser.parse_args()
    texts = ODD + corpus.load(args.texts)[: args.count]
    reference, limit = expected(args.model, texts)
    failed = 0
    with Engine(os.path.abspath(args.library)) as engine:
        for precision, bar in BARS.items():
            model = engine.open(args.model, precision)
            if model.info.max_tokens != limit:
                print(f"limit of {model.info.max_tokens} tokens, sentence-transformers has {limit}")
                failed += 1
            vectors = model.embed(texts)
            c = cosine(vectors, reference)
            ok = c.min() >= bar
            failed += not ok
            print(f"{precision} ({engine.isa}): {len(texts)} texts, cosine mean {c.mean():.7f}, worst {c.min():.7f} "
                  f"(text {int(c.argmin())}), bar {bar}: {'ok' if ok else 'MISSED'}")
            if precision == "fp32":
                error = np.abs(vectors[texts.index("hello world"), : len(KNOWN)] - KNOWN).max()
                known = error < 6e-6  # it is published to five or six places
                failed += not known
                print(f"known vector of 'hello world': largest difference {error:.1e}: {'ok' if known else 'MISSED'}")
            model.close()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
