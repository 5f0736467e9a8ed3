from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from scipy import sparse

import isthmus.data as data
from isthmus.data import array_files


def idx(array, type_code=0x08):
    header = struct.pack(">BBBB", 0, 0, type_code, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def test_npy_returns_the_saved_array(tmp_path, rng):
    X = rng.normal(size=(5, 3)).astype(np.float32)
    np.save(tmp_path / "rows.npy", X)
    read = data.open(tmp_path / "rows.npy")
    np.testing.assert_array_equal(read.X, X)
    assert (read.X.dtype, read.name, read.labels, read.notes) == (np.float32, "rows", None, ())
    assert not isinstance(read.X, np.memmap)


def test_a_large_npy_is_memory_mapped(tmp_path, monkeypatch, rng):
    X = rng.normal(size=(50, 4))
    np.save(tmp_path / "rows.npy", X)
    monkeypatch.setattr(array_files, "MAP_ABOVE", 1000)
    read = data.open(str(tmp_path / "rows.npy"))
    assert isinstance(read.X, np.memmap)
    np.testing.assert_array_equal(read.X, X)
    assert "in batches" in read.notes[0]


@pytest.mark.parametrize("order", ["C", "F"])
def test_both_memory_orders_of_npy_are_read(tmp_path, order):
    X = np.arange(6.0).reshape(2, 3).copy(order=order)
    np.save(tmp_path / "rows.npy", X)
    np.testing.assert_array_equal(data.open(tmp_path / "rows.npy").X, X)


def test_a_truncated_npy_is_refused_with_both_sizes(tmp_path, refused):
    path = tmp_path / "rows.npy"
    np.save(path, np.zeros((10, 2)))
    path.write_bytes(path.read_bytes()[:-60])
    with refused(f"{path}: truncated: an array (10, 2) of float64 has 160 bytes, and the file contains 100"):
        data.open(path)


def test_another_format_with_the_suffix_npy_is_refused(tmp_path, refused):
    path = tmp_path / "rows.npy"
    path.write_text("1,2,3\n")
    with refused(f"{path}: not a complete .npy file (", "save it again"):
        data.open(path)


def test_a_pickle_in_npy_is_never_loaded(tmp_path, refused):
    np.save(tmp_path / "rows.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with refused("contains pickled Python objects, which are never loaded"):
        data.open(tmp_path / "rows.npy")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(4), "has shape (4,); it must be rows (n, columns) or images"),
        (np.zeros((2, 1, 1, 1, 1)), "images have at most the four dimensions (n, h, w, c)"),
        (np.zeros((0, 3)), "the array has no rows: its shape is (0, 3)"),
        (np.zeros((3, 0)), "the array has no columns: its shape is (3, 0)"),
        (np.array([["a", "b"]]), "the array contains text (<U1); save numbers, or a table as .csv"),
        (np.zeros((2, 2), complex), "the array contains complex numbers"),
        (np.zeros(2, [("a", "f4")]), "the array contains records"),
    ],
)
def test_arrays_that_are_not_rows_of_numbers_are_refused(tmp_path, refused, array, words):
    np.save(tmp_path / "rows.npy", array)
    with refused(f"{tmp_path / 'rows.npy'}: ", words):
        data.open(tmp_path / "rows.npy")


@pytest.mark.parametrize("names", [("X", "y"), ("x", "y"), ("images", "labels")])
def test_npz_arrays_are_selected_by_name(tmp_path, names):
    np.savez(tmp_path / "d.npz", **{names[0]: np.ones((3, 2)), names[1]: np.uint8([1, 0, 2])})
    read = data.open(tmp_path / "d.npz")
    assert read.X.shape == (3, 2)
    np.testing.assert_array_equal(read.labels, [1, 0, 2])
    assert read.labels.dtype == np.int64


def test_a_single_array_of_an_npz_may_have_any_name(tmp_path):
    np.savez(tmp_path / "d.npz", spectra=np.ones((3, 2)))
    assert data.open(tmp_path / "d.npz").X.shape == (3, 2)


