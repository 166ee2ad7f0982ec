"""Float32 weights in the packed layout of oneDNN on a CPU, and decoder layers that use them.

A plain `Linear` is packed at every call. On few rows, as in decoding, that takes about half of
the time (measured: 2.3 times at 20 rows, 1.3 at 512). The
operators are those that torch's own compiler puts in for frozen models. Not offered: torch's
dynamic 8-bit layers, twice as fast again, change every answer (measured, embedded student).
"""

from __future__ import annotations

from typing import Any

import torch

from recbole_exp3rt.llm.local.attention import attend
from recbole_exp3rt.llm.local.kv_cache import Segment, SharedCache

Tensor = torch.Tensor


class PackedLinear(torch.nn.Module):
    """A linear layer that can only compute: [..., in] -> [..., out].

    Several of the same input become one, `scale` [in] goes into the weights, `order` [out] is that
    of the results. What is done to the result element by element is done while it is at hand:
    `then` (none, or swish, which is silu), or `other` times or plus it.
    """

    def __init__(
        self,
        *linears: torch.nn.Linear,
        scale: Tensor | None = None,
        order: Tensor | None = None,
    ) -> None:
        super().__init__()
        with torch.no_grad():
            weight = torch.cat([linear.weight.data for linear in linears])
            if scale is not None:
                weight = weight * scale
            biases = torch.cat([_bias(linear) for linear in linears])
            if order is not None:
                weight, biases = weight[order], biases[order]
            some = any(linear.bias is not None for linear in linears)
            self.bias = biases if some else None
            self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, None)

    def forward(self, x: Tensor, then: str = "none") -> Tensor:
        """[..., in] -> [..., out], with `then` applied to each element."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, then, [], "")
        return out

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """The result times `other`, element by element."""
        return self._with(x, other, "mul")

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """The result plus `other`, element by element."""
        return self._with(x, other, "add")

    def _with(self, x: Tensor, other: Tensor, how: str) -> Tensor:
        out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            x, other, self.weight, self.bias, how
        )
        return out


def _bias(linear: torch.nn.Linear) -> Tensor:
    weight, bias = linear.weight.data, linear.bias
    return weight.new_zeros(len(weight)) if bias is None else bias.data


class PackedLayer(torch.nn.Module):
    """A decoder layer of Llama's kind over a SharedCache, with fewer passes over memory.

    The `last` one computes only what the next token is read off: the last position of each row.
    """

    def __init__(self, layer: Any) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        before, between = layer.input_layernorm, layer.post_attention_layernorm
        self.layer_idx, self.head_dim = attention.layer_idx, attention.head_dim
        self.scaling = attention.scaling
        self.epsilons = before.variance_epsilon, between.variance_epsilon
        queries, keys, values = attention.q_proj, attention.k_proj, attention.v_proj
        # keys and queries alike, so that their products are what they were
        order = _pairs(queries.out_features, self.head_dim)
        self.query = PackedLinear(queries, scale=before.weight, order=order)
        order = _pairs(keys.out_features, self.head_dim)
        order = torch.cat([order, len(order) + torch.arange(values.out_features)])
        self.keys_values = PackedLinear(keys, values, scale=before.weight, order=order)
        self.out = PackedLinear(attention.o_proj)
        self.gate = PackedLinear(mlp.gate_proj, scale=between.weight)
        self.up = PackedLinear(mlp.up_proj, scale=between.weight)
        self.down = PackedLinear(mlp.down_proj)
        self.last = False

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        past_key_values: SharedCache,
        **kwargs: Any,
    ) -> Tensor:
        """[rows, width, size] -> the same, or [rows, 1, size]."""
        hidden = hidden_states
        rotation = torch.complex(
            *(table[:, :, None, : self.head_dim // 2] for table in position_embeddings)
        )
        x = _normalised(hidden, self.epsilons[0])
        both = self.keys_values(x).unflatten(-1, (2, -1, self.head_dim))
        keys, values = both[:, :, 0], both[:, :, 1]  # [rows, width, kv heads, size of a head]
        _rotate_(keys, rotation)
        view, _ = past_key_values.update(
            keys.transpose(1, 2), values.transpose(1, 2), self.layer_idx
        )
        if self.last:
            x, hidden, rotation = x[:, -1:], hidden[:, -1:], rotation[:, -1:]
        query = self.query(x).unflatten(-1, (-1, self.head_dim))
        _rotate_(query, rotation)
        attended, _ = attend(self, query.transpose(1, 2), view, view, None, self.scaling)
        hidden = self.out.plus(attended.flatten(2), hidden)
        x = _normalised(hidden, self.epsilons[1])
        out: Tensor = self.down.plus(self.up.times(x, self.gate(x, then="swish")), hidden)
        return out


def _normalised(x: Tensor, epsilon: float) -> Tensor:
    """Divided by the root of the mean square; the norm's weight stands in the layers behind."""
    square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_() / x.shape[-1]
    out: Tensor = x * square.add_(epsilon).rsqrt_()
    return out


