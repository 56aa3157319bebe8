"""Recurrent and attention modules of torch, written out as single matrices that can lie on the crossbar.

torch computes an LSTM, a GRU and an attention in fused calls that hide their matrices. `explicit` returns the same
network with modules in their place whose matrices are Linear layers: every one is a site of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from cimenv.core.errors import MappingError
from cimenv.crossbar.names import Named
from cimenv.crossbar.prepared import copied, prepared
from cimenv.crossbar.written_out import Attention, Fused, Recurrent, Taken, is_fused, stays_fused

HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
)


def explicit(model: nn.Module, digital: Sequence[str] = ()) -> nn.Module:
    """Return `model` itself, or where it hides matrices, an equivalent copy that shows them.

    Hidden are those of LSTM, GRU and MultiheadAttention modules, which are written out as single matrices, and what
    `prepared` shows: weights that are parametrised or pruned, and compiled modules. An attention with `add_bias_kv` or
    `add_zero_attn` cannot be written out, and stays.

    Args:
        model: the network.
        digital: name patterns of modules that are left as they are.

    Raises:
        MappingError: a matrix of an attention is used elsewhere, the network cannot be copied, or `prepared` refuses.
    """
    model = prepared(model)
    hidden = {module: name for name, module in model.named_modules() if is_fused(module) and not stays_fused(module)}
    if hidden and digital:
        named = Named(model, digital)
        hidden = {module: name for module, name in hidden.items() if not named.module(module)}
    if not hidden:
        return model
    model, taken = copied(model), Taken()
    if "" in hidden.values():
        return _written_out(model, taken)
    fused = {name: model.get_submodule(name) for name in hidden.values()}
    written = {module: _written_out(module, taken) for name, module in fused.items()}
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):  # also where one module has two names
            if child in written:
                setattr(parent, name, written[child])
    _refuse_other_uses(model, taken)
    return model


def _written_out(module: nn.Module, taken: Taken) -> nn.Module:
    assert isinstance(module, Fused)
    made = Attention(module, taken) if isinstance(module, nn.MultiheadAttention) else Recurrent(module, taken)
    for hooks in HOOKS:
        setattr(made, hooks, getattr(module, hooks))
    return made.train(module.training)


def _refuse_other_uses(model: nn.Module, taken: Taken) -> None:
    """Refuse a matrix of three that is a whole elsewhere: it would no longer be the same memory.

    Raises:
        MappingError: there is one.
    """
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter in taken.parts:
            raise MappingError(
                f"Parameter {name} is also the in_proj of an attention, which lies on the crossbar as three matrices; "
                f"give it memory of its own, or keep both digital with crossbar.digital."
            )
