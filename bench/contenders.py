"""The engines that are compared, each behind one small interface.

    contender = make("onnxruntime-fp32", model_directory, threads=2, library=None)
    vectors = contender.encode(texts, contender.variants()[0])

A contender takes texts and gives unit vectors in the order of the texts: tokenizing, ordering by length,
batching and pooling are inside, as a user of that engine would do them. `variants` are the settings worth
trying (batch size, two parallel calls of one thread against one call of two threads); the harness keeps
the fastest per kind of text.
"""
import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

NAMES = ["embedd-fp32", "embedd-bf16", "embedd-int8",
         "torch-fp32", "torch-bf16",
         "onnxruntime-fp32", "onnxruntime-int8",
         "openvino-fp32", "openvino-bf16", "openvino-int8",
         "llama.cpp-f32", "llama.cpp-f16", "llama.cpp-bf16", "llama.cpp-q8_0",
         "tei-fp32"]


class Embedd:
    def __init__(self, directory, precision, threads, library, isa=None):
        from embedd_ctypes import Engine
        self.engine = Engine(library, threads, isa)
        self.model = self.engine.open(directory, precision)
        self.version = f"{self.engine.isa}"

    def variants(self):
        return [{}]

    def encode(self, texts, variant):
        return self.model.embed(texts)

    def detail(self):
        u = self.model.usage
        return {"tokenize_ms": u.tokenize_ns / 1e6, "compute_ms": u.compute_ns / 1e6, "tokens": u.tokens}


class Torch:
    """sentence-transformers with PyTorch: encode() sorts by length itself."""

    def __init__(self, directory, precision, threads):
        import sentence_transformers
        import torch
        torch.set_num_threads(threads)
        self.version = f"sentence-transformers {sentence_transformers.__version__}, torch {torch.__version__}"
        dtype = torch.float32 if precision == "fp32" else torch.bfloat16
        self.model = sentence_transformers.SentenceTransformer(directory, device="cpu",
                                                               model_kwargs={"dtype": dtype})

    def variants(self):
        return [{"batch": b} for b in (8, 16, 64)]

    def encode(self, texts, variant):
        return self.model.encode(texts, batch_size=variant.get("batch", 32), show_progress_bar=False)


