"""Images and labels in memory: what is refused, what is converted, digests."""

import hashlib
import math
import os
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from cimenv.core.errors import ConfigError, DataError
from cimenv.data import DataSplits, ImageSet

BUNDLED = Path(str(files("cimenv.data.bundled").joinpath("fashion_mini.npz")))
needs_data = pytest.mark.skipif("CIMENV_DATA" not in os.environ, reason="CIMENV_DATA names no folder of real data")


@pytest.mark.parametrize(("images", "labels"), [(3, 2), (0, 0), (0, 1)])
def test_images_and_labels_must_match(images, labels):
    with pytest.raises(DataError, match=f"A split has {images} images and {labels} labels"):
        ImageSet(torch.zeros(images, 1, 2, 2), torch.zeros(labels, dtype=torch.int64))


def test_digest_sees_every_pixel_and_label():
    def splits(pixel=0, label=0):
        images, labels = torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)
        plain = ImageSet(images.clone(), labels.clone())
        images[2, 0, 1, 1], labels[1] = pixel, label
        return DataSplits("x", plain, plain, ImageSet(images, labels), 2)

    assert splits().digest == splits().digest
    assert len({splits().digest, splits(pixel=1).digest, splits(label=1).digest}) == 3


PICTURES, LABELS = torch.zeros(6, 1, 4, 4), torch.arange(6) % 3


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"images": np.zeros((6, 1, 4, 4))}, "images: got a ndarray; give a tensor"),
        ({"images": PICTURES.int()}, "images: got torch.int32; give uint8, or float"),
        ({"labels": LABELS.float()}, r"labels: got torch.float32 of shape \(6,\); give the number of its class"),
        ({"labels": torch.eye(6).long()}, r"labels: got torch.int64 of shape \(6, 6\)"),
        ({"images": PICTURES.byte(), "mean": (0.0, 0.0)}, "mean: got 2 values; give one, or one for each"),
        ({"std": (0.0,)}, "std: got .* above 0"),
        ({"mean": (float("nan"),)}, "mean: got .* finite"),
        ({"mean": 0.5}, "mean: got 0.5; give a tuple"),
        ({"std": (True,)}, "std: got .* finite"),
        ({"images": PICTURES.to(torch.float8_e4m3fn)}, "images: got torch.float8_e4m3fn; give uint8, or float"),
        ({"images": PICTURES.double() + 1e300}, "images of a split hold NaN or infinity, or a value beyond"),
        ({"images": PICTURES / 0}, "images of a split hold NaN or infinity, or a value beyond"),
        ({"images": PICTURES.to_sparse()}, "images: got a tensor of layout torch.sparse_coo; give a dense one"),
        ({"images": PICTURES.to("meta")}, "images: got a tensor without values"),
        ({"images": PICTURES.byte()[:, 0]}, r"images: got shape \(6, 4, 4\); give \[n, channels, height, width\]"),
        ({"images": PICTURES[:, :0]}, r"images: got shape \(6, 0, 4, 4\)"),
        ({"images": torch.tensor(1.0)}, "A split has 0 images and 6 labels"),
        ({"labels": LABELS.to(torch.complex64)}, "labels: got torch.complex64"),
        ({"flip": 1}, "flip: got 1; give true or false"),
        ({"images": PICTURES.flatten(1), "flip": True}, r"crop, flip: got images of shape \(6, 16\)"),
    ],
)
def test_images_that_cannot_be_used_are_refused(fields, words):
    with pytest.raises(DataError, match=words):
        ImageSet(**{"images": PICTURES, "labels": LABELS, **fields})


@pytest.mark.parametrize("size", [-1, 1.5, 10**9, True])
def test_a_crop_that_does_not_fit_is_refused(size):
    with pytest.raises(ConfigError, match=r"crop: got .*; give an int of at (least 0|most 4)\."):
        ImageSet(PICTURES, LABELS, crop=size)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8])
