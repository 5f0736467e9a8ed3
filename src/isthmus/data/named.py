"""Named data sets: included in the package, from scikit-learn, or in the folder ISTHMUS_DATA_HOME.

A source is NAME or NAME:SPLIT. The default split is "train" if the set has one, else "all".
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.data.array_files import check_labels, read_arrays, read_idx_array, read_npz
from isthmus.data.dataset import Dataset
from isthmus.data.json_lines import read_json_lines
from isthmus.data.messages import hint, one_line
from isthmus.errors import InputError

DATA_HOME = "ISTHMUS_DATA_HOME"
"""Environment variable with the folder of mnist/, cifar10/, olivetti/, reuters21578/ and adbench/."""

SPLIT_SEED = 0
TRAIN_FRACTION = 0.7
"""Sets without official splits are split 70/30 within each class, by numpy's PCG64 with seed `SPLIT_SEED`."""

SAMPLE = Path(__file__).parent / "samples" / "mnist-sample.npz"

ADBENCH = (
    "1_ALOI", "2_annthyroid", "3_backdoor", "4_breastw", "5_campaign", "6_cardio", "7_Cardiotocography",
    "8_celeba", "9_census", "10_cover", "11_donors", "12_fault", "13_fraud", "14_glass", "15_Hepatitis",
    "16_http", "17_InternetAds", "18_Ionosphere", "19_landsat", "20_letter", "21_Lymphography", "22_magic.gamma",
    "23_mammography", "24_mnist", "25_musk", "26_optdigits", "27_PageBlocks", "28_pendigits", "29_Pima",
    "30_satellite", "31_satimage-2", "32_shuttle", "33_skin", "34_smtp", "35_SpamBase", "36_speech", "37_Stamps",
    "38_thyroid", "39_vertebral", "40_vowels", "41_Waveform", "42_WBC", "43_WDBC", "44_Wilt", "45_wine",
    "46_WPBC", "47_yeast",
)  # fmt: skip
"""Files of the classical ADBench sets (Han et al. 2022, arXiv:2206.09426); NAME is the part after the number."""


@dataclass(frozen=True)
class _NamedSet:
    """A named data set: splits, files and their source.

    Attributes:
        splits: names of the splits without "all"; the first is the default.
        read: function that reads a split from the folder of the files; a set without files ignores the folder.
        folder, files: location below ISTHMUS_DATA_HOME.
        source: download address and format of the files, for error messages.
        fetch: name of the set in scikit-learn, and the function that fetches a split.
    """

    splits: tuple[str, ...]
    read: Callable[[Path, str], Dataset]
    folder: str = ""
    files: tuple[str, ...] = ()
    source: str = ""
    fetch: tuple[str, Callable[[str], Dataset]] | None = None


def named_sets() -> dict[str, tuple[str, ...]]:
    """Return the names of the data sets for `open` with their splits. adbench/NAME stands for every ADBench set.

    Example:
        >>> named_sets()["mnist-sample"]
        ('train', 'test', 'all')
    """
    return {name: (*named.splits, "all") for name, named in _SETS.items()} | {"adbench/NAME": (*_CUT, "all")}


def is_named(source: str) -> bool:
    """Return whether NAME or NAME:SPLIT is a named set. Every name that starts with adbench/ counts as one."""
    name = source.partition(":")[0]
    return name in _SETS or name.startswith("adbench/")


def read_named(source: str, split: str | None = None) -> Dataset:
    """Read the rows of NAME or NAME:SPLIT.

    Raises:
        InputError: if the set or split is unknown, two splits are given, or the files are neither present nor
            fetchable; the message then names their source and the folder for them.
    """
    name, _, suffix = source.partition(":")
    if suffix and split and suffix != split:
        raise InputError(f"{source}: two splits requested, {suffix!r} and split={split!r}; choose one")
    named = _find(name)
    split = suffix or split or (named.splits[0] if named.splits else "all")
    if split not in (*named.splits, "all"):
        splits = ", ".join(f"{name}:{one}" for one in (*named.splits, "all"))
        raise InputError(f"{name}: no split {split!r}; choose one of {splits}")
    return replace(_read(name, named, split), name=f"{name}:{split}" if named.splits else name)


def _find(name: str) -> _NamedSet:
    if name in _SETS:
        return _SETS[name]
    files = {file.partition("_")[2].lower(): file for file in ADBENCH}
    short_name = name.removeprefix("adbench/")
    if short_name.lower() not in files:
        raise InputError(f"adbench/{short_name}: ADBench has no such set; {hint(short_name, list(files))}")
    return _adbench(files[short_name.lower()])


def _read(name: str, named: _NamedSet, split: str) -> Dataset:
    """Read the set from ISTHMUS_DATA_HOME if its files are there, else fetch it with scikit-learn.

    Raises:
        InputError: if neither is possible; the message says how to get the files.
    """
    if not named.files:
        return named.read(Path(), split)
    home = os.environ.get(DATA_HOME)
    missing = named.files
    if home:
        folder = Path(home).expanduser() / named.folder
        missing = tuple(file for file in named.files if not (folder / file).is_file())
        if not missing:
            return named.read(folder, split)
    cause = f"{Path(home).expanduser() / named.folder} has no {missing[0]}" if home else f"{DATA_HOME} is not set"
    if named.fetch:
        title, fetch = named.fetch
        try:
            return fetch(split)
        except (OSError, ValueError, RuntimeError) as error:
            cause += f" and scikit-learn could not fetch {title} ({one_line(error)})"
    raise InputError(
        f"{name}: data set not found: {cause}; get {', '.join(named.files)} from {named.source} and put "
        f"{'it' if len(named.files) == 1 else 'them'} into FOLDER/{named.folder}, and set {DATA_HOME}=FOLDER"
    )