class Batched:
    """What ONNX Runtime and OpenVINO share: fast tokenizer, length-sorted padded batches."""

    def __init__(self, directory, threads):
        import texts as corpus
        self.threads = threads
        self.tok = corpus.tokenizer(directory)
        self.pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def variants(self):
        one = [{"tokens": t, "calls": 1} for t in (512, 2048, 8192)]
        return one if self.threads == 1 else [{"tokens": t, "calls": self.threads} for t in (512, 2048)] + one

    def batches(self, texts, budget):
        encodings = self.tok.encode_batch_fast(texts)
        lengths = [len(e) for e in encodings]
        order = sorted(range(len(texts)), key=lengths.__getitem__, reverse=True)
        i = 0
        while i < len(order):
            longest = lengths[order[i]]
            rows = order[i : i + max(1, budget // longest)]
            i += len(rows)
            ids = np.zeros((len(rows), longest), self.dtype)
            mask = np.zeros((len(rows), longest), self.dtype)
            for r, row in enumerate(rows):
                ids[r, : lengths[row]] = encodings[row].ids
                mask[r, : lengths[row]] = 1
            yield rows, ids, mask

    def encode(self, texts, variant):
        calls = variant.get("calls", 1)
        batches = list(self.batches(texts, variant.get("tokens", 2048)))
        out = np.empty((len(texts), self.dimension), np.float32)

        def work(batch):
            rows, ids, mask = batch
            out[rows] = self.infer(ids, mask, calls)

        if calls == 1:
            for batch in batches:
                work(batch)
        else:
            list(self.pool.map(work, batches))
        return out


class OnnxRuntime(Batched):
    dtype = np.int32

    def __init__(self, directory, precision, threads):
        super().__init__(directory, threads)
        import onnxruntime as ort
        self.version = f"onnxruntime {ort.__version__}"
        path = f"{directory}/onnxruntime/model{'_int8' if precision == 'int8' else ''}.onnx"
        self.sessions = {}
        for calls in {1, threads}:
            options = ort.SessionOptions()
            options.intra_op_num_threads = threads // calls
            options.inter_op_num_threads = 1
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
            self.sessions[calls] = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.dimension = self.sessions[1].get_outputs()[0].shape[1]

    def infer(self, ids, mask, calls):
        return self.sessions[calls].run(None, {"ids": ids, "mask": mask})[0]


class OpenVino(Batched):
    dtype = np.int64

    def __init__(self, directory, precision, threads):
        super().__init__(directory, threads)
        import openvino as ov
        self.version = f"openvino {ov.__version__}"
        core = ov.Core()
        model = core.read_model(f"{directory}/openvino/model{'_int8' if precision == 'int8' else ''}.xml")
        hint = "bf16" if precision == "bf16" else "f32"
        self.compiled, self.requests = {}, {}
        for calls in {1, threads}:
            config = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": calls,
                      "PERFORMANCE_HINT": "THROUGHPUT" if calls > 1 else "LATENCY"}
            self.compiled[calls] = core.compile_model(model, "CPU", config)
            self.requests[calls] = [self.compiled[calls].create_infer_request() for _ in range(calls)]
        self.dimension = model.outputs[0].partial_shape[1].get_length()

    def infer(self, ids, mask, calls):
        request = self.requests[calls].pop()
        result = request.infer({"ids": ids, "mask": mask}, share_inputs=True)
        vectors = np.array(next(iter(result.values())))
        self.requests[calls].append(request)
        return vectors


class LlamaCpp:
    """llama.cpp's C interface through ctypes: its own tokenizer, no padding, one or more contexts."""

    def __init__(self, directory, precision, threads):
        import llama_cpp
        from llama_cpp import llama_cpp as ll
        self.ll, self.threads = ll, threads
        self.version = f"llama-cpp-python {llama_cpp.__version__}"
        self.quiet = ll.llama_log_callback(lambda level, text, data: None)
        ll.llama_log_set(self.quiet, None)
        ll.llama_backend_init()
        params = ll.llama_model_default_params()
        self.model = ll.llama_model_load_from_file(f"{directory}/gguf/model.{precision}.gguf".encode(), params)
        self.vocab = ll.llama_model_get_vocab(self.model)
        self.dimension = ll.llama_model_n_embd(self.model)
        self.contexts = {}
        self.pool = ThreadPoolExecutor(threads)

    def variants(self):
        calls = [1] if self.threads == 1 else [1, self.threads]
        return [{"tokens": t, "calls": n} for n in calls for t in (512, 1024)]

    def context(self, budget, calls):
        key = (budget, calls)
        if key not in self.contexts:
            ll = self.ll
            p = ll.llama_context_default_params()
            p.n_ctx = p.n_batch = p.n_ubatch = budget
            p.n_seq_max = 128
            p.n_threads = p.n_threads_batch = self.threads // calls
            p.embeddings = True
            p.kv_unified = True
            made = [(ll.llama_init_from_model(self.model, p), ll.llama_batch_init(budget, 0, 1))
                    for _ in range(calls)]
            self.contexts = {key: made}  # one kind at a time: contexts are large
        return self.contexts[key]

    def tokenize(self, text, room=512):
        import ctypes
        data = text.encode()
        ids = (self.ll.llama_token * 4096)()
        n = self.ll.llama_tokenize(self.vocab, data, len(data), ids, 4096, True, False)
        tokens = np.frombuffer(ids, np.int32, count=min(max(n, 0), 4096)).copy()
        if n < 0 or n > room:  # cut, and close with [SEP] again
            tokens = np.append(tokens[: room - 1], np.int32(102)).astype(np.int32) if n > 0 else tokens
        return tokens

    def run(self, batch, rows, tokens, context, out):
        import ctypes
        ll = self.ll
        total = sum(len(t) for t in tokens)

        def view(pointer, kind):
            address = ctypes.cast(pointer, ctypes.c_void_p).value
            return np.frombuffer((ctypes.c_char * (total * np.dtype(kind).itemsize)).from_address(address), kind)

        view(batch.token, np.int32)[:] = np.concatenate(tokens)
        view(batch.pos, np.int32)[:] = np.concatenate([np.arange(len(t)) for t in tokens])
        view(batch.n_seq_id, np.int32)[:] = 1
        view(batch.logits, np.int8)[:] = 1
        sequence = np.repeat(np.arange(len(tokens), dtype=np.int32), [len(t) for t in tokens])
        pointers = view(batch.seq_id, np.uint64)
        for t in range(total):
            ctypes.cast(int(pointers[t]), ctypes.POINTER(ctypes.c_int32))[0] = int(sequence[t])
        batch.n_tokens = total
        status = ll.llama_encode(context, batch)
        if status:
            raise RuntimeError(f"llama_encode: {status}")
        for s, row in enumerate(rows):
            pointer = ll.llama_get_embeddings_seq(context, s)
            v = np.ctypeslib.as_array(pointer, (self.dimension,))
            out[row] = v / np.linalg.norm(v)

    def encode(self, texts, variant):
        budget, calls = variant.get("tokens", 512), variant.get("calls", 1)
        contexts = list(self.context(budget, calls))
        tokens = [self.tokenize(t) for t in texts]
        order = sorted(range(len(texts)), key=lambda i: -len(tokens[i]))
        out = np.empty((len(texts), self.dimension), np.float32)
        groups, group, used = [], [], 0
        for i in order:
            if group and (used + len(tokens[i]) > budget or len(group) == 128):
                groups.append(group)
                group, used = [], 0
            group.append(i)
            used += len(tokens[i])
        groups.append(group)

        def work(rows):
            context, batch = contexts.pop()
            self.run(batch, rows, [tokens[r] for r in rows], context, out)
            contexts.append((context, batch))

        if calls == 1:
            for rows in groups:
                work(rows)
        else:
            list(self.pool.map(work, groups))
        return out


class Tei:
    """text-embeddings-inference, a server: spoken to over loopback from the same cores. With ONNX Runtime,
    its choice where a model has an ONNX file (its candle code on MKL was half as fast)."""

    def __init__(self, directory, precision, threads):
        import http.client
        import subprocess
        import time
        self.threads = threads
        self.port = 18080 + os.getpid() % 1000
        env = dict(os.environ, TOKENIZATION_WORKERS=str(threads), HF_HUB_OFFLINE="1")
        self.process = subprocess.Popen(
            [os.environ["EMBEDD_BENCH_TEI"], "--model-id", directory + ".served", "--hostname", "127.0.0.1", "--port",
             str(self.port), "--dtype", "float32", "--auto-truncate", "--max-client-batch-size", "256",
             "--prometheus-port", str(self.port + 1000)], env=env, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)
        self.local = {}
        self.pool = ThreadPoolExecutor(8)
        for _ in range(600):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                connection.request("GET", "/info")
                self.version = "text-embeddings-inference " + json.load(connection.getresponse())["version"]
                return
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError("text-embeddings-router ended at start")
                time.sleep(0.05)
        raise RuntimeError("text-embeddings-router does not answer")

    def variants(self):
        return [{"batch": b, "clients": n} for b, n in ((8, 2), (32, 1), (32, 2))]

    def post(self, texts):
        import http.client
        import threading
        me = threading.get_ident()
        if me not in self.local:
            self.local[me] = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        self.local[me].request("POST", "/embed", json.dumps({"inputs": texts, "truncate": True}),
                               {"Content-Type": "application/json"})
        answer = self.local[me].getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(body[:200])
        return np.array(json.loads(body), np.float32)

    def encode(self, texts, variant):
        batch, clients = variant.get("batch", 32), variant.get("clients", 1)
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        parts = [order[i : i + batch] for i in range(0, len(order), batch)]
        requests = [[texts[i] for i in part] for part in parts]
        results = map(self.post, requests) if clients == 1 else self.pool.map(self.post, requests)
        out = None
        for part, vectors in zip(parts, results):
            if out is None:
                out = np.empty((len(texts), vectors.shape[1]), np.float32)
            out[part] = vectors
        return out

    def close(self):
        self.process.terminate()
        self.process.wait()


def make(name, directory, threads, library=None):
    engine, precision = name.rsplit("-", 1)
    if engine == "embedd":
        return Embedd(directory, precision, threads, library)
    kinds = {"torch": Torch, "onnxruntime": OnnxRuntime, "openvino": OpenVino, "llama.cpp": LlamaCpp, "tei": Tei}
    return kinds[engine](directory, precision, threads)