def test_images_of_every_usable_type_have_a_digest_and_single_inputs(kind):
    images = (torch.arange(6 * 16).view(6, 1, 4, 4) * 2).to(kind)
    part, other = (ImageSet(made, LABELS) for made in (images, images.clone().index_fill_(0, torch.tensor(5), 1)))
    assert part.inputs().dtype == torch.float32
    assert DataSplits("a", part, part, part, 3).digest != DataSplits("a", part, part, other, 3).digest
    if kind != torch.bfloat16:  # which numpy does not know
        state = hashlib.sha256()
        for _ in range(3):
            state.update(repr(((6, 1, 4, 4), str(kind), (0.0,), (1.0,))).encode())
            state.update(images.numpy().tobytes() + LABELS.numpy().tobytes())
        assert DataSplits("a", part, part, part, 3).digest == state.hexdigest()[:32]


def test_images_that_a_graph_made_are_cut_off_from_it():
    assert not ImageSet(PICTURES.clone().requires_grad_() * 2, LABELS).images.requires_grad


def test_labels_of_other_integers_are_converted():
    assert ImageSet(PICTURES, LABELS.to(torch.uint8)).labels.dtype == torch.int64


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"test": ImageSet(PICTURES, LABELS + 100)}, "test: label 102 is none of the 3 classes"),
        ({"train": ImageSet(PICTURES, LABELS - 1)}, "train: label -1 is none"),
        ({"val": ImageSet(PICTURES[:, :, :3], LABELS)}, r"val: images are torch.float32 \(1, 3, 4\), those of train"),
        ({"val": (PICTURES, LABELS)}, "val: got a tuple; give cimenv.ImageSet"),
        ({"classes": 3.0}, "classes: got 3.0; give their number"),
        ({"classes": True}, "classes: got True; give their number"),
        ({"classes": 10**30}, "classes: got 10{30}; give their number, an int from 1 to 10,000,000"),
        ({"name": 3}, "name: got 3; give text"),
        ({"test": ImageSet(PICTURES.repeat(1, 3, 1, 1), LABELS)}, r"test: images are torch.float32 \(3, 4, 4\), those"),
        ({"test": ImageSet(PICTURES.double(), LABELS)}, "test: images are torch.float64"),
    ],
)
def test_splits_that_do_not_fit_are_refused(fields, words):
    part = ImageSet(PICTURES, LABELS)
    with pytest.raises(DataError, match=words):
        DataSplits(**{"name": "mine", "train": part, "val": part, "test": part, "classes": 3, **fields})


@pytest.mark.parametrize(
    "fields",
    [{"std": (1e-320,)}, {"std": (0.0,)}, {"std": (math.nan,)}, {"std": (1e300,)}, {"mean": (1e300,)}],
)
def test_statistics_that_single_precision_cannot_divide_by_are_refused(fields):
    with pytest.raises(DataError, match=r"(mean|std): got"):
        ImageSet(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), **fields)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300])
def test_images_that_single_precision_cannot_hold_are_refused(dtype, value):
    images = torch.full((2, 1, 2, 2), value, dtype=torch.float64).to(dtype)
    with pytest.raises(DataError, match="hold NaN or infinity, or a value beyond"):
        ImageSet(images, torch.zeros(2, dtype=torch.int64))


def test_images_of_any_precision_have_a_digest():
    images, labels = torch.rand(4, 1, 2, 2), torch.arange(4)
    seen = set()
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        part = ImageSet(images.to(dtype), labels)
        assert part.inputs().dtype == torch.float32
        seen.add(DataSplits("own", part, part, part, classes=4).digest)
    assert len(seen) == 4


def test_the_mean_and_std_are_single_precision_whatever_torchs_default():
    part = ImageSet(torch.arange(16, dtype=torch.uint8).reshape(4, 1, 2, 2), torch.arange(4), (0.1307,), (0.3081,))
    expected = part.inputs()
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(part.inputs(), expected)
    finally:
        torch.set_default_dtype(torch.float32)
