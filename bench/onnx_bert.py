"""BERT encoders as ONNX graphs, from weights: ids and mask in, sentence vectors out.

The graph uses ONNX Runtime's own fused operators (EmbedLayerNormalization, Attention,
SkipLayerNormalization, BiasGelu), the form its transformer optimizer turns an exported BERT into, so
that ONNX Runtime gets the best graph it knows. Pooling and normalisation are inside the graph.
"""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def build(weights, config, pooling, path, served=False):
    """`served`: inputs and output under the names that text-embeddings-inference expects."""
    nodes, inits = [], []
    heads, eps = config["num_attention_heads"], config["layer_norm_eps"]

    def init(name, array, dtype=np.float32):
        inits.append(numpy_helper.from_array(np.ascontiguousarray(array, dtype), name))
        return name

    def node(op, inputs, output, domain="", **attributes):
        outputs = [output] if isinstance(output, str) else output
        nodes.append(helper.make_node(op, inputs, outputs, domain=domain, **attributes))
        return outputs[0]

    ms = "com.microsoft"
    if served:
        node("Cast", ["input_ids"], "ids", to=TensorProto.INT32)
        node("Cast", ["attention_mask"], "mask", to=TensorProto.INT32)
    w = weights
    # All tokens are of type 0: its row is folded into the positions.
    positions = w["embeddings.position_embeddings.weight"] + w["embeddings.token_type_embeddings.weight"][0]
    x = node("EmbedLayerNormalization",
             ["ids", "", init("word", w["embeddings.word_embeddings.weight"]), init("pos", positions), "",
              init("emb_g", w["embeddings.LayerNorm.weight"]), init("emb_b", w["embeddings.LayerNorm.bias"]),
              "mask"], ["x0", "lengths"], ms, epsilon=eps)
    for i in range(config["num_hidden_layers"]):
        p = f"encoder.layer.{i}."
        names = [p + f"attention.self.{n}" for n in ("query", "key", "value")]
        qkv = np.concatenate([w[n + ".weight"].T for n in names], axis=1)
        qkv_b = np.concatenate([w[n + ".bias"] for n in names])
        a = node("Attention", [x, init(f"qkv{i}", qkv), init(f"qkvb{i}", qkv_b), "lengths"], f"a{i}", ms,
                 num_heads=heads)
        o = node("MatMul", [a, init(f"o{i}", w[p + "attention.output.dense.weight"].T)], f"ao{i}")
        x = node("SkipLayerNormalization",
                 [o, x, init(f"g1_{i}", w[p + "attention.output.LayerNorm.weight"]),
                  init(f"b1_{i}", w[p + "attention.output.LayerNorm.bias"]),
                  init(f"ob{i}", w[p + "attention.output.dense.bias"])], f"n1_{i}", ms, epsilon=eps)
        up = node("MatMul", [x, init(f"up{i}", w[p + "intermediate.dense.weight"].T)], f"u{i}")
        up = node("BiasGelu", [up, init(f"upb{i}", w[p + "intermediate.dense.bias"])], f"ug{i}", ms)
        down = node("MatMul", [up, init(f"dn{i}", w[p + "output.dense.weight"].T)], f"d{i}")
        x = node("SkipLayerNormalization",
                 [down, x, init(f"g2_{i}", w[p + "output.LayerNorm.weight"]),
                  init(f"b2_{i}", w[p + "output.LayerNorm.bias"]),
                  init(f"dnb{i}", w[p + "output.dense.bias"])], f"n2_{i}", ms, epsilon=eps)
    if pooling == "cls":
        pooled = node("Squeeze", [node("Slice", [x, init("from", [0], np.int64), init("to", [1], np.int64),
                                                 init("axis1", [1], np.int64)], "first"), "axis1"], "pooled")
    else:
        m = node("Cast", ["mask"], "mf", to=TensorProto.FLOAT)
        m3 = node("Unsqueeze", [m, init("axis2", np.array([2]), np.int64)], "m3")
        summed = node("ReduceSum", [node("Mul", [x, m3], "xm"), init("axis1", np.array([1]), np.int64)], "sum",
                      keepdims=0)
        count = node("ReduceSum", [m, "axis1"], "count", keepdims=1)
        pooled = node("Div", [summed, count], "pooled")
    output = "sentence_embedding" if served else "vector"
    node("LpNormalization", [pooled], output, axis=1, p=2)
    names, kind = (("input_ids", "attention_mask"), TensorProto.INT64) if served else (
        ("ids", "mask"), TensorProto.INT32)
    graph = helper.make_graph(
        nodes, "bert",
        [helper.make_tensor_value_info(n, kind, ["batch", "length"]) for n in names],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", config["hidden_size"]])], inits)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(ms, 1)],
                              ir_version=8)
    onnx.save(model, path)


def quantize(source, target):
    """ONNX Runtime's dynamic int8 quantisation, a scale per output channel."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    quantize_dynamic(source, target, op_types_to_quantize=["MatMul", "Attention"], per_channel=True,
                     weight_type=QuantType.QInt8,
                     extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT})
