"""A plain BERT encoder in PyTorch: the float64 reference, and what OpenVINO converts."""
import torch
import torch.nn.functional as F


class Bert(torch.nn.Module):
    def __init__(self, weights, config, pooling, dtype=torch.float32):
        super().__init__()
        self.heads, self.eps = config["num_attention_heads"], config["layer_norm_eps"]
        self.layers, self.pooling = config["num_hidden_layers"], pooling
        self.names = {}
        for name, value in weights.items():
            if value.dtype.kind == "f" and not name.startswith("pooler"):
                self.names[name] = name.replace(".", "_")
                self.register_buffer(self.names[name], torch.from_numpy(value).to(dtype))

    def w(self, name):
        return getattr(self, self.names[name])

    def linear(self, x, name):
        return F.linear(x, self.w(name + ".weight"), self.w(name + ".bias"))

    def norm(self, x, name):
        return F.layer_norm(x, x.shape[-1:], self.w(name + ".weight"), self.w(name + ".bias"), self.eps)

    def forward(self, ids, mask):
        e = "embeddings."
        x = F.embedding(ids, self.w(e + "word_embeddings.weight"))
        x = x + self.w(e + "position_embeddings.weight")[: ids.shape[1]]
        x = self.norm(x + self.w(e + "token_type_embeddings.weight")[0], e + "LayerNorm")
        keep = mask.to(torch.bool)[:, None, None, :]
        b, s, h = x.shape
        for i in range(self.layers):
            p = f"encoder.layer.{i}."
            q, k, v = (self.linear(x, p + f"attention.self.{n}").view(b, s, self.heads, -1).transpose(1, 2)
                       for n in ("query", "key", "value"))
            a = F.scaled_dot_product_attention(q, k, v, attn_mask=keep)
            a = a.transpose(1, 2).reshape(b, s, h)
            x = self.norm(self.linear(a, p + "attention.output.dense") + x, p + "attention.output.LayerNorm")
            f = self.linear(F.gelu(self.linear(x, p + "intermediate.dense")), p + "output.dense")
            x = self.norm(f + x, p + "output.LayerNorm")
        if self.pooling == "cls":
            pooled = x[:, 0]
        else:
            m = mask.to(x.dtype)[:, :, None]
            pooled = (x * m).sum(1) / m.sum(1)
        return F.normalize(pooled, dim=1)


def reference(weights, config, pooling, tok, texts):
    """float64 vectors, one text at a time: no padding, no batch, the measure of every contender."""
    model = Bert(weights, config, pooling, torch.float64)
    rows = []
    with torch.inference_mode():
        for enc in tok.encode_batch(texts):
            ids = torch.tensor([enc.ids])
            rows.append(model(ids, torch.ones_like(ids))[0])
    return torch.stack(rows).numpy()
