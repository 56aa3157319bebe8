"""Torch's global settings belong to the user: cimenv computes under torch's defaults and puts the user's back."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from cimenv.core.single_precision import DEFAULT, product_precision, set_product_precision

DEVICE_TYPES = ("cpu", "cuda")


@dataclass(frozen=True)
class _Setting:
    """A setting of the whole process that can change numbers: how it is read and written, and torch's default."""

    read: Callable[[], Any]
    write: Callable[[Any], object]
    default: Any


@contextmanager
def own_torch_state() -> Iterator[None]:
    """Compute under torch's default settings, whatever the user set, and put the user's back, whatever happens.

    Covers what can change a number: default dtype and device, `no_grad` and `inference_mode`, autocast, transforms of
    `torch.func`, precision of products, deterministic algorithms, anomaly detection, and the switches of
    `torch.backends` that choose kernels. Within itself it does nothing, so cimenv may choose an autocast of its own.
    Where uses from several threads overlap, the whole process computes under the defaults until the last one ends.
    """
    if getattr(_THREAD, "inside", False):
        yield
        return
    _THREAD.inside = True
    try:
        with _process_settings(), _thread_settings():
            yield
    finally:
        _THREAD.inside = False


@contextmanager
def _process_settings() -> Iterator[None]:
    with _LOCK:
        if not _OPEN.count:
            _OPEN.changed = [(s, value) for s in _SETTINGS if (value := s.read()) != s.default]
            for setting, _ in _OPEN.changed:
                setting.write(setting.default)
        _OPEN.count += 1
    try:
        yield
    finally:
        with _LOCK:
            _OPEN.count -= 1
            if not _OPEN.count:
                for setting, value in _OPEN.changed:
                    setting.write(value)
                _OPEN.changed = []


@contextmanager
def _thread_settings() -> Iterator[None]:
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in DEVICE_TYPES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.empty(0).device.type != "cpu":  # torch 2.8 cannot tell its default device once it was set to None
            stack.enter_context(torch.device("cpu"))
        if torch._C._functorch.peek_interpreter_stack() is not None:
            from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

            stack.enter_context(temporarily_clear_interpreter_stack())
        yield


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_deterministic(state: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(state[0], warn_only=state[1])


def _anomaly() -> tuple[bool, bool]:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


def _set_anomaly(state: tuple[bool, bool]) -> None:
    torch.autograd.set_detect_anomaly(*state)


def _attribute(owner: object, name: str, default: bool) -> _Setting:
    return _Setting(partial(getattr, owner, name), partial(setattr, owner, name), default)


class _Open:
    """How many uses are open, and what the user had where it differs from torch's default."""

    count = 0
    changed: list[tuple[_Setting, Any]] = []


def _after_fork() -> None:
    """Give a forked process a lock that is free."""
    global _LOCK
    _LOCK = threading.Lock()


_SETTINGS = (
    _Setting(torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    _Setting(product_precision, set_product_precision, DEFAULT),
    _Setting(_deterministic, _set_deterministic, (False, False)),
    _Setting(_anomaly, _set_anomaly, (False, True)),
    _attribute(torch.backends.mkldnn, "enabled", True),
    _attribute(torch.backends.mkldnn, "deterministic", False),
    _attribute(torch.backends.cudnn, "enabled", True),
    _attribute(torch.backends.cudnn, "benchmark", False),
    _attribute(torch.backends.cudnn, "deterministic", False),
    _Setting(torch.backends.mha.get_fastpath_enabled, torch.backends.mha.set_fastpath_enabled, True),
    _Setting(torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp, True),
    _Setting(torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp, True),
    _Setting(torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp, True),
    _Setting(torch.backends.cuda.cudnn_sdp_enabled, torch.backends.cuda.enable_cudnn_sdp, True),
)
_THREAD = threading.local()
_LOCK = threading.Lock()
_OPEN = _Open()
os.register_at_fork(after_in_child=_after_fork)
