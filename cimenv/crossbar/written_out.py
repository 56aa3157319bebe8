"""Recurrent and attention modules of torch, written out as single matrices."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cimenv.core.errors import MappingError

Fused = nn.LSTM | nn.GRU | nn.MultiheadAttention


def is_fused(module: nn.Module) -> bool:
    """Return whether a module computes in a fused call of torch, with no forward of its own."""
    kinds = (kind for kind in (nn.LSTM, nn.GRU, nn.MultiheadAttention) if isinstance(module, kind))
    return any(type(module).forward is kind.forward for kind in kinds) and "forward" not in vars(module)


def stays_fused(module: nn.Module) -> bool:
    """Return whether a fused module is an attention of a form that cannot be written out."""
    extra = isinstance(module, nn.MultiheadAttention) and (module.bias_k is not None or module.add_zero_attn)
    return extra and is_fused(module)


class Taken:
    """Takes parameters over from fused modules: those that several of them share, or a part of one, once."""

    def __init__(self) -> None:
        self.parts: dict[nn.Parameter | Tensor, tuple[nn.Parameter, ...]] = {}

    def parameter(self, source: Tensor | None) -> nn.Parameter | None:
        """Return a parameter itself; a tensor that is none becomes one."""
        return source if source is None or isinstance(source, nn.Parameter) else self.thirds(source, 1)[0]

    def thirds(self, source: Tensor, count: int = 3) -> tuple[nn.Parameter, ...]:
        """Return the parts of a parameter that holds several matrices, one below the other."""
        if source not in self.parts:
            parts = (part.detach().clone() for part in source.chunk(count))
            self.parts[source] = tuple(nn.Parameter(part, source.requires_grad) for part in parts)
        return self.parts[source]


class RecurrentMatrix(nn.Linear):
    """The matrix of all gates of an LSTM or a GRU, for the input or for the hidden state.

    Args:
        weight: the matrix.
        bias: what is added.
        site_type: of the fused module.
        source: the fused module's own name of the matrix.
    """

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None, site_type: str, source: str) -> None:
        nn.Module.__init__(self)
        self.out_features, self.in_features = weight.shape
        self.weight = weight
        self.register_parameter("bias", bias)
        self.site_type, self.source = site_type, source


class Recurrent(nn.Module):
    """`nn.LSTM` or `nn.GRU` from single matrices: every input at once, every hidden state step by step.

    Args:
        source: the module whose weights are taken over.
        taken: what was taken over from others.
    """

    def __init__(self, source: nn.LSTM | nn.GRU, taken: Taken | None = None) -> None:
        super().__init__()
        take = (taken or Taken()).parameter
        self.kind = "lstm" if isinstance(source, nn.LSTM) else "gru"
        self.batch_first, self.dropout = source.batch_first, source.dropout
        self.input_size, self.hidden_size, self.bias = source.input_size, source.hidden_size, source.bias
        self.num_layers, self.bidirectional = source.num_layers, source.bidirectional
        self.proj_size = getattr(source, "proj_size", 0)
        self.state_size = self.proj_size or source.hidden_size
        self.suffixes = [
            [f"l{layer}{way}" for way in (("", "_reverse") if source.bidirectional else ("",))]
            for layer in range(source.num_layers)
        ]
        for suffix in (name for names in self.suffixes for name in names):
            for matrix in ("ih", "hh"):
                bias = take(getattr(source, f"bias_{matrix}_{suffix}")) if source.bias else None
                self._add(f"{matrix}_{suffix}", take(getattr(source, f"weight_{matrix}_{suffix}")), bias)
            if self.proj_size:
                self._add(f"hr_{suffix}", take(getattr(source, f"weight_hr_{suffix}")), None)

    def _add(self, name: str, weight: nn.Parameter | None, bias: nn.Parameter | None) -> None:
        assert weight is not None
        self.add_module(name, RecurrentMatrix(weight, bias, self.kind, f"weight_{name}"))

    def flatten_parameters(self) -> None:
        """Do nothing: torch's module orders its memory here."""

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:
        """Return outputs and last state, as the module that it stands for does.

        Raises:
            MappingError: a packed sequence, whose steps have different lengths.
        """
        if not isinstance(input, Tensor):
            raise MappingError(
                f"A {type(input).__name__} is not mapped; "
                "give padded sequences as one tensor, or keep the layer digital with crossbar.digital."
            )
        x, state, batched = input, hx, input.dim() == 3
        if not batched:
            x, state = x.unsqueeze(1 if not self.batch_first else 0), _with_batch(state)
        steps = x.transpose(0, 1) if self.batch_first else x
        hidden, cell = (state if self.kind == "lstm" else (state, None)) if state is not None else (None, None)
        last: list[tuple[Tensor, Tensor]] = []
        for layer, names in enumerate(self.suffixes):
            if layer and self.dropout:
                steps = F.dropout(steps, self.dropout, self.training)
            ways = []
            for suffix in names:
                k = len(last)
                h = steps.new_zeros(steps.shape[1], self.state_size) if hidden is None else hidden[k]
                c = steps.new_zeros(steps.shape[1], self.hidden_size) if cell is None else cell[k]
                outputs, *ends = self._run(suffix, steps, h, c)
                ways.append(outputs)
                last.append((ends[0], ends[1]))
            steps = torch.cat(ways, -1)
        ended = tuple(torch.stack(part) for part in zip(*last, strict=True))
        output = steps.transpose(0, 1) if self.batch_first else steps
        if not batched:
            output, ended = output.squeeze(0 if self.batch_first else 1), tuple(part.squeeze(1) for part in ended)
        return output, (ended if self.kind == "lstm" else ended[0])

    def _run(self, suffix: str, steps: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run one layer in one direction over all steps, `[t, n, in]`."""
        modules = dict(self.named_children())
        from_input = modules[f"ih_{suffix}"](steps)
        order = range(len(steps))
        outputs: list[Tensor] = [h] * len(order)
        for t in reversed(order) if suffix.endswith("_reverse") else order:
            from_hidden = modules[f"hh_{suffix}"](h)
            if self.kind == "lstm":
                i, f, g, o = (from_input[t] + from_hidden).chunk(4, -1)
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
                if f"hr_{suffix}" in modules:
                    h = modules[f"hr_{suffix}"](h)
            else:
                (r, z, n), (hr, hz, hn) = from_input[t].chunk(3, -1), from_hidden.chunk(3, -1)
                reset, update = (r + hr).sigmoid(), (z + hz).sigmoid()
                h = (1 - update) * (n + reset * hn).tanh() + update * h
            outputs[t] = h
        return torch.stack(outputs), h, c


class AttentionMatrix(RecurrentMatrix):
    """A projection of an attention."""


class Attention(nn.Module):
    """`nn.MultiheadAttention` from four projections; the products of the attention itself stay digital.

    Args:
        source: the module whose weights are taken over; without a bias for keys and values or a zero attention.
        taken: what was taken over from others.
    """

    def __init__(self, source: nn.MultiheadAttention, taken: Taken | None = None) -> None:
        super().__init__()
        taken = taken or Taken()
        self.num_heads, self.head_dim, self.embed_dim = source.num_heads, source.head_dim, source.embed_dim
        self.batch_first, self.dropout = source.batch_first, source.dropout
        # What torch's fused path of an encoder layer asks before it bypasses this module: it must not.
        self._qkv_same_embed_dim, self.in_proj_bias, self.in_proj_weight = False, None, None
        separate = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
        whole = source.in_proj_weight is not None
        names = ("in_proj_weight",) * 3 if whole else separate
        weights = taken.thirds(source.in_proj_weight) if whole else [taken.parameter(getattr(source, n)) for n in names]
        biases = (None,) * 3 if source.in_proj_bias is None else taken.thirds(source.in_proj_bias)
        for part, name, weight, bias in zip("qkv", names, weights, biases, strict=True):
            assert weight is not None
            self.add_module(f"{part}_proj", AttentionMatrix(weight, bias, "attention", name))
        out, added = taken.parameter(source.out_proj.weight), taken.parameter(source.out_proj.bias)
        assert out is not None
        self.out_proj = AttentionMatrix(out, added, "attention", "out_proj.weight")

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return output and weights of the attention, as the module that it stands for does."""
        del is_causal  # torch asks for the mask as well
        batched = query.dim() == 3
        if not batched:
            query, key, value = (part.unsqueeze(0) for part in (query, key, value))
        elif not self.batch_first:
            query, key, value = (part.transpose(0, 1) for part in (query, key, value))
        modules = dict(self.named_children())
        q, k, v = (
            modules[name](part).unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)
            for name, part in (("q_proj", query), ("k_proj", key), ("v_proj", value))
        )
        scores = q @ k.transpose(-2, -1) / self.head_dim**0.5
        if attn_mask is not None:
            mask = attn_mask.unflatten(0, (-1, self.num_heads)) if attn_mask.dim() == 3 else attn_mask
            scores = scores.masked_fill(mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
        if key_padding_mask is not None:
            padding = key_padding_mask.reshape(len(k), 1, 1, -1)
            scores = scores.masked_fill(padding, float("-inf")) if padding.dtype == torch.bool else scores + padding
        weights = F.dropout(scores.softmax(-1), self.dropout, self.training)
        output = self.out_proj((weights @ v).transpose(1, 2).flatten(2))
        shown = (weights.mean(1) if average_attn_weights else weights) if need_weights else None
        if not batched:
            return output.squeeze(0), None if shown is None else shown.squeeze(0)
        return (output if self.batch_first else output.transpose(0, 1)), shown


def _with_batch(state: Any) -> Any:
    if state is None:
        return None
    return tuple(part.unsqueeze(1) for part in state) if isinstance(state, tuple) else state.unsqueeze(1)