def _pairs(outputs: int, size: int) -> Tensor:
    """The order in which numbers of a head that a position turns together are neighbours."""
    return torch.arange(outputs).view(-1, 2, size // 2).transpose(1, 2).flatten()


def _rotate_(x: Tensor, rotation: Tensor) -> None:
    """Rotary positions, in place: x [rows, width, heads, size] in pairs, rotation half as wide."""
    torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2)).mul_(rotation)


def pack(model: Any) -> bool:
    """Replace every plain float32 linear layer of a model on the CPU, and the decoder layers that
    compute what Llama's do; whether it could be done."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    _pack_layers(model)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if _plain(child):
                setattr(parent, name, PackedLinear(child))
    return True


def _plain(module: Any) -> bool:
    # exactly Linear: quantised layers are subclasses
    return type(module) is torch.nn.Linear and module.weight.dtype == torch.float32


def _pack_layers(model: Any) -> None:
    body = getattr(model, "model", None)
    layers, rotary = getattr(body, "layers", []), getattr(body, "rotary_emb", None)
    made: PackedLayer | None = None
    for k, layer in enumerate(layers):
        made = _packed(layer, rotary)
        if made is None:
            return
        layers[k] = made
    if made is not None:
        made.last = True


def _packed(layer: Any, rotary: Any) -> PackedLayer | None:
    """The layer in the other form, if it computes the same."""
    linears = [m for m in layer.modules() if isinstance(m, torch.nn.Linear)]
    if len(linears) != 7 or not all(map(_plain, linears)):
        return None
    try:
        made = PackedLayer(layer)
        return made if _agree(layer, made, rotary) else None
    except (AttributeError, RuntimeError, TypeError):  # parts of other names or shapes
        return None


@torch.inference_mode()
def _agree(layer: Any, made: PackedLayer, rotary: Any) -> bool:
    """Whether two layers compute the same: names alone do not tell what stands between them."""
    size, depth = layer.self_attn.q_proj.in_features, layer.self_attn.layer_idx
    hidden = torch.randn(2, 3, size, generator=torch.Generator().manual_seed(0))
    positions = torch.tensor([[0, 1, 2], [7, 8, 9]])
    tables = rotary(hidden, positions)
    found = []
    for one in (layer, made):
        cache = SharedCache([Segment(2)], torch.zeros(2, 0, dtype=torch.bool))
        cache.keys, cache.values = ([torch.empty(0)] * depth for _ in range(2))
        cache.begin(torch.ones(2, 3, dtype=torch.bool))
        options = {"position_embeddings": tables, "past_key_values": cache, "use_cache": True}
        mask = torch.empty(1, 1, 1, 1)
        found.append(one(hidden, attention_mask=mask, position_ids=positions, **options))
    wanted, got = found
    return bool((got - wanted).abs().max() <= 1e-4 * wanted.abs().max())