def test_ignored_arrays_of_an_npz_are_noted(tmp_path):
    np.savez(tmp_path / "d.npz", X=np.ones((3, 2)), wavelengths=np.ones(2))
    assert data.open(tmp_path / "d.npz").notes == ("d.npz: arrays ignored: wavelengths",)


def test_an_npz_with_unknown_names_is_refused_with_a_list_of_its_arrays(tmp_path, refused):
    np.savez(tmp_path / "d.npz", left=np.ones((3, 2)), right=np.ones((3, 2)))
    with refused("contains the arrays left, right; name the rows X and the labels y"):
        data.open(tmp_path / "d.npz")


def test_splits_of_an_npz_are_selected_and_joined(tmp_path):
    parts = {"x_train": np.zeros((4, 2)), "y_train": np.arange(4), "x_test": np.ones((2, 2)), "y_test": np.arange(2)}
    path = tmp_path / "d.npz"
    np.savez(path, **parts)
    assert data.open(path).name == "d:train"
    assert data.open(path, split="test").X.shape == (2, 2)
    assert data.open(f"{path}:test").X.shape == (2, 2)
    whole = data.open(path, split="all")
    np.testing.assert_array_equal(whole.labels, [0, 1, 2, 3, 0, 1])
    assert whole.X.sum() == 4


def test_an_unknown_split_of_an_npz_is_refused(tmp_path, refused):
    np.savez(tmp_path / "d.npz", x_train=np.zeros((4, 2)), x_test=np.zeros((4, 2)))
    with refused("no split 'valid'; choose one of train, test, all"):
        data.open(tmp_path / "d.npz", split="valid")
    np.savez(tmp_path / "e.npz", X=np.zeros((4, 2)))
    with refused("has no splits; omit the split 'train'"):
        data.open(tmp_path / "e.npz", split="train")


def test_splits_of_different_width_are_not_joined(tmp_path, refused):
    np.savez(tmp_path / "d.npz", x_train=np.zeros((4, 2)), x_test=np.zeros((4, 3)))
    with refused("cannot be joined: x_train (4, 2), x_test (4, 3); choose one split"):
        data.open(tmp_path / "d.npz", split="all")


def test_labels_of_another_length_are_refused(tmp_path, refused):
    np.savez(tmp_path / "d.npz", X=np.zeros((4, 2)), y=np.zeros(3))
    with refused("d.npz, array y: labels of shape (3,) for 4 rows; one label per row"):
        data.open(tmp_path / "d.npz")


def test_sparse_rows_saved_by_scipy_stay_sparse(tmp_path):
    X = sparse.random(6, 9, density=0.3, format="csc", random_state=0)
    sparse.save_npz(tmp_path / "d.npz", X)
    read = data.open(tmp_path / "d.npz")
    assert read.X.format == "csr"
    np.testing.assert_array_equal(read.X.toarray(), X.toarray())


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_truncated_npz_is_refused(tmp_path, refused, keep, rng):
    path = tmp_path / "d.npz"
    np.savez_compressed(path, X=rng.normal(size=(100, 20)))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with refused(f"{path}: not a complete .npz file", "copy or save it again"):
        data.open(path)


def test_an_npz_damaged_in_the_middle_is_refused(tmp_path, refused, rng):
    path = tmp_path / "d.npz"
    np.savez_compressed(path, X=rng.normal(size=(100, 20)))
    content = bytearray(path.read_bytes())
    content[5000:5100] = bytes(100)
    path.write_bytes(bytes(content))
    with refused(f"{path}: not a complete .npz file", "copy or save it again"):
        data.open(path)


