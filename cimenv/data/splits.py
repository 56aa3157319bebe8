"""Images with labels, split for training, selection and report."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from cimenv.core.config import checked_int
from cimenv.core.errors import ConfigError, DataError, brief

Split = Literal["train", "val", "test"]
LARGEST, SMALLEST_STD = 1e30, 1e-6  # of normalised images, so that single precision holds what a network makes of them
WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
FRACTIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
MOST_CLASSES = 10_000_000


def checked_split(split: Any) -> Split:
    """Return the split of an evaluation.

    Raises:
        ConfigError: it is neither `val` nor `test`.
    """
    if split in ("val", "test"):
        return cast("Split", split)
    raise ConfigError(f"split: got {brief(split)}; use 'val' for selection or 'test' for reports.")


def _is_finite(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and abs(float(value)) <= LARGEST


@dataclass(frozen=True)
class ImageSet:
    """Images and labels of one split.

    Attributes:
        images: `[n, channels, height, width]`, uint8 (scaled to [0, 1], then normalised) or float (used as it is).
        labels: `[n]`, int64; other integers are converted.
        mean: per-channel mean of the scaled images.
        std: per-channel standard deviation of the scaled images.
        crop: pixels by which a training image is shifted at most; zeros come in from outside.
        flip: whether a training image is mirrored with probability one half.
    """

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    crop: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        """Check.

        Raises:
            DataError: images and labels are no tensors, do not belong together, or hold what cannot be used.
        """
        for name, value in (("images", self.images), ("labels", self.labels)):
            if not isinstance(value, Tensor):
                raise DataError(f"{name}: got a {type(value).__name__}; give a tensor: torch.as_tensor({name}).")
            if value.layout != torch.strided or value.device.type == "meta":
                got = "without values" if value.device.type == "meta" else f"of layout {value.layout}"
                raise DataError(f"{name}: got a tensor {got}; give a dense one, such as {name}.to_dense().")
        shape = tuple(self.images.shape)
        if self.labels.dim() != 1 or self.labels.dtype not in WHOLE:
            got = f"{self.labels.dtype} of shape {tuple(self.labels.shape)}"
            raise DataError(f"labels: got {got}; give the number of its class for every image, int64 of shape [n].")
        if self.images.dtype not in (torch.uint8, *FRACTIONS):
            raise DataError(f"images: got {self.images.dtype}; give uint8, or float as the network takes it.")
        if not shape or len(self.images) != len(self.labels) or len(self.images) == 0:
            raise DataError(
                f"A split has {shape[0] if shape else 0} images and {len(self.labels)} labels; "
                "give as many labels as images, and at least one."
            )
        if self.images.numel() == 0 or (self.images.dtype == torch.uint8 and len(shape) != 4):
            raise DataError(f"images: got shape {shape}; give [n, channels, height, width].")
        self._check_numbers(shape)
        object.__setattr__(self, "labels", self.labels.long())
        object.__setattr__(self, "images", self.images.detach())
        if self.images.is_floating_point() and not bool((self.images.float().abs() <= LARGEST).all()):  # NaN neither
            raise DataError(
                f"The images of a split hold NaN or infinity, or a value beyond +-{LARGEST:g}; give finite values."
            )

    def _check_numbers(self, shape: tuple[int, ...]) -> None:
        """Refuse statistics and augmentations that do not fit images of a shape."""
        for name, values in (("mean", self.mean), ("std", self.std)):
            if not isinstance(values, tuple | list) or not values or not all(map(_is_finite, values)):
                raise DataError(
                    f"{name}: got {brief(values)}; give a tuple of finite numbers, of at most {LARGEST:g} in size."
                )
            if self.images.dtype == torch.uint8 and len(values) not in (1, shape[1]):
                raise DataError(f"{name}: got {len(values)} values; give one, or one for each of {shape[1]} channels.")
            object.__setattr__(self, name, tuple(values))
        if min(self.std) < SMALLEST_STD:
            raise DataError(f"std: got {self.std}; give numbers above 0, from {SMALLEST_STD:g} to {LARGEST:g}.")
        if not isinstance(self.flip, bool):
            raise DataError(f"flip: got {brief(self.flip)}; give true or false.")
        checked_int("crop", self.crop, 0, max(shape[-2:]))
        if (self.crop or self.flip) and len(shape) != 4:
            raise DataError(f"crop, flip: got images of shape {shape}; they are for [n, channels, height, width].")

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, which: slice | Tensor = slice(None)) -> Tensor:
        """Return normalised float32 inputs of the images that `which` selects."""
        images = self.images[which]
        if images.dtype != torch.uint8:
            return images.float()
        shape = (1, -1, 1, 1)
        mean, std = (
            torch.tensor(values, dtype=torch.float32, device=images.device).view(shape)
            for values in (self.mean, self.std)
        )
        return images.float().div_(255.0).sub_(mean).div_(std)

    def augmented(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return inputs `[n, c, h, w]` shifted and mirrored as `crop` and `flip` say, every image by its own draw."""
        if self.crop:
            n, _, height, width = inputs.shape
            shifts = torch.randint(2 * self.crop + 1, (2, n, 1, 1, 1), generator=generator).to(inputs.device)
            rows = shifts[0] + torch.arange(height, device=inputs.device).view(1, 1, -1, 1)
            columns = shifts[1] + torch.arange(width, device=inputs.device).view(1, 1, 1, -1)
            padded = F.pad(inputs, [self.crop] * 4)
            inputs = padded.gather(2, rows.expand(n, inputs.shape[1], -1, padded.shape[3]))
            inputs = inputs.gather(3, columns.expand(n, inputs.shape[1], height, -1))
        if self.flip:
            mirrored = torch.rand(len(inputs), generator=generator).to(inputs.device) < 0.5
            inputs = torch.where(mirrored.view(-1, 1, 1, 1), inputs.flip(3), inputs)
        return inputs

    def to(self, device: torch.device | str) -> ImageSet:
        """Return the same images on another device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True)
class DataSplits:
    """The three splits of one data set.

    Raises:
        DataError: a split is no `ImageSet`, images differ in shape or type, or a label is none of the classes.
    """

    name: str
    train: ImageSet
    val: ImageSet
    test: ImageSet
    classes: int

    def __post_init__(self) -> None:
        """Check."""
        if not isinstance(self.name, str):
            raise DataError(f"name: got {brief(self.name)}; give text.")
        if isinstance(self.classes, bool) or not isinstance(self.classes, int) or not 1 <= self.classes <= MOST_CLASSES:
            allowed = f"an int from 1 to {MOST_CLASSES:,}"
            raise DataError(f"classes: got {brief(self.classes)}; give their number, {allowed}.")
        for name, part in (("train", self.train), ("val", self.val), ("test", self.test)):
            if not isinstance(part, ImageSet):
                raise DataError(f"{name}: got a {type(part).__name__}; give cimenv.ImageSet(images, labels).")
            of = self.train.images
            if part.images.shape[1:] != of.shape[1:] or part.images.dtype != of.dtype:
                here, there = (f"{i.dtype} {tuple(i.shape[1:])}" for i in (part.images, of))
                raise DataError(f"{name}: images are {here}, those of train {there}; give all splits the same.")
            low, high = int(part.labels.min()), int(part.labels.max())
            if low < 0 or high >= self.classes:
                wrong = low if low < 0 else high
                raise DataError(
                    f"{name}: label {wrong} is none of the {self.classes} classes; give labels from 0 to "
                    f"{self.classes - 1}, or more classes."
                )

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Return the shape of one image."""
        return tuple(self.train.images.shape[1:])

    def for_training(self, device: torch.device | str) -> DataSplits:
        """Return the same splits with `train` and `val` on a device; training never sees `test`."""
        splits = copy.copy(self)  # not checked again, which would read `test`
        for name in ("train", "val"):
            object.__setattr__(splits, name, getattr(self, name).to(device))
        return splits

    def after_val(self, images: int) -> DataSplits:
        """Return the same splits without the first `images` validation images, of which some must be left."""
        splits = copy.copy(self)  # not checked or hashed again
        val = replace(self.val, images=self.val.images[images:], labels=self.val.labels[images:])
        object.__setattr__(splits, "val", val)
        told = f"{self.digest} without the first {images} of val"
        splits.__dict__["digest"] = hashlib.sha256(told.encode()).hexdigest()[:32]
        return splits

    def __getitem__(self, split: Split) -> ImageSet:
        return {"train": self.train, "val": self.val, "test": self.test}[split]

    @cached_property
    def digest(self) -> str:
        """Return a hash of every image and label, and of how training images are augmented."""
        state = hashlib.sha256()
        if self.train.crop or self.train.flip:
            state.update(repr((self.train.crop, self.train.flip)).encode())
        for part in (self.train, self.val, self.test):
            described = (tuple(part.images.shape), str(part.images.dtype), part.mean, part.std)
            state.update(repr(described).encode())
            for values in (part.images, part.labels):  # as bytes: numpy does not know every type of torch
                state.update(values.cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return state.hexdigest()[:32]
