#!/usr/bin/env python3
"""Writes the small trained tokenizers of tests/data/tokenizers, one for each family of published ones, and
golden.jsonl beside each: texts with the ids and byte offsets that the reference gives.

    pip install tokenizers==0.23.3 && tests/golden/make_tokenizers.py

The result is committed, so that the tests need no Python. Training is not reproducible to the bit.
"""
import base64
import json
import os
import struct
import sys
import unicodedata

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers as N, pre_tokenizers as P
from tokenizers import processors, trainers

sys.path.insert(0, os.path.dirname(__file__))
import tokenizer_texts  # noqa: E402

OUT = "tests/data/tokenizers"
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


# ---- a character map -------------------------------------------------------------------------------------

def charsmap(pairs):
    """A SentencePiece character map: a Darts double-array trie and the replacements."""
    blob, values = b"", {}
    for key, new in pairs.items():
        values[key.encode()] = len(blob)
        blob += new.encode() + b"\0"
    children = {}
    for key in values:
        for i in range(len(key)):
            children.setdefault(key[:i], set()).add(key[i])
    units, used, bases, where = {}, {0}, set(), {b"": 0}
    base_from = 1
    for node in sorted(set(children) | set(values), key=lambda k: (len(k), k)):
        slots = sorted(children.get(node, ())) + ([0] if node in values else [])
        here, base = where[node], base_from
        while base in bases or any((base ^ s) in used for s in slots):
            base += 1
        bases.add(base)
        while base_from in bases and base_from in used:
            base_from += 1
        units[here] = (here ^ base) << 10 | (node[-1] if node else 0) | (0x100 if node in values else 0)
        for s in children.get(node, ()):
            where[node + bytes([s])] = base ^ s
        used.update(base ^ s for s in slots)
        if node in values:
            units[base] = values[node] | 1 << 31
    size = (max(units) | 255) + 1
    trie = b"".join(struct.pack("<I", units.get(i, 0)) for i in range(size))
    return struct.pack("<I", len(trie)) + trie + blob


def nfkc_like():
    """What SentencePiece's nmt_nfkc does to some of Unicode: controls, spaces, forms, composed letters."""
    pairs = {}
    for c in list(range(1, 9)) + list(range(0xE, 0x20)) + [0x7F, 0xAD, 0x200B, 0x200C]:
        pairs[chr(c)] = ""
    for c in [9, 10, 13, 0xA0, 0x1680, 0x2000, 0x2003, 0x2028, 0x202F, 0x205F, 0x3000, 0xFEFF]:
        pairs[chr(c)] = " "
    wanted = list(range(0xA8, 0x100)) + list(range(0x2100, 0x2190)) + list(range(0xFF01, 0xFF9F)) + \
        list(range(0xFB00, 0xFB07)) + list(range(0x0958, 0x0960)) + list(range(0x2460, 0x2474)) + [0xFDFA, 0x1D400, 0x1F130]
    for c in wanted:
        n = unicodedata.normalize("NFKC", chr(c))
        if n != chr(c):
            pairs[chr(c)] = n
    for a in "aeiouAEIOUnc":
        for m in "\u0300\u0301\u0302\u0303\u0308\u0327":
            c = unicodedata.normalize("NFC", a + m)
            if len(c) == 1:
                pairs[a + m] = c
    pairs["\u304b\u3099"] = "\u304c"
    pairs["\r\n"] = " "
    return charsmap(pairs)


# ---- the tokenizers ------------------------------------------------------------------------------------------

def training_text():
    """Words and code; of the large scripts only little, so that a small vocabulary can hold all characters."""
    texts = tokenizer_texts.SENTENCES[:34] * 3 + tokenizer_texts.SENTENCES[44:47] * 3
    known = set("".join(texts))
    return texts + [t for t in tokenizer_texts.corpus(6000, 7) if known.issuperset(t)]


def template(tokenizer):
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>",
        special_tokens=[(t, tokenizer.token_to_id(t)) for t in ("<s>", "</s>")])


def unigram(normalizer, pre, size, byte_fallback=False):
    t = Tokenizer(models.Unigram())
    t.normalizer, t.pre_tokenizer = normalizer, pre
    extra = [f"<0x{b:02X}>" for b in range(256)] if byte_fallback else []
    t.train_from_iterator(training_text(), trainers.UnigramTrainer(
        vocab_size=size + len(extra), special_tokens=SPECIAL + extra, unk_token="<unk>", show_progress=False))
    if byte_fallback:
        # Byte pieces are no special tokens, and the trainer has no flag for the fallback.
        d = json.loads(t.to_str())
        d["model"]["byte_fallback"] = True
        d["added_tokens"] = [a for a in d["added_tokens"] if a["content"] in SPECIAL]
        t = Tokenizer.from_str(json.dumps(d))
    t.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    template(t)
    return t


def bpe(model, normalizer, pre, size, special=SPECIAL, **options):
    t = Tokenizer(model)
    if normalizer is not None:
        t.normalizer = normalizer
    if pre is not None:
        t.pre_tokenizer = pre
    t.train_from_iterator(training_text(), trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, show_progress=False, **options))
    return t


def roberta():
    t = bpe(models.BPE(), None, P.ByteLevel(add_prefix_space=False), 2500,
            initial_alphabet=P.ByteLevel.alphabet())
    t.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    t.post_processor = processors.RobertaProcessing(("</s>", t.token_to_id("</s>")), ("<s>", t.token_to_id("<s>")),
                                                    trim_offsets=True, add_prefix_space=False)
    return t


