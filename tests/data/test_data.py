import itertools
import os
import pickle
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets

from cimenv.core.errors import ConfigError, DataError, UnknownNameError
from cimenv.core.seeding import torch_generator
from cimenv.core.store import Store
from cimenv.data import DataSplits, ImageSet, load_data
from cimenv.tasks import MonteCarloEvaluator, load_task

BUNDLED = Path(str(files("cimenv.data.bundled").joinpath("fashion_mini.npz")))
needs_data = pytest.mark.skipif("CIMENV_DATA" not in os.environ, reason="CIMENV_DATA names no folder of real data")


def real(name: str) -> DataSplits:
    try:
        return load_data(name)
    except DataError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def archive():
    with np.load(BUNDLED, allow_pickle=False) as arrays:
        return dict(arrays)


def test_bundled_counts_balance_and_type():
    data = load_data("fashion-mini")
    for split, per_class in (("train", 1000), ("val", 200), ("test", 200)):
        part = data[split]
        assert part.images.shape == (10 * per_class, 1, 28, 28)
        assert part.images.dtype == torch.uint8
        assert part.labels.dtype == torch.int64
        assert torch.bincount(part.labels).tolist() == [per_class] * 10
    assert (data.classes, data.image_shape) == (10, (1, 28, 28))


def test_bundled_file_is_small_and_names_its_seed(archive):
    assert BUNDLED.stat().st_size < 8e6
    assert int(archive["seed"]) == 20260101
    assert (BUNDLED.parent / "LICENSE-fashion-mnist").exists()


def test_bundled_train_and_val_are_disjoint(archive):
    train, val, test = (archive[f"{split}_index"].tolist() for split in ("train", "val", "test"))
    assert (len(set(train)), len(set(val)), len(set(test))) == (10_000, 2_000, 2_000)
    assert not set(train) & set(val)
    assert max(train + val) < 60_000
    assert max(test) < 10_000


def test_bundled_statistics_normalise_the_pixels():
    data = load_data("fashion-mini")
    x = data.train.inputs()
    assert x.dtype == torch.float32
    # published statistics of all 60,000 images; a sample of 10,000 balanced ones lies within 2 %
    assert x.mean().item() == pytest.approx(0, abs=0.02)
    assert x.std().item() == pytest.approx(1, abs=0.02)
    first = (data.train.images[3:5].double() / 255 - 0.2860) / 0.3530
    assert torch.allclose(data.train.inputs(slice(3, 5)).double(), first, atol=1e-5)


@needs_data
def test_bundled_images_are_the_official_ones(archive):
    official = real("fashion")
    images = torch.cat([official.train.images, official.val.images]).squeeze(1).numpy()
    labels = torch.cat([official.train.labels, official.val.labels]).numpy()
    for split in ("train", "val"):
        chosen = archive[f"{split}_index"]
        assert np.array_equal(archive[f"{split}_images"], images[chosen])
        assert np.array_equal(archive[f"{split}_labels"], labels[chosen])
    chosen = archive["test_index"].astype(np.int64)
    assert np.array_equal(archive["test_images"], official.test.images.squeeze(1).numpy()[chosen])


@needs_data
@pytest.mark.parametrize("name", ["mnist", "fashion"])
def test_official_splits(name):
    data = real(name)
    assert (len(data.train), len(data.val), len(data.test)) == (55_000, 5_000, 10_000)
    assert data.image_shape == (1, 28, 28)
    scaled = data.train.images.double() / 255
    assert scaled.mean().item() == pytest.approx(data.train.mean[0], abs=1e-3)
    assert scaled.std().item() == pytest.approx(data.train.std[0], abs=1e-3)
    # both sets are balanced: 6,000 (Fashion) or 5,421-6,742 (MNIST) of a class in 60,000
    counts = torch.bincount(torch.cat([data.train.labels, data.val.labels]))
    assert (counts.min().item(), counts.max().item()) == ((6000, 6000) if name == "fashion" else (5421, 6742))