def test_a_pickle_in_npz_is_never_loaded(tmp_path, refused):
    np.savez(tmp_path / "d.npz", X=np.array([[{}]], dtype=object))
    with refused("contains pickled Python objects, which are never loaded"):
        data.open(tmp_path / "d.npz")


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("stem", ["d-images-idx3-ubyte", "d-images.idx3-ubyte"])
def test_idx_images_have_the_labels_of_the_file_next_to_them(tmp_path, rng, zipped, stem):
    X = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    pack, suffix = (gzip.compress, ".gz") if zipped else (bytes, "")
    (tmp_path / (stem + suffix)).write_bytes(pack(idx(X)))
    labels = stem.replace("images", "labels").replace("idx3", "idx1") + suffix
    (tmp_path / labels).write_bytes(pack(idx(np.uint8([3, 1, 4, 1]))))
    read = data.open(tmp_path / (stem + suffix))
    np.testing.assert_array_equal(read.X, X)
    np.testing.assert_array_equal(read.labels, [3, 1, 4, 1])
    assert read.name == "d-images"


@pytest.mark.parametrize(("code", "dtype"), [(0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")])
def test_every_number_type_of_idx_is_converted_to_native_byte_order(tmp_path, code, dtype):
    X = np.array([[1, -2], [300, 4]], dtype)
    (tmp_path / "rows.idx").write_bytes(idx(X, code))
    read = data.open(tmp_path / "rows.idx").X
    np.testing.assert_array_equal(read, X)
    assert read.dtype.isnative


def test_a_truncated_idx_is_refused_with_both_sizes(tmp_path, refused):
    path = tmp_path / "a-idx3-ubyte"
    path.write_bytes(idx(np.zeros((4, 5, 3), np.uint8))[:-7])
    with refused(f"{path}: an IDX array (4, 5, 3) has 60 bytes, and the file contains 53; copy"):
        data.open(path)
    path.write_bytes(idx(np.zeros((4, 5, 3), np.uint8))[:9])
    with refused(f"{path}: truncated within the IDX header"):
        data.open(path)


def test_a_truncated_gzip_is_refused(tmp_path, refused, rng):
    path = tmp_path / "a-idx3-ubyte.gz"
    whole = gzip.compress(idx(rng.integers(0, 256, (40, 5, 3), dtype=np.uint8)))
    path.write_bytes(whole[: len(whole) // 2])
    with refused(f"{path}: truncated or damaged (", "copy or download it again"):
        data.open(path)


def test_a_file_of_another_format_under_an_idx_name_is_refused(tmp_path, refused):
    path = tmp_path / "a-idx3-ubyte.gz"
    path.write_bytes(b"<html>not found</html>")
    with refused(f"{path}: not an IDX file: it starts with the bytes 3c 68 74 6d"):
        data.open(path)


def test_idx_labels_without_images_are_refused(tmp_path, refused):
    path = tmp_path / "a-labels-idx1-ubyte"
    path.write_bytes(idx(np.uint8([1, 2])))
    with refused(f"{path}: contains one number per row, probably labels; name the file with the images"):
        data.open(path)


def test_rows_beside_their_mean_are_no_split(tmp_path):
    np.savez(tmp_path / "rows.npz", X=np.eye(3), y=np.arange(3), x_mean=np.zeros(3))
    read = data.open(tmp_path / "rows.npz")
    assert read.X.shape == (3, 3)
    assert read.labels.tolist() == [0, 1, 2]


def test_splits_beside_a_mean_are_the_arrays_of_rows(tmp_path):
    np.savez(tmp_path / "rows.npz", x_train=np.eye(3), x_test=np.ones((2, 3)), x_mean=np.zeros(3))
    assert data.open(tmp_path / "rows.npz", split="all").X.shape == (5, 3)


def test_labels_of_some_splits_are_ignored_with_a_note(tmp_path):
    np.savez(tmp_path / "rows.npz", x_train=np.eye(3), y_train=np.arange(3), x_test=np.ones((2, 3)))
    read = data.open(tmp_path / "rows.npz", split="all")
    assert read.labels is None
    assert "there is no array y_test" in read.notes[0]