def stratified(labels: np.ndarray, split: str) -> np.ndarray:
    """Return the increasing row numbers of a seeded 70/30 split within each class.

    Args:
        labels: the class of each row, (n,).
        split: "train", "test" or "all".
    """
    generator = np.random.default_rng(SPLIT_SEED)
    train = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        train[rows[: round(TRAIN_FRACTION * len(rows))]] = True
    return np.flatnonzero({"train": train, "test": ~train, "all": np.ones_like(train)}[split])


def _cut(X: np.ndarray, labels: np.ndarray, split: str, *notes: str) -> Dataset:
    """Return a split of a set without official splits, with a note."""
    rows = stratified(labels, split)
    if split != "all":
        notes = (*notes, f"no official split: {len(rows):,} of {len(X):,} rows, split 70/30 within each class, seed 0")
    return Dataset(X[rows], labels[rows].astype(np.int64), notes=notes)


def _read_sample(_: Path, split: str) -> Dataset:
    return read_npz(SAMPLE, split)


def _read_digits(_: Path, split: str) -> Dataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    X = (digits.images / 16).astype(np.float32)
    return _cut(X, digits.target, split, "pixels are multiples of 1/16, from 0 to 1")


_MNIST_STEMS = {"train": "train", "test": "t10k"}


def _read_mnist(folder: Path, split: str) -> Dataset:
    stems = list(_MNIST_STEMS.values()) if split == "all" else [_MNIST_STEMS[split]]
    X = [read_idx_array(folder / f"{stem}-images-idx3-ubyte.gz") for stem in stems]
    labels = [read_idx_array(folder / f"{stem}-labels-idx1-ubyte.gz") for stem in stems]
    rows = np.concatenate(X) if len(X) > 1 else X[0]
    return Dataset(rows, check_labels(np.concatenate(labels), len(rows), str(folder)))


def _fetch_mnist(split: str) -> Dataset:
    """Fetch MNIST from OpenML; scikit-learn verifies its checksum."""
    from sklearn.datasets import fetch_openml

    fetched = fetch_openml("mnist_784", version=1, as_frame=False)
    X = np.asarray(fetched.data).astype(np.uint8).reshape(-1, 28, 28)
    if X.shape != (70000, 28, 28):
        raise InputError(f"mnist: mnist_784 of OpenML has shape {X.shape}, expected (70000, 28, 28)")
    part = {"train": slice(60000), "test": slice(60000, None), "all": slice(None)}[split]
    return Dataset(X[part], np.asarray(fetched.target).astype(np.int64)[part])


def _read_cifar(folder: Path, split: str) -> Dataset:
    return read_npz(folder / "cifar10-10k.npz", split)


def _read_olivetti(folder: Path, split: str) -> Dataset:
    path = folder / "olivetti-faces.npz"
    X, person = read_arrays(path, "images", "person")
    return Dataset(X, check_labels(person, len(X), str(path)))


_OLIVETTI_WHITE = 242  # maximum byte of the faces; scikit-learn divides by it


def _fetch_olivetti(split: str) -> Dataset:
    """Fetch the faces with scikit-learn, which verifies their SHA-256, and convert them to bytes."""
    from sklearn.datasets import fetch_olivetti_faces

    fetched = fetch_olivetti_faces()
    X = np.rint(fetched.images * _OLIVETTI_WHITE).astype(np.uint8)
    return Dataset(X, fetched.target.astype(np.int64))


def _read_reuters(folder: Path, split: str) -> Dataset:
    data = read_json_lines(folder / "reuters21578.jsonl.gz", split, "topics")
    note = {"all": "train, test and the documents that the ModApte split excludes"}.get(split, "the ModApte split")
    return Dataset(data.X, data.labels, notes=(note,))


_CUT = ("train", "test")


def _adbench(file: str) -> _NamedSet:
    def read(folder: Path, split: str) -> Dataset:
        data: Any = read_npz(folder / f"{file}.npz", None)
        return _cut(data.X, data.labels, split, "label 1 is an anomaly")

    source = "https://github.com/Minqi824/ADBench (adbench/datasets/Classical)"
    return _NamedSet(_CUT, read, "adbench", (f"{file}.npz",), source)


_SETS = {
    "mnist-sample": _NamedSet(("train", "test"), _read_sample),
    "digits": _NamedSet(_CUT, _read_digits),
    "mnist": _NamedSet(
        ("train", "test"),
        _read_mnist,
        "mnist",
        tuple(f"{stem}-{what}-ubyte.gz" for stem in ("train", "t10k") for what in ("images-idx3", "labels-idx1")),
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        ("mnist_784 from OpenML", _fetch_mnist),
    ),
    "cifar10-10k": _NamedSet(
        ("train", "test"),
        _read_cifar,
        "cifar10",
        ("cifar10-10k.npz",),
        "https://www.cs.toronto.edu/~kriz/cifar.html (data_batch_1 as x_train (10000, 32, 32, 3) and y_train, the "
        "first 1,000 of test_batch as x_test and y_test, all uint8, by numpy.savez_compressed)",
    ),
    "olivetti": _NamedSet(
        (),
        _read_olivetti,
        "olivetti",
        ("olivetti-faces.npz",),
        "scikit-learn's fetch_olivetti_faces on a machine with internet access (images (400, 64, 64) and person "
        "(400,), both uint8, by numpy.savez_compressed)",
        ("the Olivetti faces", _fetch_olivetti),
    ),
    "reuters21578": _NamedSet(
        ("train", "test"),
        _read_reuters,
        "reuters21578",
        ("reuters21578.jsonl.gz",),
        "https://archive.ics.uci.edu/dataset/137 (one JSON object a line: id, split (train, test or unused, after "
        "ModApte), topics, title, body)",
    ),
}