@needs_data
def test_pairs_of_digits_never_mix_splits():
    digits, pairs = real("mnist"), real("two-digit-mnist")
    assert [len(pairs[split]) for split in ("train", "val", "test")] == [60_000, 5_000, 10_000]
    assert (pairs.classes, pairs.image_shape) == (100, (1, 32, 32))
    assert pairs.digest == "3db6a157aa87a4f956f380c0d888a5b2"  # the recorded seed
    for split in ("train", "val", "test"):
        counts = torch.bincount(pairs[split].labels, minlength=100)
        assert counts.min() > 0.4 * len(pairs[split]) / 100  # digits are uneven: 9 % to 11 % each
    draws = torch_generator("two-digit-mnist", 0, "test")
    left, right = torch.randint(10_000, (2, 10_000), generator=draws)[:, 7]
    assert pairs.test.labels[7] == 10 * digits.test.labels[left] + digits.test.labels[right]
    ink = (digits.test.images[left].float().sum() + digits.test.images[right].float().sum()) * 32 * 32 / (28 * 56)
    assert float(pairs.test.images[7].float().sum() / ink) == pytest.approx(1, abs=0.02)  # resizing keeps the mean
    x = pairs.train.inputs(slice(5_000))
    assert abs(float(x.mean())) < 0.02 and float(x.std()) == pytest.approx(1, abs=0.02)


class OldPickler(pickle.Pickler):
    """Writes array types as the official files hold them: numpy.dtype('u1', 0, 1), made by an old numpy."""

    def reducer_override(self, value):
        if isinstance(value, np.dtype):
            return np.dtype, ("u1", 0, 1), value.__reduce__()[2]
        return NotImplemented


def write_batch(path: Path, pixels: np.ndarray, **fields) -> None:
    with open(path, "wb") as file:
        OldPickler(file, protocol=2).dump({"data": pixels, **fields})


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """Ten images a file in the official format: a row is 1,024 red, then green, then blue pixels."""
    generator = np.random.default_rng(0)
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda path, md5=None: os.path.exists(path))
    pixels = {}
    for name in [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]:
        pixels[name] = generator.integers(0, 256, (10, 3072), dtype=np.uint8)
        folder = tmp_path / "cifar-10-batches-py"
        folder.mkdir(exist_ok=True)
        write_batch(folder / name, pixels[name], labels=list(range(10)))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}, protocol=2))
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name, count in (("train", 50), ("test", 10)):
        pixels[name] = generator.integers(0, 256, (count, 3072), dtype=np.uint8)
        fine = [99 - n for n in range(count)]
        write_batch(folder / name, pixels[name], fine_labels=fine, coarse_labels=[0] * count)
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [str(n) for n in range(100)]}, protocol=2))
    return tmp_path, pixels


def test_cifar10_pixels_labels_and_splits(cifar):
    root, pixels = cifar
    data = load_data("cifar10", root)
    assert (len(data.train), len(data.val), len(data.test)) == (45, 5, 10)  # a small set holds out a tenth
    images = torch.cat([data.train.images, data.val.images])
    rows = np.concatenate([pixels[f"data_batch_{n}"] for n in range(1, 6)])
    assert np.array_equal(images.numpy(), rows.reshape(-1, 3, 32, 32))
    assert images[0, 2, 1, 3] == rows[0, 2 * 1024 + 1 * 32 + 3]
    assert torch.cat([data.train.labels, data.val.labels]).tolist() == list(range(10)) * 5
    assert np.array_equal(data.test.images.numpy(), pixels["test_batch"].reshape(-1, 3, 32, 32))
    assert (data.classes, data.image_shape, len(data.train.mean)) == (10, (3, 32, 32), 3)


