"""Makes the models of the benchmark in every peer's form, once, in a directory outside the repository.

    python3 bench/models.py --dir DIR --minilm MODEL_DIR --corpus bench/data/peps.sample.txt

DIR/all-MiniLM-L6-v2 is the published model with its limit raised to 512 tokens (published: 256), so that
all peers run the same lengths; DIR/bge-base has the shape of bge-base-en-v1.5 and random weights from a
fixed seed. Each holds the model directory itself, onnxruntime/, openvino/ and gguf/.
"""
import argparse
import json
import os
import shutil

import numpy as np

import texts as corpus

POOLING = {"all-MiniLM-L6-v2": "mean", "bge-base": "cls"}
BGE = {"architectures": ["BertModel"], "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu",
       "hidden_dropout_prob": 0.1, "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072,
       "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "bert",
       "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0,
       "position_embedding_type": "absolute", "type_vocab_size": 2, "vocab_size": 30522}


def read_weights(directory):
    from safetensors.numpy import load_file
    return load_file(f"{directory}/model.safetensors")


def read_config(directory):
    with open(f"{directory}/config.json", encoding="utf-8") as f:
        return json.load(f)


def write_json(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, indent=2)


def random_weights(config, seed=20261121):
    """Spread as in trained encoders (a standard deviation of 0.04), so that no layer is trivial."""
    rng = np.random.default_rng(seed)
    h, f = config["hidden_size"], config["intermediate_size"]

    def normal(*shape, std=0.04):
        return (rng.standard_normal(shape, dtype=np.float32) * np.float32(std))

    w = {"embeddings.word_embeddings.weight": normal(config["vocab_size"], h),
         "embeddings.position_embeddings.weight": normal(config["max_position_embeddings"], h, std=0.02),
         "embeddings.token_type_embeddings.weight": normal(config["type_vocab_size"], h, std=0.02)}

    def norm(name):
        w[name + ".weight"] = 1 + normal(h, std=0.1)
        w[name + ".bias"] = normal(h, std=0.05)

    def linear(name, rows, columns):
        w[name + ".weight"] = normal(rows, columns)
        w[name + ".bias"] = normal(rows, std=0.02)

    norm("embeddings.LayerNorm")
    for i in range(config["num_hidden_layers"]):
        p = f"encoder.layer.{i}."
        for name in ("query", "key", "value"):
            linear(p + "attention.self." + name, h, h)
        linear(p + "attention.output.dense", h, h)
        norm(p + "attention.output.LayerNorm")
        linear(p + "intermediate.dense", f, h)
        linear(p + "output.dense", h, f)
        norm(p + "output.LayerNorm")
    return w


