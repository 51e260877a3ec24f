"""include/embedd.h for Python, as far as the benchmark needs it.

    with Engine("build/libembedd.so", threads=2) as engine:
        model = engine.open("models/all-MiniLM-L6-v2", "bf16")
        vectors = model.embed(["hello world"])          # numpy float32, 1 × 384
"""
import ctypes as c

import numpy as np

PRECISIONS = ["auto", "fp32", "bf16", "int8"]


class Error(c.Structure):
    _fields_ = [("code", c.c_int), ("message", c.c_char * 512), ("where", c.c_char * 160)]


class EngineOptions(c.Structure):
    _fields_ = [("size", c.c_size_t), ("threads", c.c_uint), ("batch_tokens", c.c_size_t),
                ("queue_tokens", c.c_size_t), ("isa", c.c_char_p), ("models_path", c.c_char_p)]


class ModelOptions(c.Structure):
    _fields_ = [("size", c.c_size_t), ("precision", c.c_int), ("lazy", c.c_bool)]


class ModelInfo(c.Structure):
    _fields_ = [("size", c.c_size_t), ("name", c.c_char_p), ("path", c.c_char_p),
                ("architecture", c.c_char_p), ("tokenizer", c.c_char_p), ("dimension", c.c_size_t),
                ("max_tokens", c.c_size_t), ("vocab_size", c.c_size_t), ("layers", c.c_size_t),
                ("heads", c.c_size_t), ("hidden", c.c_size_t), ("intermediate", c.c_size_t),
                ("parameters", c.c_size_t), ("weight_bytes", c.c_size_t), ("pooling", c.c_int),
                ("normalize", c.c_bool), ("precision", c.c_int), ("query_prompt", c.c_char_p),
                ("document_prompt", c.c_char_p), ("prompts", c.c_size_t), ("default_prompt", c.c_char_p)]


class Text(c.Structure):
    _fields_ = [("data", c.c_char_p), ("length", c.c_size_t)]


class Usage(c.Structure):
    _fields_ = [("size", c.c_size_t), ("tokens", c.c_size_t), ("truncated", c.c_size_t),
                ("tokenize_ns", c.c_uint64), ("queue_ns", c.c_uint64), ("compute_ns", c.c_uint64)]


def sized(kind, **fields):
    value = kind(**fields)
    value.size = c.sizeof(kind)
    return value


class Failure(Exception):
    pass


def check(status, err):
    if status:
        raise Failure(f"{err.message.decode()} [{err.where.decode()}]")


class Engine:
    def __init__(self, library, threads=0, isa=None, batch_tokens=0):
        self.lib = c.CDLL(library)
        self.lib.emb_engine_isa.restype = c.c_char_p
        self.lib.emb_engine_isa.argtypes = [c.c_void_p]
        self.lib.emb_engine_close.argtypes = [c.c_void_p]
        self.lib.emb_model_close.argtypes = [c.c_void_p]
        self.lib.emb_model_open.argtypes = [c.c_void_p, c.c_char_p, c.c_void_p, c.c_void_p, c.c_void_p]
        self.lib.emb_model_get_info.argtypes = [c.c_void_p, c.c_void_p]
        self.lib.emb_embed.argtypes = [c.c_void_p, c.c_void_p, c.c_size_t, c.c_void_p, c.c_void_p, c.c_size_t,
                                       c.c_void_p, c.c_void_p]
        options = sized(EngineOptions, threads=threads, batch_tokens=batch_tokens,
                        isa=isa.encode() if isa else None)
        self.handle, err = c.c_void_p(), Error()
        check(self.lib.emb_engine_open(c.byref(options), c.byref(self.handle), c.byref(err)), err)
        self.isa = self.lib.emb_engine_isa(self.handle).decode()

    def open(self, name, precision="auto"):
        return Model(self, name, precision)

    def close(self):
        self.lib.emb_engine_close(self.handle)
        self.handle = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Model:
    def __init__(self, engine, name, precision):
        self.lib, self.handle, err = engine.lib, c.c_void_p(), Error()
        options = sized(ModelOptions, precision=PRECISIONS.index(precision))
        check(self.lib.emb_model_open(engine.handle, name.encode(), c.byref(options), c.byref(self.handle),
                                      c.byref(err)), err)
        self.info = sized(ModelInfo)
        self.lib.emb_model_get_info(self.handle, c.byref(self.info))
        self.dimension = self.info.dimension

    def embed(self, texts):
        data = [t.encode() for t in texts]
        array = (Text * len(data))(*[(d, len(d)) for d in data])
        out = np.empty((len(data), self.dimension), np.float32)
        self.usage, err = sized(Usage), Error()
        check(self.lib.emb_embed(self.handle, array, len(data), None, out.ctypes.data, out.size,
                                 c.byref(self.usage), c.byref(err)), err)
        return out

    def close(self):
        self.lib.emb_model_close(self.handle)
        self.handle = None
