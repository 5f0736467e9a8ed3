from __future__ import annotations

import gzip
import importlib
import json
import struct
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest

import isthmus.data as data

named = importlib.import_module("isthmus.data.named")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ISTHMUS_DATA_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def offline(monkeypatch):
    import sklearn.datasets

    def fetch(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    monkeypatch.setattr(sklearn.datasets, "fetch_olivetti_faces", fetch)


def write_idx(path, array):
    header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def test_mnist_sample_is_balanced():
    train, test, whole = (data.open(f"mnist-sample:{split}") for split in ("train", "test", "all"))
    assert train.X.shape == (5000, 28, 28)
    assert test.X.shape == (1000, 28, 28)
    assert train.X.dtype == np.uint8
    assert np.bincount(train.labels).tolist() == [500] * 10
    assert np.bincount(test.labels).tolist() == [100] * 10
    assert whole.X.shape == (6000, 28, 28)
    assert data.open("mnist-sample").name == "mnist-sample:train"


def test_mnist_sample_is_small_and_has_a_licence_file():
    assert named.SAMPLE.stat().st_size <= 1.5e6
    assert "CC BY-SA 3.0" in (named.SAMPLE.parent / "LICENCE-mnist-sample.md").read_text()


def test_the_nearest_class_mean_classifies_mnist_sample():
    train, test = data.open("mnist-sample"), data.open("mnist-sample", split="test")
    means = np.stack([train.X[train.labels == digit].mean(0) for digit in range(10)]).reshape(10, -1)
    distances = ((test.X.reshape(-1, 1, 784).astype(float) - means) ** 2).sum(-1)
    assert (distances.argmin(1) == test.labels).mean() > 0.75  # accuracy of the nearest class mean on MNIST


def test_digits_are_split_within_each_class_without_overlap():
    train, test, whole = (data.open(f"digits:{split}") for split in ("train", "test", "all"))
    assert whole.X.shape == (1797, 8, 8)
    assert (whole.X.min(), whole.X.max()) == (0, 1)
    assert len(train.X) + len(test.X) == 1797
    share = np.bincount(train.labels) / np.bincount(whole.labels)
    assert np.abs(share - 0.7).max() < 0.01
    assert "no official split: 1,258 of 1,797 rows, split 70/30 within each class, seed 0" in train.notes


def test_the_split_is_seeded_and_complete():
    labels = np.array([0] * 90 + [1] * 10)
    train, test = named.stratified(labels, "train"), named.stratified(labels, "test")
    np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(100))
    assert (labels[train].sum(), labels[test].sum()) == (7, 3)
    np.testing.assert_array_equal(train, named.stratified(labels, "train"))


def test_mnist_is_read_from_the_data_home(home, rng):
    for stem, n in (("train", 6), ("t10k", 3)):
        write_idx(home / "mnist" / f"{stem}-images-idx3-ubyte.gz", rng.integers(0, 256, (n, 28, 28)))
        write_idx(home / "mnist" / f"{stem}-labels-idx1-ubyte.gz", np.arange(n))
    train, test = data.open("mnist"), data.open("mnist:test")
    assert (train.X.shape, train.X.dtype, train.labels.dtype) == ((6, 28, 28), np.uint8, np.int64)
    assert test.labels.tolist() == [0, 1, 2]
    assert len(data.open("mnist:all").X) == 9


def test_cifar_and_olivetti_are_read_from_the_data_home(home, rng):
    (home / "cifar10").mkdir()
    (home / "olivetti").mkdir()
    x = rng.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    y = np.arange(4, dtype=np.uint8)
    np.savez(home / "cifar10" / "cifar10-10k.npz", x_train=x, y_train=y, x_test=x[:1], y_test=y[:1])
    np.savez(home / "olivetti" / "olivetti-faces.npz", images=x[..., 0], person=y)
    assert data.open("cifar10-10k").X.shape == (4, 32, 32, 3)
    assert data.open("cifar10-10k:test").name == "cifar10-10k:test"
    faces = data.open("olivetti")
    assert (faces.X.shape, faces.labels.dtype, faces.name) == ((4, 32, 32), np.int64, "olivetti")