def test_cifar100_uses_the_fine_labels(cifar):
    root, pixels = cifar
    data = load_data("cifar100", root)
    assert data.train.labels.tolist() == list(range(99, 54, -1))
    assert data.test.labels.tolist() == list(range(99, 89, -1))
    assert np.array_equal(data.test.images.numpy(), pixels["test"].reshape(-1, 3, 32, 32))
    blue = (torch.from_numpy(pixels["test"][:, 2048:]).double() / 255 - 0.4409) / 0.2762
    assert torch.allclose(data.test.inputs()[:, 2].flatten(1).double(), blue, atol=1e-5)
    assert data.classes == 100


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        ("vgg16-cifar100", ["backbone_args.width=0.03125"]),
        pytest.param("resnet18-cifar10", ["recipe.noise_sigma=0.1"], marks=pytest.mark.slow),
    ],
)
def test_the_shipped_cifar_tasks_run_on_such_files(cifar, monkeypatch, tmp_path, config, changes):
    monkeypatch.setenv("CIMENV_DATA", str(cifar[0]))
    short = ["reference.epochs=1", "recipe.epochs=1", "recipe.batch_size=8", "reference.batch_size=8", "bank.steps=1"]
    task = load_task(f"configs/tasks/{config}.yaml", [*changes, *short, "bank.batch_size=2", "chips=2"])
    evaluator = MonteCarloEvaluator(task, Store(tmp_path / "store"))
    candidates = evaluator.space.candidates[:, 1:].any(axis=1)
    assert [s.name for s, allowed in zip(evaluator.space.sites, candidates, strict=True) if allowed] == list(
        task.candidates
    )
    found = evaluator.evaluate(evaluator.space.uniform("affine"))
    assert found.images == 5 and found.correct.shape == (1, 2) and (found.site_errors[:, 0] > 0).all()


def test_augmented_images_are_shifted_and_mirrored_one_by_one():
    generator = torch.Generator().manual_seed(0)
    images = torch.arange(1.0, 37.0).view(1, 1, 6, 6).repeat(400, 1, 1, 1)
    part = ImageSet(images, torch.zeros(400, dtype=torch.int64), crop=2, flip=True)
    made = part.augmented(part.inputs(), generator)
    padded = torch.nn.functional.pad(images[0, 0], [2] * 4)
    known = {}
    for row, column, flip in itertools.product(range(5), range(5), (False, True)):
        view = padded[row : row + 6, column : column + 6]
        known[tuple((view.flip(1) if flip else view).flatten().tolist())] = (row, column, flip)
    seen = [known[tuple(image.flatten().tolist())] for image in made]  # every image is one of the fifty
    assert len(set(seen)) >= 48  # 400 draws miss one of fifty with probability .0003
    assert torch.equal(ImageSet(images, part.labels).augmented(images, generator), images)
    assert (
        DataSplits("a", part, part, part, 1).digest != DataSplits("a", *[ImageSet(images, part.labels)] * 3, 1).digest
    )


@pytest.mark.parametrize("name", ["mnist", "fashion", "cifar10", "cifar100"])
def test_missing_data_names_the_folder_and_the_command(tmp_path, name):
    with pytest.raises(DataError) as caught:
        load_data(name, tmp_path)
    text = str(caught.value)
    assert f"was not found in {tmp_path.resolve()}" in text
    assert text.endswith(
        f"python -c \"import cimenv.data as d; d.load_data('{name}', root='{tmp_path}', download=True)\""
    )
    assert "\n" not in text


