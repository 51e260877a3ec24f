#!/usr/bin/env python3
"""The forward pass of the supported model families in float64, written from the papers and the published
configurations, for checking the engine. It shares nothing with the C code: own reader, own rules.

    model = Model("models/all-MiniLM-L6-v2")
    vector = model.embed([101, 7592, 2088, 102])          # numpy float64

Needs numpy only. Slow on purpose: plain formulas, one sequence at a time.
"""
import json
import math
import os
import struct

import numpy as np


# ---- files ---------------------------------------------------------------------------------------------

def read_json(directory, name, default=None):
    path = os.path.join(directory, name)
    if not os.path.exists(path):
        return default
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def _decode(dtype, raw):
    if dtype == "F32":
        return np.frombuffer(raw, "<f4").astype(np.float64)
    if dtype == "F16":
        return np.frombuffer(raw, "<f2").astype(np.float64)
    if dtype == "BF16":
        return (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    if dtype == "I8":
        return np.frombuffer(raw, "i1").astype(np.float64)
    return None


def read_safetensors(path):
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        data = file.read()
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        values = _decode(entry["dtype"], data[begin:end])
        if values is not None:
            tensors[name] = values.reshape(entry["shape"])
    for name in [n for n in tensors if n + ".scales" in tensors]:
        scales = tensors.pop(name + ".scales")
        group = tensors[name].shape[1] // scales.shape[1]
        tensors[name] = tensors[name] * np.repeat(scales, group, axis=1)
    return tensors


def read_weights(directory):
    index = read_json(directory, "model.safetensors.index.json")
    if index is None:
        return read_safetensors(os.path.join(directory, "model.safetensors"))
    tensors = {}
    for name in sorted(set(index["weight_map"].values())):
        tensors.update(read_safetensors(os.path.join(directory, name)))
    return tensors


# ---- arithmetic ----------------------------------------------------------------------------------------

_erf = np.vectorize(math.erf, otypes=[np.float64])

ACTIVATIONS = {
    "gelu": lambda x: x / 2 * (1 + _erf(x / math.sqrt(2))),
    "gelu_new": lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "identity": lambda x: x,
}
ACTIVATIONS["gelu_pytorch_tanh"] = ACTIVATIONS["gelu_fast"] = ACTIVATIONS["gelu_new"]
ACTIVATIONS["swish"] = ACTIVATIONS["silu"]


def layer_norm(x, gamma, beta, eps):
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + eps) * gamma + beta


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def relative_buckets(length, buckets, max_distance):
    """MPNet's bucket of (key - query), in float32 as the original computes it."""
    offset = np.arange(length)[None, :] - np.arange(length)[:, None]
    n = -offset
    half = buckets // 2
    bucket = (n < 0) * half
    n = np.abs(n)
    exact = half // 2
    with np.errstate(divide="ignore"):
        ratio = np.log(n.astype(np.float32) / np.float32(exact)) / np.float32(math.log(max_distance / exact))
    ratio = np.where(n < exact, np.float32(0), ratio)
    far = np.minimum(exact + (ratio * np.float32(half - exact)).astype(np.int64), half - 1)
    return bucket + np.where(n < exact, n, far)


# ---- models ----------------------------------------------------------------------------------------------

class Weights:
    """Tensors under whatever prefix they were saved with, LayerNorms by either of their names."""

    def __init__(self, tensors):
        key = "embeddings.word_embeddings.weight"
        found = [name for name in tensors if name.endswith(key)]
        assert len(found) == 1, found
        self.tensors, self.prefix = tensors, found[0][: -len(key)]

    def __getitem__(self, name):
        return self.tensors[self.prefix + name]

    def norm(self, x, name, eps):
        name = self.prefix + name
        if name + ".gamma" in self.tensors:
            return layer_norm(x, self.tensors[name + ".gamma"], self.tensors[name + ".beta"], eps)
        return layer_norm(x, self.tensors[name + ".weight"], self.tensors[name + ".bias"], eps)

    def linear(self, x, name):
        return x @ self[name + ".weight"].T + self[name + ".bias"]


BERT = ("encoder.layer.%d.", "attention.self.query", "attention.self.key", "attention.self.value",
        "attention.output.dense", "attention.output.LayerNorm", "intermediate.dense", "output.dense",
        "output.LayerNorm")
MPNET = ("encoder.layer.%d.", "attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o",
         "attention.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm")
DISTILBERT = ("transformer.layer.%d.", "attention.q_lin", "attention.k_lin", "attention.v_lin",
              "attention.out_lin", "sa_layer_norm", "ffn.lin1", "ffn.lin2", "output_layer_norm")
LEGACY_POOLING = [("pooling_mode_cls_token", "cls"), ("pooling_mode_max_tokens", "max"),
                  ("pooling_mode_mean_tokens", "mean"), ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
                  ("pooling_mode_lasttoken", "lasttoken")]


