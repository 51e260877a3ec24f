#!/usr/bin/env python3
"""Writes the small seeded models of tests/data/models, one for each variant of published directories, and
the vectors that reference.py computes with them. Run it in the repository's root; the result is
committed, so that the tests need no Python. Same seed, same bytes.
"""
import json
import os
import shutil
import struct
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(__file__))
from reference import Model  # noqa: E402

OUT = "tests/data/models"
CLASS = "sentence_transformers.models."


def write_json(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.write("\n")


def encode(values, dtype):
    values = values.astype("<f4")
    if dtype == "F32":
        return values.tobytes()
    if dtype == "F16":
        return values.astype("<f2").tobytes()
    bits = values.view("<u4").astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2").tobytes()


def write_safetensors(path, tensors, dtype, extra=None):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, values in tensors.items():
        raw = encode(values, dtype)
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    for name, values in (extra or {}).items():  # integer buffers, as old files hold
        raw = values.astype("<i8").tobytes()
        header[name] = {"dtype": "I64", "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


class Maker:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.tensors = {}

    def matrix(self, name, rows, columns, scale):
        self.tensors[name] = self.rng.normal(0, scale, (rows, columns))

    def linear(self, name, out, inputs, gain=1.0):
        self.matrix(name + ".weight", out, inputs, gain / np.sqrt(inputs))
        self.tensors[name + ".bias"] = self.rng.normal(0, 0.1, out)

    def norm(self, name, width, old=False):
        self.tensors[name + (".gamma" if old else ".weight")] = self.rng.normal(1, 0.15, width)
        self.tensors[name + (".beta" if old else ".bias")] = self.rng.normal(0, 0.15, width)


def make_tensors(maker, s):
    family, hidden = s["family"], s["hidden"]
    prefix, old = s.get("prefix", ""), s.get("old_norms", False)
    maker.matrix(prefix + "embeddings.word_embeddings.weight", s["vocab"], hidden, 0.6)
    maker.matrix(prefix + "embeddings.position_embeddings.weight", s["positions"], hidden, 0.3)
    if family not in ("mpnet", "distilbert"):
        maker.matrix(prefix + "embeddings.token_type_embeddings.weight", s.get("types", 2), hidden, 0.1)
    maker.norm(prefix + "embeddings.LayerNorm", hidden, old)
    if family == "mpnet":
        maker.matrix(prefix + "encoder.relative_attention_bias.weight", 32, s["heads"], 1.0)
    for i in range(s["layers"]):
        if family == "distilbert":
            base = prefix + "transformer.layer.%d." % i
            names = ["attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "sa_layer_norm",
                     "ffn.lin1", "ffn.lin2", "output_layer_norm"]
        elif family == "mpnet":
            base = prefix + "encoder.layer.%d." % i
            names = ["attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o",
                     "attention.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"]
        else:
            base = prefix + "encoder.layer.%d." % i
            names = ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
                     "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"]
        for name in names[:2]:
            maker.linear(base + name, hidden, hidden, 1.6)  # scores with a spread of about 2
        for name in names[2:4]:
            maker.linear(base + name, hidden, hidden)
        maker.norm(base + names[4], hidden, old)
        maker.linear(base + names[5], s["middle"], hidden)
        maker.linear(base + names[6], hidden, s["middle"])
        maker.norm(base + names[7], hidden, old)
    if s.get("pooler"):
        maker.linear(prefix + "pooler.dense", hidden, hidden)


def config_of(s):
    family = s["family"]
    if family == "distilbert":
        c = {"model_type": "distilbert", "dim": s["hidden"], "n_layers": s["layers"], "n_heads": s["heads"],
             "hidden_dim": s["middle"], "activation": s.get("act", "gelu"), "sinusoidal_pos_embds": False}
    else:
        c = {"model_type": family, "hidden_size": s["hidden"], "num_hidden_layers": s["layers"],
             "num_attention_heads": s["heads"], "intermediate_size": s["middle"], "hidden_act": s.get("act", "gelu"),
             "layer_norm_eps": s.get("eps", 1e-12)}
        if family == "mpnet":
            c["relative_attention_num_buckets"] = 32
        else:
            c["type_vocab_size"] = s.get("types", 2)
    c.update({"vocab_size": s["vocab"], "max_position_embeddings": s["positions"],
              "pad_token_id": 0 if family in ("bert", "distilbert") else 1})
    if s.get("no_model_type"):
        del c["model_type"]
        c["architectures"] = ["BertModel"]
    return c


def write_tokenizer(directory, s):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = "abcdefghijklmnopqrstuvwxyz"
    words += list(letters) + ["##" + c for c in letters] + list("0123456789.,!?")
    words += ["the", "of", "and", "a1", "model", "text", "hello", "world", "##s", "##ing"]
    words = list(dict.fromkeys(words))[: s["vocab"]]
    words += ["[unused%d]" % i for i in range(s["vocab"] - len(words))]
    with open(os.path.join(directory, "vocab.txt"), "w", encoding="utf-8") as file:
        file.write("\n".join(words) + "\n")
    write_json(os.path.join(directory, "tokenizer_config.json"),
               {"do_lower_case": True, "tokenizer_class": "BertTokenizer", "model_max_length": s["positions"]})


def write_modules(directory, s, maker):
    modules = [{"idx": 0, "name": "0", "path": s.get("folder", ""), "type": CLASS + "Transformer"},
               {"idx": 1, "name": "1", "path": "1_Pooling", "type": CLASS + "Pooling"}]
    if "pooling" in s:
        write_json(os.path.join(directory, "1_Pooling/config.json"), s["pooling"])
    for kind, config in s.get("modules", []):
        path = "%d_%s" % (len(modules), kind)
        modules.append({"idx": len(modules), "name": str(len(modules)), "path": path, "type": CLASS + kind})
        own = Maker(maker.rng.integers(1 << 30))
        if kind == "Dense":
            own.linear("linear", config["out_features"], config["in_features"])
            if not config["bias"]:
                del own.tensors["linear.bias"]
            config = dict(config, activation_function="torch.nn.modules." + config["activation_function"])
        elif kind == "LayerNorm":
            own.norm("norm", config["dimension"])
        if own.tensors:
            write_safetensors(os.path.join(directory, path, "model.safetensors"), own.tensors, "F32")
            write_json(os.path.join(directory, path, "config.json"), config)
    write_json(os.path.join(directory, "modules.json"), modules)


def write_model(name, s, seed):
    directory = os.path.join(OUT, name)
    shutil.rmtree(directory, ignore_errors=True)
    folder = os.path.join(directory, s.get("folder", ""))
    maker = Maker(seed)
    make_tensors(maker, s)
    write_json(os.path.join(folder, "config.json"), config_of(s))
    extra = {s.get("prefix", "") + "embeddings.position_ids": np.arange(s["positions"])[None, :]} if s.get("pooler") else None
    if s.get("shards"):
        names = list(maker.tensors)
        weight_map = {}
        for i in range(s["shards"]):
            part = "model-%05d-of-%05d.safetensors" % (i + 1, s["shards"])
            mine = names[i :: s["shards"]]
            write_safetensors(os.path.join(folder, part), {n: maker.tensors[n] for n in mine}, s["dtype"])
            weight_map.update({n: part for n in mine})
        write_json(os.path.join(folder, "model.safetensors.index.json"), {"metadata": {}, "weight_map": weight_map})
    else:
        write_safetensors(os.path.join(folder, "model.safetensors"), maker.tensors, s["dtype"], extra)
    if s.get("modules_json", True):
        write_modules(directory, s, maker)
    if s.get("prompts"):
        write_json(os.path.join(directory, "config_sentence_transformers.json"),
                   {"prompts": s["prompts"], "default_prompt_name": None})
    if s["family"] in ("bert", "distilbert"):
        write_tokenizer(folder, s)
    return directory


def sequences(s, rng):
    most = s["positions"] - (2 if s["family"] in ("roberta", "xlm-roberta", "mpnet") else 0)
    lengths = sorted({1, 2, 3, 7, 16, 17, 33, most // 2, most - 1, most} & set(range(1, most + 1)))
    out = []
    for length in lengths:
        ids = rng.integers(2, s["vocab"], length)
        if length > 10 and s["family"] not in ("bert", "distilbert"):
            ids[length // 3] = 1  # a pad token in the text
        out.append([int(i) for i in ids])
    return out


NORMALIZE = ("Normalize", {})
SMALL = {"layers": 2, "heads": 4, "hidden": 32, "middle": 64, "vocab": 101, "positions": 48, "dtype": "F32"}
LARGE = dict(SMALL, hidden=72, heads=3, middle=100, pooler=True)
MODELS = {
    "bert": dict(LARGE, family="bert", pooling={"pooling_mode_mean_tokens": True}, modules=[NORMALIZE]),
    "bert-prefixed-f16": dict(SMALL, family="bert", dtype="F16", prefix="bert.", act="gelu_new",
                              pooling={"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}),
    "bert-old-names-bf16": dict(SMALL, family="bert", dtype="BF16", prefix="0.auto_model.", old_norms=True,
                                pooling={"pooling_mode": "max"}, modules=[NORMALIZE]),
    "bert-sharded": dict(SMALL, family="bert", shards=3, folder="0_Transformer", act="silu",
                         pooling={"pooling_mode_mean_sqrt_len_tokens": True}),
    "bert-plain": dict(SMALL, family="bert", hidden=52, heads=2, middle=60, modules_json=False, no_model_type=True,
                       act="relu"),
    "bert-no-pooling": dict(SMALL, family="bert", modules=[NORMALIZE], types=1),
    "bert-concatenated": dict(SMALL, family="bert", pooling={"pooling_mode": ["mean", "cls", "max"]},
                              modules=[("Dense", {"in_features": 96, "out_features": 40, "bias": False,
                                                  "activation_function": "linear.Identity"})]),
    "bert-prompt": dict(SMALL, family="bert", pooling={"pooling_mode_mean_tokens": True, "include_prompt": False},
                        prompts={"query": "the model ", "document": ""}, modules=[NORMALIZE], skips=True),
    "bert-wide": dict(SMALL, family="bert", dtype="F16", hidden=192, heads=3, middle=320, positions=160, layers=1,
                      pooling={"pooling_mode": "mean"}, modules=[NORMALIZE]),
    "roberta": dict(SMALL, family="roberta", prefix="roberta.", types=1, eps=1e-5,
                    pooling={"pooling_mode_lasttoken": True}, modules=[NORMALIZE]),
    "xlm-roberta": dict(SMALL, family="xlm-roberta", dtype="F16", types=1, eps=1e-5, hidden=64, heads=4,
                        pooling={"pooling_mode": "cls"}, modules=[NORMALIZE]),
    "xlm-roberta-dense": dict(SMALL, family="xlm-roberta", types=1, eps=1e-5, pooling={"pooling_mode": "mean"},
                              modules=[("Dense", {"in_features": 32, "out_features": 50, "bias": True,
                                                  "activation_function": "activation.Tanh"})]),
    "mpnet": dict(SMALL, family="mpnet", eps=1e-5, positions=330, pooling={"pooling_mode_mean_tokens": True},
                  modules=[NORMALIZE]),
    "mpnet-prefixed": dict(SMALL, family="mpnet", dtype="F16", prefix="mpnet.", eps=1e-5, hidden=48, heads=3,
                           positions=40, pooling={"pooling_mode": "cls"}),
    "distilbert": dict(SMALL, family="distilbert", prefix="distilbert.",
                       pooling={"pooling_mode_mean_tokens": True},
                       modules=[("LayerNorm", {"dimension": 32}),
                                ("Dense", {"in_features": 32, "out_features": 24, "bias": True,
                                           "activation_function": "activation.GELU"}), NORMALIZE]),
}


def main():
    for seed, (name, settings) in enumerate(MODELS.items()):
        directory = write_model(name, settings, 1000 + seed)
        model, rng = Model(directory), np.random.default_rng(seed)
        ids = sequences(settings, rng)
        skips = [min(4, len(s) + 1) if settings.get("skips") else 0 for s in ids]
        vectors = [model.embed(s, skip) for s, skip in zip(ids, skips)]
        worst = 0.0  # vectors of different texts must differ, or the comparison would prove nothing
        for i in range(len(ids)):
            for j in range(i):
                a, b = vectors[i], vectors[j]
                worst = max(worst, a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-30))
        rows = [",\n".join(json.dumps({"ids": s, "skip": skip, "vector": [float(np.float32(x)) for x in v]})
                           for s, skip, v in zip(ids, skips, vectors))]
        with open(os.path.join(OUT, name + ".golden.json"), "w", encoding="utf-8") as file:
            text = "".join(rows)
            file.write("[" + text + "]\n")
        print("%-22s %2d texts, highest cosine between two: %.4f" % (name, len(ids), worst))


if __name__ == "__main__":
    main()
