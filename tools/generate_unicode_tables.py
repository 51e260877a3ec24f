#!/usr/bin/env python3
"""Writes src/tokenizer/unicode_tables.h and unicode_classes.h from the behaviour of the reference tokenizer.

The reference (PyPI `tokenizers`) mixes several Unicode versions: 9.0 for normalization and general
categories, the standard library's for white space, digits and lower case, its regular expression
engines' for classes, and the newest for grapheme clusters. No library has the same mixture, so every
code point is put through the reference's own normalizers and pre-tokenizers and what comes out becomes
the table. Nothing is read but its results.

    pip install tokenizers==0.23.3 && tools/generate_unicode_tables.py src/tokenizer
"""
import contextlib
import struct
import sys
import unicodedata

import tokenizers
from tokenizers import normalizers as N, pre_tokenizers as P

ALL = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def charsmap(pairs):
    """A SentencePiece character map (double-array trie + replacement texts) holding the given pairs."""
    blob, values, keys = b"", {}, {}
    for key, new in pairs.items():
        values[key.encode()] = len(blob)
        blob += new.encode() + b"\0"
    nodes = {b""}
    for key in values:
        nodes.update(key[:i] for i in range(len(key) + 1))
    units, used, where, bases = {}, {0}, {b"": 0}, set()
    for node in sorted(nodes, key=lambda k: (len(k), k)):
        children = sorted({n[len(node)] for n in nodes if len(n) == len(node) + 1 and n[:-1] == node})
        slots = children + ([0] if node in values else [])
        here, base = where[node], 1
        while base in bases or any((base ^ s) in used for s in slots) or (here ^ base) >= 1 << 21:
            base += 1
        bases.add(base)
        label = node[-1] if node else 0
        units[here] = ((here ^ base) << 10) | label | (0x100 if node in values else 0)
        for s in children:
            where[node + bytes([s])] = base ^ s
        used.update(base ^ s for s in slots)
        if node in values:
            units[base] = values[node] | 1 << 31
    size = (max(units) | 255) + 1
    trie = b"".join(struct.pack("<I", units.get(i, 0)) for i in range(size))
    return struct.pack("<I", len(trie)) + trie + blob


def probe(function):
    return {c for c in ALL if function(chr(c))}


def pieces(pre, text):
    return len(pre.pre_tokenize_str(text))


def properties():
    clean = N.BertNormalizer(clean_text=True, handle_chinese_chars=False, strip_accents=False,
                             lowercase=False).normalize_str
    bert = N.BertNormalizer(clean_text=False, handle_chinese_chars=False, strip_accents=True,
                            lowercase=False).normalize_str
    chinese = N.BertNormalizer(clean_text=False, handle_chinese_chars=True, strip_accents=False,
                               lowercase=False).normalize_str
    strip = N.StripAccents().normalize_str
    byte_level = P.ByteLevel(add_prefix_space=False)
    digits, word, punct = P.Digits(individual_digits=True), P.Whitespace(), P.Punctuation()
    split = P.WhitespaceSplit()
    p = {}
    p["REMOVED"] = probe(lambda c: clean(c) == "")
    p["WHITESPACE"] = probe(lambda c: pieces(split, "a" + c + "a") == 2)
    # Of characters that decompose the parts count; those are code points of their own.
    p["MARK_NONSPACING"] = probe(lambda c: bert(c) == "")
    p["COMBINING_MARK"] = probe(lambda c: strip(c) == "")
    p["PUNCTUATION"] = probe(lambda c: pieces(punct, "a" + c + "a") == 3)
    p["WORD"] = probe(lambda c: pieces(word, "a" + c + "a") == 1)
    p["LETTER"] = probe(lambda c: pieces(byte_level, "a" + c + "a") == 1)
    p["NUMBER"] = probe(lambda c: pieces(byte_level, "1" + c + "1") == 1)
    p["NUMERIC"] = probe(lambda c: pieces(digits, "a" + c + "a") == 3)
    p["CHINESE"] = probe(lambda c: chinese(c) != c)
    # Facts that the C code relies on.
    space = p["WHITESPACE"]
    assert probe(lambda c: clean(c) == " ") == space - p["REMOVED"], "white space of BertNormalizer"
    assert probe(lambda c: pieces(word, "a" + c + "a") == 2) == space, "\\s of the Whitespace pattern"
    other = probe(lambda c: pieces(byte_level, "!" + c + "!") == 1)
    assert set(ALL) - other - p["LETTER"] - p["NUMBER"] == space, "\\s of the ByteLevel pattern"
    return p