def test_damaged_data_is_a_data_error(tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind, head in (
            ("images-idx3", b"\0\0\x08\x03\0\0\0\x09\0\0\0\x1c\0\0\0\x1c"),
            ("labels-idx1", b"\0\0\x08\x01"),
        ):
            (folder / f"{part}-{kind}-ubyte").write_bytes(head)
    with pytest.raises(DataError, match=r"MNIST .*download=True"):
        load_data("mnist", tmp_path)


@pytest.fixture
def mnist(tmp_path):
    """Twenty images a file in the official format."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        head = b"\0\0\x08\x03\0\0\0\x14\0\0\0\x1c\0\0\0\x1c"
        (folder / f"{part}-images-idx3-ubyte").write_bytes(head + bytes(20 * 28 * 28))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(head[:3] + b"\1\0\0\0\x14" + bytes(range(10)) * 2)
    assert len(load_data("mnist", tmp_path).train) == 18
    return tmp_path


def _small_zeros(path):
    path.write_bytes(path.read_bytes()[:8] + b"\0\0\0\x0e\0\0\0\x0e" + bytes(20 * 14 * 14))


FILE = "train-images-idx3-ubyte"


@pytest.mark.parametrize(
    ("accident", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), rf"{FILE} is damaged \(RuntimeError: .*\); remove it;"),
        (lambda path: path.write_bytes(path.read_bytes() + b"a"), f"{FILE} is damaged"),
        (lambda path: path.write_bytes(b"\1\2\3\4" + path.read_bytes()[4:]), f"{FILE} is damaged"),
        (lambda path: path.write_bytes(b"\0\0\x0d" + path.read_bytes()[3:]), f"{FILE} is damaged"),
        (lambda path: path.write_bytes(b""), f"{FILE} is damaged"),
        (_small_zeros, r"a file in .* is damaged \(ValueError: images are \(1, 14, 14\)\)"),
        (lambda path: path.unlink(), rf"is incomplete in .*{FILE}: it is missing"),
        (lambda path: path.rename(f"{path}.gz"), rf"{FILE}: {FILE}\.gz is there, unpacked it is not"),
        (lambda path: (path.unlink(), path.mkdir()), f"{FILE} is a folder; give a regular file"),
        (lambda path: (path.unlink(), path.symlink_to("/dev/zero")), f"{FILE} is a device; give a regular file"),
    ],
)
def test_a_damaged_file_is_not_a_missing_one(mnist, accident, words):
    accident(mnist / "MNIST/raw" / FILE)
    with pytest.raises(DataError, match=words) as caught:
        load_data("mnist", mnist)
    assert "not found" not in str(caught.value)


def test_a_file_that_may_not_be_read_is_said_so(mnist, monkeypatch):
    plain = Path.open

    def refuse(path, *arguments, **named):
        if path.name == FILE:
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", refuse)  # tests may run as root, which may read everything
    monkeypatch.setattr("torchvision.datasets.mnist.read_image_file", lambda path: refuse(Path(path)))
    with pytest.raises(
        DataError, match=rf"MNIST cannot be read: .*{FILE}: Permission denied; give this user permission"
    ):
        load_data("mnist", mnist)


@pytest.mark.parametrize(("argument", "words"), [({"name": 3}, "Unknown data set '3'"), ({"root": 3}, "root: got 3")])
def test_wrong_arguments_of_load_data(argument, words):
    with pytest.raises(ConfigError, match=words):
        load_data(**{"name": "mnist", **argument})


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match=r"Unknown data set 'mnits'; known: .* Did you mean 'mnist'\?"):
        load_data("mnits")


def test_a_users_own_data(tmp_path, monkeypatch):
    (tmp_path / "users_own_data.py").write_text(
        "import torch\n"
        "from cimenv.data import DataSplits, ImageSet\n"
        "part = ImageSet(torch.full((4, 2, 3, 3), 0.25), torch.arange(4))\n"
        "def mine(): return DataSplits('mine', part, part, part, 4)\n"
        "def wrong(): return [1]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    data = load_data("users_own_data:mine")
    assert (data.name, data.classes, data.image_shape) == ("mine", 4, (2, 3, 3))
    assert torch.equal(data.val.inputs(), torch.full((4, 2, 3, 3), 0.25))  # floats are used as they are
    with pytest.raises(DataError, match=r"returned a list; return a cimenv\.data\.DataSplits"):
        load_data("users_own_data:wrong")