def gpt4_like():
    pattern = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
               r"|\s+(?!\S)|\s+")
    t = bpe(models.BPE(ignore_merges=True), N.NFC(), P.Sequence([P.Split(Regex(pattern), "isolated", invert=False),
            P.ByteLevel(add_prefix_space=False, use_regex=False)]), 2500, initial_alphabet=P.ByteLevel.alphabet())
    template(t)
    return t


def llama_like():
    t = bpe(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True),
            N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")]), P.Metaspace(prepend_scheme="never", split=True), 1500,
            special=SPECIAL + [f"<0x{b:02X}>" for b in range(256)], limit_alphabet=120)
    d = json.loads(t.to_str())
    d["added_tokens"] = [a for a in d["added_tokens"] if a["content"] in SPECIAL]
    d["pre_tokenizer"] = None
    t = Tokenizer.from_str(json.dumps(d))
    template(t)
    return t


def odd_bpe(fuse):
    t = bpe(models.BPE(unk_token="<unk>", fuse_unk=fuse, continuing_subword_prefix="##", end_of_word_suffix="</w>"),
            N.Sequence([N.NFKC(), N.Lowercase()]), P.Sequence([P.Whitespace(), P.Digits(individual_digits=True)]), 1200,
            continuing_subword_prefix="##", end_of_word_suffix="</w>", limit_alphabet=100)
    t.post_processor = processors.TemplateProcessing(single="$A", pair="$A $B", special_tokens=[])
    return t


def tokenizers():
    precompiled = N.Precompiled(nfkc_like())
    # As published: white space first, then words with U+2581.
    yield "xlm-roberta-like", unigram(precompiled, P.Sequence([P.WhitespaceSplit(), P.Metaspace()]), 3000)
    yield "t5-like", unigram(N.Sequence([precompiled, N.Strip(left=False, right=True), N.Replace(Regex(" {2,}"), "▁")]),
                             P.Metaspace(prepend_scheme="first"), 1500, byte_fallback=True)
    yield "unsplit-unigram", unigram(N.Sequence([N.NFKD(), N.StripAccents(), N.Nmt()]),
                                     P.Metaspace(prepend_scheme="always", split=False), 1200)
    yield "roberta-like", roberta()
    yield "gpt4-like", gpt4_like()
    yield "llama-like", llama_like()
    yield "odd-bpe", odd_bpe(False)
    yield "odd-bpe-fused", odd_bpe(True)


# ---- golden results --------------------------------------------------------------------------------------------

def golden_texts():
    texts = tokenizer_texts.SENTENCES + list(tokenizer_texts.corpus(250, 11))
    texts += ["", " ", "  two  spaces ", "<mask> a <mask>b", "x<s>y</s>", "e\u0301\u0301e", "a\r\nb\r\n", "\uff41\u0301x", "\u00a9\u200d\u00a9\u0301",
              "\u304b\u3099", "don't we'll I'VE it's 's '", "12345 3.14 ١٢٣", "😀👨‍👩‍👧🏽🇩🇪", "\u2581a\u2581\u2581b", "a" * 300, "\u0301" * 40, "no\u00adbreak\u0007bell"]
    return [t for t in dict.fromkeys(texts) if len(t) < 400]


def golden(tokenizer):
    for text in golden_texts():
        encoding = tokenizer.encode(text)
        where = [0]
        for c in text:
            where.append(where[-1] + len(c.encode()))
        yield {"text": text, "ids": encoding.ids, "offsets": [x for s, e in encoding.offsets for x in (where[s], where[e])]}


def main():
    for name, tokenizer in tokenizers():
        directory = os.path.join(OUT, name)
        os.makedirs(directory, exist_ok=True)
        d = json.loads(tokenizer.to_str())
        d["decoder"] = None
        with open(os.path.join(directory, "tokenizer.json"), "w", encoding="utf-8") as f:
            json.dump(d, f, ensure_ascii=False, separators=(",", ":"))
            f.write("\n")
        tokenizer = Tokenizer.from_file(os.path.join(directory, "tokenizer.json"))
        with open(os.path.join(directory, "golden.jsonl"), "w", encoding="utf-8") as f:
            for entry in golden(tokenizer):
                f.write(json.dumps(entry, ensure_ascii=True, separators=(",", ":")) + "\n")
        print(name, tokenizer.get_vocab_size())
        if name == "roberta-like":
            write_files(d)


def write_files(d):
    """The same tokenizer as vocab.json and merges.txt."""
    directory = os.path.join(OUT, "roberta-files")
    os.makedirs(directory, exist_ok=True)
    vocab = dict(d["model"]["vocab"])
    for a in d["added_tokens"]:
        vocab.setdefault(a["content"], a["id"])
    with open(os.path.join(directory, "vocab.json"), "w", encoding="utf-8") as f:
        json.dump(vocab, f, ensure_ascii=False, separators=(",", ":"))
    with open(os.path.join(directory, "merges.txt"), "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in d["model"]["merges"]))
    with open(os.path.join(directory, "tokenizer_config.json"), "w", encoding="utf-8") as f:
        f.write('{"tokenizer_class": "RobertaTokenizer", "add_prefix_space": false, "bos_token": "<s>", "eos_token": "</s>"}\n')


if __name__ == "__main__":
    main()
