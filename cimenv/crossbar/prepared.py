"""A network as it computes in use: without the wrappers that make its weights anew at every call."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from cimenv.core.errors import MappingError
from cimenv.crossbar.modes import evaluating
from cimenv.crossbar.storage import same_parameters


def prepared(model: nn.Module) -> nn.Module:
    """Return `model` itself, or a copy whose weights are those that it computes with in evaluation.

    Weights that are parametrised (weight norm, spectral norm, any other), or pruned, become plain parameters with
    their effective values: these are what is programmed. Parameters that show the same memory become one; every other
    one gets memory of its own, without gaps. Modules of `torch.compile` are taken out of their wrapper.

    Raises:
        MappingError: the network is no module, is scripted, exported or lazy, or cannot be copied; parameters overlap.
    """
    if not isinstance(model, nn.Module):
        raise MappingError(f"model: got a {type(model).__name__}; give a torch.nn.Module.")
    _refuse(model)
    model = uncompiled(model)
    if not any(_makes_weights(module) for module in model.modules()) and not _shares_memory(model):
        return model
    model = copied(model)
    with evaluating(model):  # a spectral norm must not iterate
        for module in list(model.modules()):
            _keep_effective(module)
    return model


def uncompiled(model: nn.Module) -> nn.Module:
    """Return `model` itself, or where `torch.compile` wrapped a part of it, a copy without the wrappers."""
    model = _unwrapped(model)
    if not any(_is_compiled(module) or module._compiled_call_impl for module in model.modules()):
        return model
    model = copied(model)  # without what `module.compile()` left
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and _is_compiled(child):
                setattr(parent, name, _unwrapped(child))
    return model


def copied(model: nn.Module, device: str | None = None) -> nn.Module:
    """Return a copy with weights of its own; what its modules computed in earlier calls and kept is taken along.

    Args:
        model: the network.
        device: where the copy's weights lie; default where they do. On `meta` they are shapes alone. Weights that
            parts share stay shared, also where only their memory is shared.

    Raises:
        MappingError: a part of it cannot be copied, or parameters overlap.
    """
    memo: dict[int, object] = {id(tensor): tensor.detach().clone() for tensor in _computed(model)}
    same = same_parameters(model)
    memo |= {id(p): copy.deepcopy(p) for p in set(same.values())}
    if device is not None:
        memo |= {id(b): b.detach().to(device) for b in model.buffers()}
        memo |= {id(p): nn.Parameter(p.detach().to(device), p.requires_grad) for p in model.parameters()}
    memo |= {id(p): memo[id(twin)] for p, twin in same.items()}
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:  # whatever a user's module holds
        told = " ".join(str(error).split()).rstrip(".")
        raise MappingError(
            f"{type(model).__name__} cannot be copied ({type(error).__name__}: {told}); "
            "keep locks, files and generators out of the module."
        ) from None


def _shares_memory(model: nn.Module) -> bool:
    """Return whether parameters show the same memory, or one leaves gaps in its memory."""
    return bool(same_parameters(model)) or not all(_is_dense(parameter) for parameter in model.parameters())


def _is_dense(tensor: Tensor) -> bool:
    """Return whether a tensor's numbers lie side by side in memory, each once."""
    room = 1
    for step, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size > 1 and step != room:
            return False
        room *= size
    return True


def _computed(model: nn.Module) -> Iterator[Tensor]:
    """Yield the tensors that modules hold as plain attributes and that torch refuses to copy: results of a graph."""
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                yield value


def _refuse(model: nn.Module) -> None:
    for name, module in model.named_modules():
        where = f"layer {name}" if name else type(model).__name__
        if isinstance(module, torch.jit.ScriptModule):
            raise MappingError(f"model: {where} is scripted by torch.jit; give the module it was made from.")
        if isinstance(module, fx.GraphModule) and any(_is_aten(node) for node in module.graph.nodes):
            raise MappingError(f"model: {where} was exported as a graph; give the module it was made from.")
        if _unfilled(module):
            raise MappingError(f"model: {where} is lazy and has no weights yet; run the network on one image first.")


def _unfilled(module: nn.Module) -> bool:
    return any(isinstance(p, nn.parameter.UninitializedParameter) for p in module.parameters(recurse=False))


def _is_aten(node: fx.Node) -> bool:
    return node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload | torch._ops.OpOverloadPacket)


def _is_compiled(module: nn.Module) -> bool:
    return type(module).__name__ == "OptimizedModule" and isinstance(getattr(module, "_orig_mod", None), nn.Module)


def _unwrapped(module: nn.Module) -> nn.Module:
    while _is_compiled(module):
        inner = module._orig_mod
        assert isinstance(inner, nn.Module)
        module = inner
    return module


def _makes_weights(module: nn.Module) -> bool:
    hooks = module._forward_pre_hooks.values()
    made = (WeightNorm, SpectralNorm, prune.BasePruningMethod)
    return parametrize.is_parametrized(module) or any(isinstance(hook, made) for hook in hooks)


def _keep_effective(module: nn.Module) -> None:
    """Replace what makes a module's weights by the weights."""
    if parametrize.is_parametrized(module):  # torch's own removal would change the class, which the original has too
        made = module._modules["parametrizations"]
        assert isinstance(made, nn.ModuleDict)
        values = {name: getattr(module, name).detach().clone() for name in made}
        kept = {name: any(True for _ in made[name].parameters(recurse=False)) for name in made}
        del module._modules["parametrizations"]
        module.__class__ = type(module).__bases__[0]
        for name, value in values.items():
            if kept[name]:
                module.register_parameter(name, nn.Parameter(value))
            else:
                module.register_buffer(name, value)
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, WeightNorm):
            remove_weight_norm(module, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, hook.name)
        elif isinstance(hook, prune.BasePruningMethod):
            prune.remove(module, hook._tensor_name)
