"""Small tokenizers that each turn one screw: flags, stages, added tokens, post-processors.

    for name, text in tokenizer_variants.variants(): ...   # text is a tokenizer.json
"""
import itertools
import json
import string

CHARS = string.printable[:94] + "éüñßçßøåœæжяиўéऀकािхсаطع中文日本語カガ한국▁Ġġ«»…’—‘¿¡·ª½²ǆşıłΣσςάω"
WORDS = ["the", "quick", "un", "aff", "able", "world", "hello", "Hello", "##ing", "##able", "##aff", "##ed", "[MASK", "don", "it's",
         "e\u0301", "a\u0300", "##\u0301", "low", "lower", "##er", "##est", "new", "##lowest", "Ġthe", "▁the", "▁hello", "ab", "abc"]


def vocab(prefix="##"):
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<s>", "</s>"] + WORDS
    for c in dict.fromkeys(CHARS):
        tokens += [c, prefix + c]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}


def added(content, **flags):
    token = {"id": 0, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
             "special": False}
    return {**token, **flags}


SPECIALS = [added(t, special=True) for t in ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]]
BERT = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
TEMPLATE = {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                               "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}}


def tokenizer(normalizer=None, pre={"type": "BertPreTokenizer"}, post=TEMPLATE, tokens=SPECIALS, **model):
    prefix = model.get("continuing_subword_prefix", "##")
    return json.dumps({"version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens,
                       "normalizer": normalizer, "pre_tokenizer": pre, "post_processor": post, "decoder": None,
                       "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": prefix,
                                 "max_input_chars_per_word": 100, **model, "vocab": vocab(prefix)}}, ensure_ascii=False)


