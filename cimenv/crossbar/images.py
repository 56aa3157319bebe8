"""What may be shown to a network for a calibration: finite floating-point images that pass through it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from cimenv.core.errors import CimenvError, DataError


@contextmanager
def shown(images: Tensor, model: nn.Module) -> Iterator[Tensor]:
    """Give checked images `[n, ...]` to what runs `model` on them.

    Raises:
        DataError: they are no tensor, no floating-point numbers, none at all, not finite, or of a shape that does not
            pass through the model.
    """
    if not isinstance(images, Tensor):
        raise DataError(f"images: got a {type(images).__name__}; give a tensor of images, as ImageSet.inputs() does.")
    if not images.is_floating_point():
        raise DataError(
            f"images: got {images.dtype}; give normalised floating-point images, as ImageSet.inputs() does."
        )
    if images.dim() == 0 or len(images) == 0:
        raise DataError(f"images: got none, shape {tuple(images.shape)}; give at least one.")
    if not bool(images.isfinite().all()):
        raise DataError("images hold NaN or infinity; give finite values.")
    try:
        yield images
    except (RuntimeError, ValueError, IndexError) as error:
        if isinstance(error, CimenvError):
            raise
        raise DataError(
            f"Images of shape {tuple(images.shape[1:])} do not pass through {type(model).__name__} "
            f"({str(error).splitlines()[0]}); give images as the network takes them."
        ) from None
