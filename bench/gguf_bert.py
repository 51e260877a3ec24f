"""Writes a BERT encoder as a GGUF file for llama.cpp, in f32, f16, bf16 or q8_0."""
import gguf
import numpy as np

TENSORS = {
    "attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up", "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm",
}
EMBEDDINGS = {"word_embeddings": "token_embd", "position_embeddings": "position_embd",
              "token_type_embeddings": "token_types", "LayerNorm": "token_embd_norm"}


def tensors(weights, layers):
    for name, target in EMBEDDINGS.items():
        for part in ("weight", "bias"):
            if f"embeddings.{name}.{part}" in weights:
                yield f"{target}.{part}", weights[f"embeddings.{name}.{part}"]
    for i in range(layers):
        for name, target in TENSORS.items():
            for part in ("weight", "bias"):
                yield f"blk.{i}.{target}.{part}", weights[f"encoder.layer.{i}.{name}.{part}"]


def vocabulary(writer, vocab):
    """llama.cpp's own form of WordPiece: a mark before whole words, none before continuations."""
    kinds = gguf.TokenType
    special = [t.startswith("[") and t.endswith("]") and len(t) > 2 for t in vocab]
    words = [t if s else t[2:] if t.startswith("##") else "\u2581" + t for t, s in zip(vocab, special)]
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("bert-bge")
    writer.add_token_list(words)
    writer.add_token_types([kinds.CONTROL if s else kinds.NORMAL for s in special])
    index = {t: i for i, t in enumerate(vocab)}
    writer.add_unk_token_id(index["[UNK]"])
    writer.add_sep_token_id(index["[SEP]"])
    writer.add_pad_token_id(index["[PAD]"])
    writer.add_mask_token_id(index["[MASK]"])
    writer.add_bos_token_id(index["[CLS]"])
    writer.add_eos_token_id(index["[SEP]"])


def build(weights, config, pooling, vocab, kind, path):
    types = gguf.GGMLQuantizationType
    chosen = {"f32": types.F32, "f16": types.F16, "bf16": types.BF16, "q8_0": types.Q8_0}[kind]
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.CLS if pooling == "cls" else gguf.PoolingType.MEAN)
    writer.add_token_type_count(config["type_vocab_size"])
    vocabulary(writer, vocab)
    for name, value in tensors(weights, config["num_hidden_layers"]):
        value = value.astype(np.float32)
        small = value.ndim == 1 or name.startswith(("position_embd", "token_types"))
        kept = types.F32 if small else chosen
        data = value if kept == types.F32 else gguf.quants.quantize(value, kept)
        writer.add_tensor(name, data, raw_dtype=kept)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