def combining_classes(nfd):
    """By the order that NFD gives to pairs with characters of known classes."""
    nonzero = {c for c in ALL if nfd(chr(c)) == chr(c) and
               ("a\u0345" + chr(c) != nfd("a\u0345" + chr(c)) or "a" + chr(c) + "\u0334" != nfd("a" + chr(c) + "\u0334"))}
    nonzero |= {0x345, 0x334}
    anchors = {}
    for c in sorted(nonzero):
        k = unicodedata.combining(chr(c))
        if k:
            anchors.setdefault(k, c)
    result = {}
    for c in nonzero:
        below = {k for k, a in anchors.items() if nfd("a" + chr(c) + chr(a)) != "a" + chr(c) + chr(a)}
        above = {k for k, a in anchors.items() if nfd("a" + chr(a) + chr(c)) != "a" + chr(a) + chr(c)}
        same = set(anchors) - below - above
        assert len(same) == 1, (hex(c), same)
        result[c] = same.pop()
    return result


def normalization():
    nfd, nfkd, nfc = N.NFD().normalize_str, N.NFKD().normalize_str, N.NFC().normalize_str
    hangul = range(0xAC00, 0xD7A4)
    canonical = {c: nfd(chr(c)) for c in ALL if c not in hangul and nfd(chr(c)) != chr(c)}
    compatible = {c: nfkd(chr(c)) for c in ALL if c not in hangul and nfkd(chr(c)) != chr(c)}
    compose = {}
    for c, d in canonical.items():
        if len(d) > 1:
            first = nfc(d[:-1])
            if len(first) == 1 and nfc(first + d[-1]) == chr(c):
                compose[(ord(first), ord(d[-1]))] = c
    classes = combining_classes(nfd)
    for s in hangul:  # the algorithm of the standard, nothing else
        s -= 0xAC00
        parts = chr(0x1100 + s // 588) + chr(0x1161 + s % 588 // 28) + (chr(0x11A7 + s % 28) if s % 28 else "")
        assert nfd(chr(0xAC00 + s)) == parts and nfc(parts) == chr(0xAC00 + s)
    return canonical, compatible, compose, classes


def graphemes():
    """Classes of the cluster rules, seen through a character map.

    The reference looks a cluster of fewer than six bytes up as a whole, takes the shortest key that
    begins it and drops the rest; longer clusters go character by character. So whether a mark behind a
    mapped character disappears tells where the boundaries are."""
    def through(pairs):
        return N.Precompiled(charsmap(pairs)).normalize_str
    a, acute = through({"a": "X"}), through({"\u0301": "E"})
    copyright_ = through({"\u00a9": "X"})
    ka = through({"\u0915": "K"})
    jamo = {j: through({j: "J"}) for j in "\u1100\u1161\u11a8"}
    joins = probe(lambda c: a("a" + c) == "X")
    control = probe(lambda c: acute(c + "\u0301\u0301").endswith("E") and
                    not acute(c + "\u0301\u0301").endswith("EE"))
    prepend = probe(lambda c: a(c + "a\u0301").endswith("\u0301"))
    pictographic = probe(lambda c: copyright_("\u00a9\u200d" + c).startswith("X\u200d"))
    through_zwj = probe(lambda c: copyright_("\u00a9" + c + "\u200d\u00a9\u0301").endswith("\u0301"))
    right = {j: probe(lambda c: f(c + j + "\u0301").endswith("\u0301")) for j, f in jamo.items()}
    linker = probe(lambda c: ka("\u0915" + c + "\u0915\u0301").endswith("\u0301")) - prepend
    before = probe(lambda c: ka(c + "\u094d\u0915\u0301").endswith("\u0301")) - prepend
    after_linker = probe(lambda c: ka("\u0915\u094d" + c + "\u0915\u0301").endswith("\u0301")) - prepend
    consonant = before - linker - joins
    result = {}
    for c in ALL:
        k = "OTHER"
        if c == 0x0D: k = "CR"
        elif c == 0x0A: k = "LF"
        elif c in control: k = "CONTROL"
        elif c == 0x200D: k = "ZWJ"
        elif c in joins: k = "EXTEND" if c in through_zwj else "SPACING_MARK"
        elif c in prepend: k = "PREPEND"
        elif 0xAC00 <= c < 0xD7A4: k = "LVT" if (c - 0xAC00) % 28 else "LV"
        elif c in right["\u1100"]: k = "L"
        elif c in right["\u1161"]: k = "V"
        elif c in right["\u11a8"]: k = "T"
        elif c in pictographic: k = "PICTOGRAPHIC"
        result[c] = k
    # InCB: what keeps a conjunct going
    conjunct = {}
    for c in ALL:
        if c in linker: conjunct[c] = "LINKER"
        elif c in consonant: conjunct[c] = "CONSONANT"
        elif c in joins and c in after_linker: conjunct[c] = "EXTEND"
        else: conjunct[c] = "NONE"
    assert a("a\r\n") == "X\r\n" and through({"\r": "R"})("\r\n") == "R"
    return result, conjunct


def two_stage(values, shift, default):
    """values: list over code points -> (index per block, blocks)"""
    size, blocks, index, seen = 1 << shift, [], [], {}
    for start in range(0, 0x110000, size):
        block = tuple(values.get(c, default) for c in range(start, start + size))
        if block not in seen:
            seen[block] = len(blocks)
            blocks.append(block)
        index.append(seen[block])
    return index, blocks


def emit(ctype, name, values):
    print(f"static const {ctype} {name}[{len(values)}] = {{")
    line = "   "
    for v in values:
        text = f" {v},"
        if len(line) + len(text) > 110:
            print(line)
            line = "   "
        line += text
    print(line)
    print("};\n")


FLAGS = ["REMOVED", "WHITESPACE", "MARK_NONSPACING", "COMBINING_MARK", "PUNCTUATION", "WORD", "LETTER",
         "NUMBER", "NUMERIC", "CHINESE", "LOWERCASES", "COMPOSES_BACK", "CANONICAL", "COMPATIBLE"]
GRAPHEMES = ["OTHER", "CR", "LF", "CONTROL", "EXTEND", "ZWJ", "SPACING_MARK", "PREPEND", "L", "V", "T", "LV",
             "LVT", "PICTOGRAPHIC"]
CONJUNCTS = ["NONE", "CONSONANT", "LINKER", "EXTEND"]


HEAD = f"""/* Generated by tools/generate_unicode_tables.py from the behaviour of `tokenizers`
 * {tokenizers.__version__}. Do not edit. */
/* clang-format off */"""


def write_classes(p):
    """unicode_classes.h: what the regular expression engine's Unicode may lack."""
    print(HEAD)
    print("#ifndef EMB_TOKENIZER_UNICODE_CLASSES_H\n#define EMB_TOKENIZER_UNICODE_CLASSES_H\n")
    print("/* For character classes of regular expressions: what Unicode 14, which the engine may know, lacks. */")
    for name, category, have in (("LETTERS", "L", p["LETTER"]), ("NUMBERS", "N", p["NUMBER"])):
        assert unicodedata.unidata_version == "14.0.0", "run with Python 3.11"
        known = {c for c in ALL if unicodedata.category(chr(c))[0] == category}
        assert not known - have
        print(f"#define EMB_UNICODE_NEW_{name} \\")
        ranges = []
        for c in sorted(have - known):
            if ranges and ranges[-1][1] == c - 1:
                ranges[-1][1] = c
            else:
                ranges.append([c, c])
        texts = [f"\\\\x{{{a:x}}}" + (f"-\\\\x{{{b:x}}}" if b > a else "") for a, b in ranges]
        for i in range(0, len(texts), 4):
            print('    "' + "".join(texts[i:i + 4]) + '"' + (" \\" if i + 4 < len(texts) else ""))
        print()
    print("#endif")


def write_tables():
    lower = N.Lowercase().normalize_str
    p = properties()
    canonical, compatible, compose, classes = normalization()
    lowered = {c: lower(chr(c)) for c in ALL if lower(chr(c)) != chr(c)}
    grapheme, conjunct = graphemes()
    p["LOWERCASES"] = set(lowered)
    p["COMPOSES_BACK"] = {b for _, b in compose} | set(range(0x1161, 0x1176)) | set(range(0x11A8, 0x11C3))
    p["CANONICAL"] = set(canonical) | set(range(0xAC00, 0xD7A4))
    p["COMPATIBLE"] = set(compatible) | set(range(0xAC00, 0xD7A4))
    assert not (set(canonical) - set(compatible))

    records, of, number = [], {}, {}
    for c in ALL:
        flags = sum(1 << i for i, f in enumerate(FLAGS) if c in p[f])
        r = (flags, classes.get(c, 0), GRAPHEMES.index(grapheme[c]), CONJUNCTS.index(conjunct[c]))
        if r not in number:
            number[r] = len(records)
            records.append(r)
        of[c] = number[r]
    assert len(records) < 256

    print(HEAD)
    print("#ifndef EMB_TOKENIZER_UNICODE_TABLES_H\n#define EMB_TOKENIZER_UNICODE_TABLES_H\n")
    print("/* flags, combining class, grapheme class, conjunct class */")
    print(f"static const emb_unicode_info unicode_infos[{len(records)}] = {{")
    for r in records:
        print(f"    {{ 0x{r[0]:04x}, {r[1]}, {r[2]}, {r[3]} }},")
    print("};\n")
    print("const uint16_t emb_unicode_ascii_flags[128] = {")
    for c in range(0, 128, 8):
        print("   ", " ".join(f"0x{records[of[x]][0]:04x}," for x in range(c, c + 8)))
    print("};\n")
    index, blocks = two_stage(of, 7, of[0xE000])
    emit("uint8_t" if len(blocks) < 256 else "uint16_t", "unicode_info_blocks", index)
    emit("uint8_t", "unicode_info_index", [v for b in blocks for v in b])

    single = {c: (ord(t) - c) for c, t in lowered.items() if len(t) == 1}
    special = {c: t for c, t in lowered.items() if len(t) != 1}
    assert special == {0x130: "i\u0307"}, special
    index, blocks = two_stage(single, 7, 0)
    print("/* lower case minus upper case; U+0130 is the only one that becomes two characters */")
    emit("uint8_t", "unicode_lower_blocks", index)
    emit("int32_t", "unicode_lower_deltas", [v for b in blocks for v in b])

    pool, offset = [0], {}
    for table in (canonical, compatible):
        for c, d in sorted(table.items()):
            if d not in offset:
                offset[d] = len(pool)
                pool += [len(d)] + [ord(x) for x in d]
    assert len(pool) < 65536
    for name, table in (("canonical", canonical), ("compatible", compatible)):
        index, blocks = two_stage({c: offset[d] for c, d in table.items()}, 6, 0)
        emit("uint8_t" if len(blocks) < 256 else "uint16_t", f"unicode_{name}_blocks", index)
        emit("uint16_t", f"unicode_{name}_offsets", [v for b in blocks for v in b])
    print("/* decompositions: count, then the characters */")
    emit("uint32_t", "unicode_decompositions", pool)
    print(f"#define UNICODE_LONGEST_DECOMPOSITION {max(len(d) for d in offset)}\n")
    print("/* first << 32 | second, ascending, and what they compose to */")
    pairs = sorted(compose.items())
    emit("uint64_t", "unicode_compose_keys", [f"0x{a << 32 | b:x}" for (a, b), _ in pairs])
    emit("uint32_t", "unicode_compose_values", [c for _, c in pairs])
    print("#endif")
    print(f"{len(records)} records, {len(compose)} compositions, {len(classes)} classes", file=sys.stderr)
    return p


def main():
    directory = sys.argv[1]
    with open(f"{directory}/unicode_tables.h", "w") as f, contextlib.redirect_stdout(f):
        p = write_tables()
    with open(f"{directory}/unicode_classes.h", "w") as f, contextlib.redirect_stdout(f):
        write_classes(p)


main()
