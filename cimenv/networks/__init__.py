"""Floor 1: backbones by name, each a plain `nn.Module`."""

from cimenv.networks.registry import BACKBONES, build_backbone, without_weights

__all__ = ["BACKBONES", "build_backbone", "without_weights"]
