from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import isthmus.data as data


def test_importing_isthmus_data_imports_no_slow_package():
    slow = "torch pandas pyarrow PIL sklearn scipy"
    code = f"import sys, isthmus.data; print([n for n in {slow.split()} if n in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_data_in_memory_are_not_copied():
    X = np.zeros((3, 2))
    frame = pd.DataFrame(X)
    assert data.open(X).X is X
    assert data.open(frame).X is frame
    assert data.open(data.Documents(["a"])).X.texts == ("a",)
    assert data.open(["a", "b"]).X.texts == ("a", "b")
    read = data.open(X)
    assert data.open(read) is read


def test_sparse_matrices_in_memory_become_csr():
    assert data.open(sparse.csc_matrix(np.eye(3))).X.format == "csr"


def test_a_table_in_memory_has_labels_and_row_names():
    frame = pd.DataFrame({"a": [1, 2], "y": ["p", "q"]}, index=["r", "s"])
    read = data.open(frame, label_column="y")
    assert read.row_names == ("r", "s")
    assert read.labels.tolist() == ["p", "q"]
    assert list(read.X.columns) == ["a"]


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        (7, {}, "cannot read data of type int; pass a path, the name of a data set"),
        ([], {}, "cannot read data of type list"),
        (np.zeros(3), {}, "the data in memory: the array has shape (3,)"),
        (pd.DataFrame({"a": []}), {}, "the data in memory: the table has no rows"),
        (np.zeros((2, 2)), {"exclude": ["a"]}, "an array without column names; column 'a' cannot be excluded"),
        (
            np.zeros((2, 2)),
            {"label_column": "y"},
            "column 'y' cannot be used as labels; store arrays as X and y in a .npz",
        ),
        (["text"], {"label_column": "y"}, "texts without column names; column 'y' cannot be used as labels"),
        (np.zeros((2, 2)), {"split": "train"}, "data in memory: the source has no splits"),
    ],
)
def test_unsupported_data_are_refused(refused, source, options, words):
    with refused(words):
        data.open(source, **options)


def test_a_missing_file_is_refused(tmp_path, refused):
    with refused(f"{tmp_path / 'no.csv'}: no such file or folder; check the path"):
        data.open(str(tmp_path / "no.csv"))
    with refused(f"{tmp_path / 'no'}: no such file or folder; check the path"):
        data.open(tmp_path / "no")


def test_an_unknown_name_suggests_the_most_similar_set(refused):
    with refused("mnist-sampel: no file, folder or named data set of this name; did you mean 'mnist-sample'?"):
        data.open("mnist-sampel")
    with refused("reuters:train: no file, folder or named data set of this name; did you mean 'reuters21578'?"):
        data.open("reuters:train")
    with refused(
        "zzz: no file, folder or named data set of this name; the named data sets are mnist-sample, digits, mnist,"
    ):
        data.open("zzz")


@pytest.mark.parametrize(
    "name", ["a.npy", "a.npz", "a.csv", "a.parquet", "a-idx3-ubyte", "a.jsonl", "a.jsonl.gz", "a.txt"]
)
def test_an_empty_file_is_refused_whatever_its_format(tmp_path, refused, name):
    (tmp_path / name).touch()
    with refused(f"{tmp_path / name}: an empty file (0 bytes); write it again"):
        data.open(tmp_path / name)


@pytest.mark.parametrize(("name", "what"), [("a.ods", " .ods"), ("a", ", the name has no suffix")])
def test_an_unknown_suffix_is_refused_with_a_list_of_known_ones(tmp_path, refused, name, what):
    (tmp_path / name).write_text("?")
    with refused(
        f"{tmp_path / name}: unknown file format{what}; known are .npy, .npz, .csv",
        "and folders of images",
    ):
        data.open(tmp_path / name)


def test_an_unreadable_file_is_refused(tmp_path, refused, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n")
    whole = Path.open

    def forbidden(self, *args, **kwargs):
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", forbidden)
    with refused(f"{path}: cannot be read (Permission denied); change its permissions"):
        data.open(path)


def test_a_split_of_a_file_without_splits_is_refused(tmp_path, refused):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with refused("has no splits; omit the split 'test'"):
        data.open(f"{tmp_path / 'a.csv'}:test")
    np.savez(tmp_path / "a.npz", x_test=np.zeros((2, 2)))
    with refused("two splits requested, 'test' and split='train'; choose one"):
        data.open(f"{tmp_path / 'a.npz'}:test", split="train")


def test_documents_are_selected_by_number_slice_and_mask():
    documents = data.Documents(["a", "b", "c"])
    assert documents[-1] == documents[np.int64(2)] == "c"
    assert documents[1:].texts == ("b", "c")
    assert documents[np.array([2, 0])].texts == ("c", "a")
    assert documents[[True, False, True]].texts == ("a", "c")
    assert documents[np.array([], int)].texts == ()
    assert len({documents, data.Documents(["a", "b", "c"])}) == 1


def test_documents_contain_only_texts(refused):
    with refused("document 1 is of type float; every document must be a string"):
        data.Documents(["a", float("nan")])
    with refused("needs a list of texts"):
        data.Documents("a text")


def test_a_dataset_is_immutable():
    read = data.open(np.zeros((2, 2)))
    with pytest.raises(AttributeError):
        read.X = None
    assert read.with_notes("checked").notes == ("checked",)
    assert read.n_rows == 2