def copy_tokenizer(source, target):
    for name in ("vocab.txt", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(f"{source}/{name}", f"{target}/{name}")
    with open(f"{source}/tokenizer.json", encoding="utf-8") as f:
        tokenizer = json.load(f)
    tokenizer["truncation"] = tokenizer["padding"] = None
    write_json(f"{target}/tokenizer.json", tokenizer)


def sentence_transformer_files(target, pooling, dimension):
    write_json(f"{target}/sentence_bert_config.json", {"max_seq_length": corpus.LIMIT, "do_lower_case": False})
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    write_json(f"{target}/modules.json", [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)])
    write_json(f"{target}/1_Pooling/config.json", {
        "word_embedding_dimension": dimension, "pooling_mode_cls_token": pooling == "cls",
        "pooling_mode_mean_tokens": pooling == "mean", "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False})


def model_directory(name, root, minilm):
    from safetensors.numpy import save_file
    target = f"{root}/{name}"
    if os.path.exists(f"{target}/model.safetensors"):
        return target
    os.makedirs(target, exist_ok=True)
    config = read_config(minilm) if name != "bge-base" else BGE
    write_json(f"{target}/config.json", config)
    copy_tokenizer(minilm, target)
    sentence_transformer_files(target, POOLING[name], config["hidden_size"])
    if name == "bge-base":
        save_file(random_weights(BGE), f"{target}/model.safetensors", metadata={"format": "pt"})
    else:
        shutil.copyfile(f"{minilm}/model.safetensors", f"{target}/model.safetensors")
    return target


def make_onnx(directory, weights, config, pooling):
    import onnx_bert
    os.makedirs(f"{directory}/onnxruntime", exist_ok=True)
    fp32, int8 = f"{directory}/onnxruntime/model.onnx", f"{directory}/onnxruntime/model_int8.onnx"
    if not os.path.exists(fp32):
        onnx_bert.build(weights, config, pooling, fp32)
    if not os.path.exists(int8):
        onnx_bert.quantize(fp32, int8)


def make_served(directory, weights, config, pooling):
    """The directory for text-embeddings-inference: it runs onnx/model.onnx with ONNX Runtime if there is
    one, and the safetensors file with candle if not."""
    import onnx_bert
    target = f"{directory}.served"
    if not os.path.exists(target):
        shutil.copytree(directory, target, ignore=shutil.ignore_patterns("onnxruntime", "openvino", "gguf"))
        os.makedirs(f"{target}/onnx")
        onnx_bert.build(weights, config, pooling, f"{target}/onnx/model.onnx", served=True)


def make_openvino(directory, weights, config, pooling, paragraphs):
    import openvino as ov
    import torch
    import torch_bert
    os.makedirs(f"{directory}/openvino", exist_ok=True)
    fp32, int8 = f"{directory}/openvino/model.xml", f"{directory}/openvino/model_int8.xml"
    if os.path.exists(int8):
        return
    ids = torch.randint(1000, 2000, (2, 9), dtype=torch.int64)
    model = ov.convert_model(torch_bert.Bert(weights, config, pooling).eval(),
                             example_input={"ids": ids, "mask": torch.ones_like(ids)},
                             input=[("ids", [-1, -1], np.int64), ("mask", [-1, -1], np.int64)])
    ov.save_model(model, fp32, compress_to_fp16=False)
    import nncf
    tok = corpus.tokenizer(directory)
    encodings = tok.encode_batch(paragraphs[:300])
    inputs = [{"ids": np.array([e.ids]), "mask": np.array([e.attention_mask])} for e in encodings]
    quantized = nncf.quantize(model, nncf.Dataset(inputs), model_type=nncf.ModelType.TRANSFORMER,
                              subset_size=len(inputs), fast_bias_correction=True)
    ov.save_model(quantized, int8, compress_to_fp16=False)


def make_gguf(directory, weights, config, pooling):
    import gguf_bert
    os.makedirs(f"{directory}/gguf", exist_ok=True)
    with open(f"{directory}/vocab.txt", encoding="utf-8") as f:
        vocab = f.read().split("\n")[: config["vocab_size"]]
    for kind in ("f32", "f16", "bf16", "q8_0"):
        path = f"{directory}/gguf/model.{kind}.gguf"
        if not os.path.exists(path):
            gguf_bert.build(weights, config, pooling, vocab, kind, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", required=True)
    parser.add_argument("--minilm", required=True, help="directory of the published fp32 model")
    parser.add_argument("--corpus", required=True, help="paragraphs that calibrate OpenVINO's int8")
    parser.add_argument("--model", choices=POOLING, action="append")
    args = parser.parse_args()
    paragraphs = corpus.load(args.corpus)
    for name in args.model or POOLING:
        directory = model_directory(name, args.dir, args.minilm)
        weights = {k: v for k, v in read_weights(directory).items() if not k.endswith("position_ids")}
        config = read_config(directory)
        for make in (make_served, make_onnx, make_gguf):
            print(f"{name}: {make.__name__[5:]}", flush=True)
            make(directory, weights, config, POOLING[name])
        print(f"{name}: openvino", flush=True)
        make_openvino(directory, weights, config, POOLING[name], paragraphs)


if __name__ == "__main__":
    main()