def test_reuters_returns_documents_and_topics(home):
    records = [
        {"id": 1, "split": "train", "topics": ["cocoa"], "title": "T", "body": "b"},
        {"id": 2, "split": "test", "topics": ["grain", "corn"], "title": "U", "body": ""},
        {"id": 3, "split": "unused", "topics": [], "title": "", "body": "c"},
    ]
    (home / "reuters21578").mkdir()
    text = "\n".join(map(json.dumps, records))
    (home / "reuters21578" / "reuters21578.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    train, test, whole = (data.open(f"reuters21578:{split}") for split in ("train", "test", "all"))
    assert train.X.texts == ("T\nb",)
    assert train.labels[0] == ["cocoa"]
    assert test.labels[0] == ["grain", "corn"]
    assert whole.labels.dtype == object
    assert len(whole.X) == 3
    assert train.notes == ("the ModApte split",)


@pytest.mark.parametrize("name", ["adbench/cardio", "adbench/Cardio"])
def test_adbench_sets_are_found_by_name_without_number(home, rng, name):
    (home / "adbench").mkdir()
    np.savez(home / "adbench" / "6_cardio.npz", X=rng.normal(size=(20, 3)), y=np.repeat([0, 1], 10))
    read = data.open(name)
    assert read.X.shape == (14, 3)
    assert np.bincount(read.labels).tolist() == [7, 7]
    assert "label 1 is an anomaly" in read.notes
    assert data.open(f"{name}:all").X.shape == (20, 3)


def test_a_file_inside_a_folder_called_adbench_is_a_file(home, monkeypatch):
    (home / "adbench").mkdir()
    np.savez(home / "adbench" / "6_cardio.npz", X=np.zeros((4, 3)))
    monkeypatch.chdir(home)
    assert data.open("adbench/6_cardio.npz").X.shape == (4, 3)


def test_a_named_set_takes_precedence_over_a_folder_with_a_note(tmp_path, monkeypatch):
    (tmp_path / "mnist-sample").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "write ./mnist-sample for the file or folder" in data.open("mnist-sample").notes[0]


def test_unknown_splits_and_sets_are_refused_with_suggestions(refused):
    with refused(
        "mnist-sample: no split 'valid'; choose one of mnist-sample:train, mnist-sample:test, mnist-sample:all"
    ):
        data.open("mnist-sample:valid")
    with refused("olivetti: no split 'train'; choose one of olivetti:all"):
        data.open("olivetti:train")
    with refused("two splits requested, 'test' and split='train'; choose one"):
        data.open("mnist-sample:test", split="train")
    with refused("adbench/cardo: ADBench has no such set; did you mean 'cardio'?"):
        data.open("adbench/cardo")
    with refused("mnist-sample: a named data set includes its labels"):
        data.open("mnist-sample", label_column="digit")


@pytest.mark.parametrize(
    ("name", "fragments"),
    [
        (
            "mnist",
            (
                "mnist: data set not found: ISTHMUS_DATA_HOME is not set and scikit-learn could not fetch mnist_784 "
                "from OpenML (<urlopen error no network>)",
                "get train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, "
                "t10k-labels-idx1-ubyte.gz from https://",
                "put them into FOLDER/mnist, and set ISTHMUS_DATA_HOME=FOLDER",
            ),
        ),
        ("olivetti", ("could not fetch the Olivetti faces", "put it into FOLDER/olivetti")),
        ("cifar10-10k", ("not set; get cifar10-10k.npz from https://", "put it into FOLDER/cifar10")),
        ("reuters21578", ("get reuters21578.jsonl.gz from https://", "put it into FOLDER/reuters21578")),
        ("adbench/cardio", ("get 6_cardio.npz from https://github.com/Minqi824/ADBench", "FOLDER/adbench")),
    ],
)
def test_a_missing_set_names_its_source_and_its_folder(offline, refused, name, fragments):
    with refused(*fragments):
        data.open(name)


def test_a_data_home_without_the_set_names_the_missing_file(home, offline, refused):
    with refused(f"cifar10-10k: data set not found: {home / 'cifar10'} has no cifar10-10k.npz; get"):
        data.open("cifar10-10k")


def test_mnist_from_openml_has_the_same_form(monkeypatch):
    import sklearn.datasets

    def fetch(name, version, as_frame):
        assert (name, version, as_frame) == ("mnist_784", 1, False)
        X = np.zeros((70000, 784), np.uint8)
        X[60000] = 255
        return SimpleNamespace(data=X, target=np.array(["5"] * 60000 + ["7"] * 10000, dtype=object))

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    test = data.open("mnist:test")
    assert (test.X.shape, test.X.dtype, test.labels.dtype) == ((10000, 28, 28), np.uint8, np.int64)
    assert test.X[0].min() == 255
    assert set(test.labels) == {7}


def test_olivetti_from_scikit_learn_has_the_same_bytes(monkeypatch, rng):
    import sklearn.datasets

    X = rng.integers(0, 243, (3, 64, 64)).astype(np.uint8)
    scaled = X.astype(np.float32) / np.float32(242)
    fetched = SimpleNamespace(images=scaled, target=np.array([0, 1, 2]))
    monkeypatch.setattr(sklearn.datasets, "fetch_olivetti_faces", lambda: fetched)
    np.testing.assert_array_equal(data.open("olivetti").X, X)


def test_every_named_set_is_listed_with_its_splits():
    assert list(data.named_sets()) == [
        "mnist-sample", "digits", "mnist", "cifar10-10k", "olivetti", "reuters21578", "adbench/NAME",
    ]  # fmt: skip
    assert data.named_sets()["olivetti"] == ("all",)