def normalizers():
    def sequence(*stages):
        return {"type": "Sequence", "normalizers": list(stages)}

    for clean, chinese, strip, lower in itertools.product([True, False], [True, False], [None, True, False], [True, False]):
        yield (f"bert{'-clean' * clean}{'-chinese' * chinese}{ {None: '', True: '-strip', False: '-keep'}[strip]}{'-lower' * lower}",
               {**BERT, "clean_text": clean, "handle_chinese_chars": chinese, "strip_accents": strip, "lowercase": lower})
    for form in ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt"]:
        yield form, {"type": form}
    for left, right in itertools.product([True, False], repeat=2):
        yield f"strip-{left}-{right}", {"type": "Strip", "strip_left": left, "strip_right": right}
    yield "prepend", {"type": "Prepend", "prepend": "▁"}
    yield "prepend-two", {"type": "Prepend", "prepend": "ab"}
    yield "replace", {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    yield "replace-nothing", {"type": "Replace", "pattern": {"String": "e"}, "content": ""}
    yield "replace-longer", {"type": "Replace", "pattern": {"String": "the"}, "content": "wörld"}
    yield "replace-special", {"type": "Replace", "pattern": {"String": ".*"}, "content": "x"}
    yield "replace-regex", {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": "▁"}
    yield "replace-quotes", sequence({"type": "Replace", "pattern": {"String": "``"}, "content": "\""},
                                     {"type": "Replace", "pattern": {"String": "''"}, "content": "\""})
    yield "albert", sequence({"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"},
                             {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
    yield "many", sequence({"type": "Strip", "strip_left": True, "strip_right": True}, {"type": "Prepend", "prepend": "▁"},
                           {"type": "NFC"}, {"type": "Lowercase"}, sequence({"type": "Nmt"}, {"type": "NFD"}, {"type": "StripAccents"}))
    yield "none", None


def pre_tokenizers():
    def sequence(*stages):
        return {"type": "Sequence", "pretokenizers": list(stages)}

    for kind in ["BertPreTokenizer", "Whitespace", "WhitespaceSplit"]:
        yield kind, {"type": kind}
    for behavior in ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]:
        yield f"punctuation-{behavior}", {"type": "Punctuation", "behavior": behavior}
        for invert in [False, True]:
            yield f"split-{behavior}-{invert}", {"type": "Split", "pattern": {"String": "e"}, "behavior": behavior, "invert": invert}
            yield (f"split-regex-{behavior}-{invert}",
                   {"type": "Split", "pattern": {"Regex": "\\p{L}+|\\d{1,3}"}, "behavior": behavior, "invert": invert})
    yield "punctuation", {"type": "Punctuation"}
    yield "delimiter", {"type": "CharDelimiterSplit", "delimiter": "e"}
    yield "delimiter-wide", {"type": "CharDelimiterSplit", "delimiter": "語"}
    for individual in [False, True]:
        yield f"digits-{individual}", {"type": "Digits", "individual_digits": individual}
    for scheme, split in itertools.product(["always", "first", "never"], [True, False]):
        yield f"metaspace-{scheme}-{split}", {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split}
    for space, regex in itertools.product([True, False], repeat=2):
        yield f"bytelevel-{space}-{regex}", {"type": "ByteLevel", "add_prefix_space": space, "trim_offsets": True, "use_regex": regex}
    yield "words-punctuation", sequence({"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "Contiguous"}, {"type": "Digits", "individual_digits": True})
    yield "words-metaspace", sequence({"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"})
    yield "words-metaspace-first", sequence({"type": "Whitespace"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"})
    yield "none", None


def post_processors():
    yield "none", None
    yield "bert", {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    for trim, space in itertools.product([True, False], repeat=2):
        yield f"roberta-{trim}-{space}", {"type": "RobertaProcessing", "sep": ["</s>", 6], "cls": ["<s>", 5], "trim_offsets": trim, "add_prefix_space": space}
        level = {"type": "ByteLevel", "trim_offsets": trim, "add_prefix_space": space, "use_regex": True}
        yield f"level-{trim}-{space}", level
        yield f"sequence-{trim}-{space}", {"type": "Sequence", "processors": [level, TEMPLATE]}
        yield f"sequence-back-{trim}-{space}", {"type": "Sequence", "processors": [TEMPLATE, level]}
        bert = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
        yield f"sequence-bert-{trim}-{space}", {"type": "Sequence", "processors": [bert, level, TEMPLATE, level]}
    several = json.loads(json.dumps(TEMPLATE))
    several["single"] = [several["single"][0], several["single"][2], several["single"][0], several["single"][1], several["single"][2]]
    several["special_tokens"]["[SEP]"] = {"id": "[SEP]", "ids": [3, 4], "tokens": ["[SEP]", "[MASK]"]}
    yield "template-several", several


def added_tokens():
    yield "none", []
    for single, left, right, normalized in itertools.product([False, True], repeat=4):
        flags = {"single_word": single, "lstrip": left, "rstrip": right, "normalized": normalized}
        yield (f"added{'-single' * single}{'-lstrip' * left}{'-rstrip' * right}{'-normalized' * normalized}",
               SPECIALS + [added("<s>", **flags), added("quick", **flags), added("LOW", **flags), added("é", **flags), added("new token", **flags)])
    yield "overlapping", [added("ab"), added("abc"), added("bcd"), added("abcdef"), added("c")]
    yield "repeated", SPECIALS + [added("extra one"), added("extra two"), added("extra one", lstrip=True, rstrip=True), added("quick")]
    yield "both", SPECIALS + [added("<S>", normalized=True), added("<s>", lstrip=True), added("≮x>", normalized=True), added("#tag", normalized=True, rstrip=True)]
    yield "spaces", SPECIALS + [added(" "), added("  x"), added("\n\n", lstrip=True)]
    yield "many-firsts", [added(c) for c in "!?;:,.+*"] + [added("語", normalized=True)]


def variants():
    for name, normalizer in normalizers():
        yield f"normalizer-{name}", tokenizer(normalizer)
    for name, pre in pre_tokenizers():
        yield f"pre-{name}", tokenizer(None, pre)
    yield "pre-lower-none", tokenizer({"type": "Lowercase"}, None)
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    for name, post in post_processors():
        yield f"post-{name}", tokenizer(None, level, post)
        if name.startswith(("roberta", "sequence")):
            yield f"post-words-{name}", tokenizer(BERT, {"type": "BertPreTokenizer"}, post, SPECIALS + [added("<s>", lstrip=True, rstrip=True)])
    for name, tokens in added_tokens():
        yield f"tokens-{name}", tokenizer(BERT, tokens=tokens)
        yield f"tokens-plain-{name}", tokenizer(None, {"type": "WhitespaceSplit"}, tokens=tokens)
        yield f"tokens-prepend-{name}", tokenizer({"type": "Prepend", "prepend": "▁"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"}, tokens=tokens)
    yield "model-short-words", tokenizer(BERT, max_input_chars_per_word=4)
    yield "model-no-words", tokenizer(BERT, max_input_chars_per_word=0)
    yield "model-no-prefix", tokenizer(BERT, continuing_subword_prefix="")
    yield "model-other-prefix", tokenizer(BERT, continuing_subword_prefix="▁")
    yield "model-lost-prefix", tokenizer(BERT).replace('"continuing_subword_prefix": "##"', '"continuing_subword_prefix": "€"')


TEXTS = ["", " ", "a", "the quick world", " Hello,  World! ", "unaffable UNAFFABLE", "lowest lower", "the<s>quick", "the <s> quick", "THE  <s>\tQUICK\n",
    "<s>", "  <s>  ", "<s><s>", "<S> ≮s> ≮x>", "quickly quick Quick", "LOW low LOWer Low", "new token new tokens newtoken", "abcdef abcd abc ab bcd",
    "extra one extra two  extra one  ", "extra oneextra two", "#tag  #TAG x", "é É e\u0301 E\u0301", "wörld Wörld", "[MASK] [mask] [MASK", "a[MASK]b", "[CLS][SEP]",
    "don't it's I'll", "e.g. 3,000.50 x2 42", "a-b--c---d", "``quoted'' \"text\"", "中文字符 mixed 日本語", "한국어 カガ ｶﾞ", "ﬁﬀ ½ ² Ⅷ ㎏", "straße STRASSE İıI ǅ",
    "tab\tnew\nline\r\nend", "nbsp\u00a0thin\u2009zero\u200bwidth", "null\0ctl\x01\x1f\x7f\x85end", "\ufeffbom \ufffdrepl", "soft\u00adhyphen \u200e rtl \u200f", "x\u0300\u0301\u0315\u0328y",
    "\u0301start", "\u1e9b\u0323 \u0344 \u0958", "\U0001d165\U0001d16e\u0301 \u302e\u0301", "😀👍🏽👩‍💻 ok", "🇩🇪", "a" * 101, "é" * 60 + " x", "語" * 30, "e" * 16 + " " + "e" * 17,
    ".*..*", "  x  x\n\n\ny", "!?;:,.+*", "▁the ▁hello", "ĠtheĠ", " Ġ ġ ", "«quoted» … — ‘x’", "Σίσυφος ΟΔΥΣΣΕΥΣ", "कि ि ा", "طع ع", "\u2028\u2029\u3000\u1680", "abc\u00a0<s>\u3000the"]