class Model:
    def __init__(self, directory):
        self.directory = directory
        modules = read_json(directory, "modules.json")
        self.modules = [(m["type"].split(".")[-1], m["path"]) for m in modules] if modules else []
        path = os.path.join(directory, self.modules[0][1]) if modules else directory
        self.config = read_json(path, "config.json")
        self.weights = Weights(read_weights(path))
        self.type = self.config.get("model_type") or "bert"
        self.dense = {}
        for kind, folder in self.modules:
            if kind in ("Dense", "LayerNorm"):
                self.dense[folder] = read_weights(os.path.join(directory, folder))

    # -- the encoder --

    def _embeddings(self, ids):
        w, c = self.weights, self.config
        ids = np.asarray(ids)
        if self.type in ("roberta", "xlm-roberta", "camembert", "mpnet"):
            pad = 1 if self.type == "mpnet" else c.get("pad_token_id", 1)
            kept = ids != pad
            positions = np.cumsum(kept) * kept + pad
        else:
            positions = np.arange(len(ids))
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][positions]
        if self.type not in ("mpnet", "distilbert"):
            x = x + w["embeddings.token_type_embeddings.weight"][0]
        return w.norm(x, "embeddings.LayerNorm", self._eps())

    def _eps(self):
        return 1e-12 if self.type == "distilbert" else self.config.get("layer_norm_eps", 1e-12)

    def _bias(self, length):
        if self.type != "mpnet":
            return 0.0
        buckets = relative_buckets(length, self.config.get("relative_attention_num_buckets", 32), 128)
        return self.weights["encoder.relative_attention_bias.weight"][buckets].transpose(2, 0, 1)

    def tokens(self, ids):
        """Hidden states of the last layer, [tokens, hidden]."""
        c, w = self.config, self.weights
        distil = self.type == "distilbert"
        heads = c["n_heads" if distil else "num_attention_heads"]
        layers = c["n_layers" if distil else "num_hidden_layers"]
        act = ACTIVATIONS[c.get("activation" if distil else "hidden_act", "gelu")]
        names = DISTILBERT if distil else MPNET if self.type == "mpnet" else BERT
        x, bias, eps = self._embeddings(ids), self._bias(len(ids)), self._eps()
        n, hidden = x.shape
        for layer in range(layers):
            q, k, v, out, norm1, up, down, norm2 = [names[0] % layer + part for part in names[1:]]
            q, k, v = [w.linear(x, name).reshape(n, heads, -1).transpose(1, 0, 2) for name in (q, k, v)]
            scores = q @ k.transpose(0, 2, 1) / math.sqrt(hidden // heads) + bias
            context = (softmax(scores) @ v).transpose(1, 0, 2).reshape(n, hidden)
            x = w.norm(w.linear(context, out) + x, norm1, eps)
            x = w.norm(w.linear(act(w.linear(x, up)), down) + x, norm2, eps)
        return x

    # -- what comes after --

    def poolings(self):
        for kind, folder in self.modules:
            if kind == "Pooling":
                config = read_json(os.path.join(self.directory, folder), "config.json", {})
                mode = config.get("pooling_mode")
                if mode is not None:
                    return [mode] if isinstance(mode, str) else mode
                return [name for key, name in LEGACY_POOLING if config.get(key)] or ["mean"]
        return ["mean"]

    @staticmethod
    def pool(x, kind, skip=0):
        if kind == "cls":
            return x[skip if skip < len(x) else 0]
        if kind == "lasttoken":
            return x[-1]
        rows = x[skip:]
        if len(rows) == 0:
            return np.zeros(x.shape[1])
        if kind == "max":
            return rows.max(axis=0)
        return rows.sum(axis=0) / (len(rows) if kind == "mean" else math.sqrt(len(rows)))

    def _module(self, kind, folder, v):
        config = read_json(os.path.join(self.directory, folder), "config.json", {})
        if kind == "Dense":
            name = config.get("activation_function", "Tanh").split(".")[-1].lower()
            tensors = self.dense[folder]
            v = tensors["linear.weight"] @ v
            if config.get("bias", True):
                v = v + tensors["linear.bias"]
            return ACTIVATIONS[name](v)
        if kind == "LayerNorm":
            return layer_norm(v, self.dense[folder]["norm.weight"], self.dense[folder]["norm.bias"], 1e-5)
        if kind == "Normalize":
            return v / max(np.linalg.norm(v), 1e-12)
        return v

    def embed(self, ids, skip=0, pooling=None):
        x = self.tokens(ids)
        kinds = [pooling] if pooling else self.poolings()
        v = np.concatenate([self.pool(x, kind, skip) for kind in kinds])
        for kind, folder in self.modules:
            v = self._module(kind, folder, v)
        return v
