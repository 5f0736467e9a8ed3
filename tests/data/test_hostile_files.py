"""Damaged and malicious files: each is read or leaves an `InputError` of one line, before memory is allocated."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import struct
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import feather, parquet
from scipy import sparse

import isthmus.data as data
from isthmus.data import image_limits, packed
from isthmus.errors import InputError

MUTATIONS = 100


def npy_header(shape, descr="<f8"):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"shape": shape, "descr": descr, "fortran_order": False})
    return file.getvalue()


def idx_header(*shape):
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)


def zipped(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def lying_zip(path, header, n_stored, n_promised):
    """Write an .npz file whose directory promises another size than its member holds."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    content = header + bytes(n_stored)
    body = packer.compress(content) + packer.flush()
    sizes = struct.pack("<III", zlib.crc32(content), len(body), n_promised)
    local = struct.pack("<IHHHHH", 0x04034B50, 20, 0, 8, 0, 0) + sizes + struct.pack("<HH", 5, 0) + b"X.npy"
    entry = struct.pack("<IHHHHHH", 0x02014B50, 20, 20, 0, 8, 0, 0) + sizes
    entry += struct.pack("<HHHHHII", 5, 0, 0, 0, 0, 0, 0) + b"X.npy"
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, len(entry), len(local) + len(body), 0)
    path.write_bytes(local + body + entry + end)
    return path


def gzipped(path, first, n_bytes, block=bytes(2**20)):
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(first)
        for _ in range(n_bytes // len(block)):
            file.write(block)
    return path


def png(path, height, width, rows=None, depth=1, colour=0):
    """Write a black PNG file, with fewer rows than its header promises if `rows` is given."""
    channels = {0: 1, 2: 3, 6: 4}[colour]
    content = zlib.compress(bytes((1 + -(-width * depth * channels // 8)) * (height if rows is None else rows)))

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    path.parent.mkdir(exist_ok=True)
    signature = b"\x89PNG\r\n\x1a\n"
    path.write_bytes(signature + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b""))
    return path.parent


CSR = {"format": "csr", "shape": [2, 3], "data": [1.0, 1.0], "indices": [0, 1], "indptr": [0, 1, 2]}
COO = {"format": "coo", "shape": [2, 3], "data": [1.0, 1.0], "row": [0, 1], "col": [0, 1]}
BSR = CSR | {"format": "bsr", "shape": [4, 4], "data": np.ones((2, 2, 2))}
DIA = {"format": "dia", "shape": [3, 3], "data": np.ones((2, 3)), "offsets": [0, 1]}


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (CSR | {"indices": [0, 10**8]}, "needs indices from 0 to 2, and the file has 100,000,000"),
        (CSR | {"indices": [0, -1]}, "needs indices from 0 to 2, and the file has -1"),
        (CSR | {"indices": np.array([0, 2**64 - 1], np.uint64)}, "and the file has 18,446,744,073,709,551,615"),
        (CSR | {"indices": [0.0, 1.0]}, "array indices: float64 of shape (2,); the indices of a sparse matrix are"),
        (CSR | {"indices": [[0, 1]]}, "array indices: int64 of shape (1, 2)"),
        (CSR | {"indices": [0]}, "needs one index per value, and the file has 1 indices for 2 values"),
        (CSR | {"indptr": [0, 10**9, 2]}, "needs index pointers that rise from 0 to 2"),
        (CSR | {"indptr": [0, 2, 1]}, "needs index pointers that rise from 0 to 2"),
        (CSR | {"indptr": [1, 1, 2]}, "needs index pointers that rise from 0 to 2"),
        (CSR | {"indptr": [0, 2]}, "needs 3 index pointers, and the file has 2"),
        (CSR | {"shape": [2, 3, 4]}, "a sparse matrix of shape (3,); it must be two numbers"),
        (CSR | {"shape": [-2, 3]}, "a sparse matrix of shape [-2, 3]; it must be two numbers"),
        (CSR | {"shape": [10**12, 3]}, "a sparse matrix of 1,000,000,000,000 rows and 3 columns with 2 values"),
        (CSR | {"shape": [2, 10**15]}, "2 rows and 1,000,000,000,000,000 columns with 2 values; save it again, witho"),
        (CSR | {"shape": [0, 3], "data": [], "indices": [0][:0], "indptr": [0]}, "the array has no rows"),
        (CSR | {"format": "csc", "indptr": [0, 1, 2, 2], "indices": [0, 2]}, "needs indices from 0 to 1, and the fil"),
        (CSR | {"format": "xyz"}, "unknown format; known are csr, csc, bsr, coo, dia"),
        (CSR | {"format": 5}, "unknown format; known are csr, csc, bsr, coo, dia"),
        (CSR | {"data": ["a", "b"]}, "the array contains text (<U1)"),
        (CSR | {"data": [[1.0, 1.0]]}, "format csr with data of shape (1, 2)"),
        ({name: CSR[name] for name in CSR if name != "indptr"}, "format csr without the array indptr"),
        (COO | {"col": [0, 3]}, "needs indices from 0 to 2, and the file has 3"),
        (COO | {"shape": [10**12, 3]}, "a sparse matrix of 1,000,000,000,000 rows and 3 columns with 2 values"),
        (BSR | {"indices": [0, 10**8]}, "needs indices from 0 to 1, and the file has 100,000,000"),
        (BSR | {"shape": [5, 4]}, "blocks of shape (2, 2) in a sparse matrix of shape (5, 4)"),
        (DIA | {"offsets": [0, 0]}, "needs one offset per diagonal, within the matrix"),
        (DIA | {"offsets": [0, 2**40]}, "needs one offset per diagonal, within the matrix"),
        (DIA | {"shape": [10**12, 10**12]}, "a sparse matrix of 1,000,000,000,000 rows and 1,0"),
    ],
)
def test_a_sparse_matrix_with_indices_outside_its_shape_is_refused(tmp_path, refused, parts, words):
    """scipy reads such a matrix without a check and ends in a segmentation fault."""
    parts = {name: np.asarray(part) if name != "indices" else np.asarray(part, getattr(part, "dtype", None))
             for name, part in parts.items()}  # fmt: skip
    if parts["shape"].tolist()[0] == 0:
        parts["indices"] = parts["indices"].astype(int)
    np.savez(tmp_path / "d.npz", **parts)
    with refused(f"{tmp_path / 'd.npz'}", words):
        data.open(tmp_path / "d.npz")


@pytest.mark.parametrize("kind", ["csr", "csc", "bsr", "coo", "dia"])
@pytest.mark.parametrize("dtype", ["<f8", ">f8", ">f4", "i2", "?"])
def test_sparse_matrices_of_every_format_and_byte_order_are_read(tmp_path, kind, dtype):
    X = sparse.random(6, 8, density=0.4, format="csr", random_state=0)
    X.data = np.ceil(3 * X.data)
    stored = X.asformat(kind)
    sparse.save_npz(tmp_path / "d.npz", stored)
    parts = dict(np.load(tmp_path / "d.npz"))
    parts["data"] = parts["data"].astype(dtype)
    np.savez(tmp_path / "d.npz", **parts)
    read = data.open(tmp_path / "d.npz").X
    assert read.format == "csr"
    assert read.dtype.isnative
    np.testing.assert_array_equal(read.toarray(), X.toarray().astype(dtype))


def test_unsorted_and_repeated_indices_of_a_sparse_matrix_are_read(tmp_path):
    np.savez(tmp_path / "d.npz", **CSR | {"data": [1.0, 2.0, 4.0], "indices": [2, 0, 2], "indptr": [0, 3, 3]})
    assert data.open(tmp_path / "d.npz").X.toarray().tolist() == [[2, 0, 5], [0, 0, 0]]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [">f4", ">i2", ">f8", "<f8", "?", "f2"])
def test_arrays_of_any_byte_order_and_layout_are_read(tmp_path, order, dtype, rng):
    X = rng.integers(0, 9, (5, 4, 3)).astype(dtype).copy(order)
    np.save(tmp_path / "a.npy", X)
    np.savez(tmp_path / "a.npz", X=X)
    for source in (tmp_path / "a.npy", tmp_path / "a.npz", X, X[::-1], X[:, ::2]):
        read = data.open(source).X
        expected = source if isinstance(source, np.ndarray) else X
        np.testing.assert_array_equal(read, expected)
        assert read.dtype.isnative


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"X.npy": npy_header((10**6, 10**6)) + bytes(100)}, "has 8,000,000,000,000 bytes, and the file promises 100"),
        ({"X.npy": npy_header((-2, 2)) + bytes(32)}, "negative size in the shape (-2, 2)"),
        ({"X.npy": npy_header((2, 2)) + bytes(33)}, "has 32 bytes, and the file promises 33"),
        ({"X.npy": b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31)}, "a header of 2,147,483,648 bytes"),
        ({"X.npy": b"\x93NUMPY\x09\x00 "}, "unknown version 9.0 of the format"),
        ({"X.npy": npy_header((2, 2)) + bytes(32), "y.npy": npy_header((10**12,))}, "array y: damaged"),
        ({"X.npy": npy_header((2, 2)) + bytes(32), "y.npy": npy_header((3,)) + bytes(24)}, "(3,) for 2 rows"),
        ({"a\nb.npy": b"", "c\x1b[31m.npy": b""}, r"contains the arrays a\nb, c\x1b[31m"),
    ],
)
def test_an_npz_member_is_compared_with_its_header(tmp_path, refused, members, words):
    with refused(f"{tmp_path / 'd.npz'}", words):
        data.open(zipped(tmp_path / "d.npz", members))


def test_unusual_zip_files_are_refused(tmp_path, refused, monkeypatch):
    member = {"X.npy": npy_header((2, 2)) + bytes(32)}
    with refused("X.npy: compressed by method 14; only stored and deflated are read"):
        data.open(zipped(tmp_path / "a.npz", member, zipfile.ZIP_LZMA))
    monkeypatch.setattr(packed, "_MAX_DIRECTORY", 1000)
    with refused("the zip directory has", "thousands of members"):
        data.open(zipped(tmp_path / "b.npz", {f"a{i}.npy": b"" for i in range(100)}))
    content = bytearray(zipped(tmp_path / "c.npz", member).read_bytes())
    content[6] |= 1
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "c.npz").write_bytes(content)
    with refused("X.npy: encrypted; save the file without a password"):
        data.open(tmp_path / "c.npz")


def test_an_array_above_the_memory_is_refused(tmp_path, refused, monkeypatch):
    np.savez_compressed(tmp_path / "d.npz", X=np.zeros((100, 10)))
    monkeypatch.setattr(packed, "_memory", lambda: 1000)
    with refused("d.npz, X.npy: needs 0.0 GiB, and this computer has 0.0 GiB of memory; save an array as .npy"):
        data.open(tmp_path / "d.npz")


@pytest.mark.parametrize("metadata", [b"{", b"[]", b"\xff\xfe", b"{}", b"null", b"[" * 100_000])
def test_damaged_pandas_metadata_of_parquet_are_ignored(tmp_path, metadata):
    table = pa.table({"a": [1, 2], "b": ["x", "y"]}).replace_schema_metadata({b"pandas": metadata})
    parquet.write_table(table, tmp_path / "t.parquet")
    read = data.open(tmp_path / "t.parquet")
    assert read.X.to_dict("list") == {"a": [1, 2], "b": ["x", "y"]}
    assert all("damaged metadata of pandas were ignored" in note for note in read.notes)


@pytest.mark.parametrize("part", ["columns", "index_columns", "column_indexes"])
@pytest.mark.parametrize("value", ["a", 5, None, [[]], {"x": 1}, ["zzz"]])
def test_parts_of_pandas_metadata_that_are_wrong_are_ignored(tmp_path, part, value):
    table = pa.Table.from_pandas(pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}, index=["p", "q"]))
    metadata = json.loads(table.schema.metadata[b"pandas"]) | {part: value}
    parquet.write_table(table.replace_schema_metadata({b"pandas": json.dumps(metadata)}), tmp_path / "t.parquet")
    assert data.open(tmp_path / "t.parquet").X.shape[0] == 2


def test_an_arrow_file_with_offsets_or_indices_out_of_bounds_is_refused(tmp_path, refused):
    def arrow(column):
        table = pa.table({"a": column})
        with pa.ipc.new_file(str(tmp_path / "t.feather"), table.schema) as writer:
            writer.write_table(table)
        return tmp_path / "t.feather"

    offsets = pa.py_buffer(struct.pack("<3i", 0, 10**6, 3))
    with refused("not a complete Arrow file", "out of bounds", "copy or save it again"):
        data.open(arrow(pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"abc")])))
    indices = pa.array([0, 10**6], pa.int32())
    with refused("not a complete Arrow file", "out of bounds"):
        data.open(arrow(pa.DictionaryArray.from_arrays(indices, pa.array(["x"]), safe=False)))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": ' + "[" * 100_000, "line 1 cannot be read (maximum recursion depth exceeded"),
        ('{"a": ' + "9" * 5000 + "}", "line 1 cannot be read (Exceeds the limit (4300 digits)"),
        ('{"text": "\\ud800"}', r"line 1 contains the incomplete character '\ud800'"),
        ('{"a": [' + "1," * 600_000 + "1]}", "line 1 has more than 500,000 values"),
        ("{}\n{}", "line 1 is an object without fields"),
        ("\n".join(f'{{"k{i}": 1}}' for i in range(2000)), "2,000 values in 2,000 rows and 2,000 columns"),
    ],
)
def test_hostile_json_lines_are_refused(tmp_path, refused, text, words):
    (tmp_path / "d.jsonl").write_text(text + "\n")
    with refused(f"{tmp_path / 'd.jsonl'}: ", words):
        data.open(tmp_path / "d.jsonl")


def test_rows_that_are_too_long_are_refused(tmp_path, refused):
    path = tmp_path / "d.csv"
    path.write_bytes(b"a,b\n1,2\n" + b"x" * (5 * 2**20))
    with refused(f"{path}: line 3 is longer than 4 MiB"):
        data.open(path)
    path.write_bytes(b'a,b\n1,"' + b"x\n" * (5 * 2**20))
    with refused(f"{path}: contains a row longer than 4 MiB; close an open quote"):
        data.open(path)
    path.write_bytes(b"," * 300_000 + b"\n1,2\n")
    with refused(f"{path}: line 1 starts a row of more than 4 MiB or 250,000 fields"):
        data.open(path)
    path.write_text(",".join(f"c{i}" for i in range(6000)) + "\n1,2\n")
    with refused(f"{path}: line 2 has 2 fields and line 1 has 6000"):
        data.open(path)


def test_pipes_and_devices_are_refused(tmp_path, refused):
    os.mkfifo(tmp_path / "a.csv")
    (tmp_path / "images").mkdir()
    os.mkfifo(tmp_path / "images" / "a.png")
    with refused(f"{tmp_path / 'a.csv'}: neither a file nor a folder; copy its content to a file"):
        data.open(tmp_path / "a.csv")
    with refused(f"{tmp_path / 'images' / 'a.png'}: not a regular file; remove it from the folder"):
        data.open(tmp_path / "images")


def test_only_formats_of_images_are_tried(tmp_path, refused):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nquit\n")
    with refused("not a readable image (cannot identify image file 'a.png')"):
        data.open(tmp_path)


def short_tiff(path):
    """Write a TIFF file of one strip that holds fewer rows than its header promises."""
    strip = zlib.compress(bytes(2**20))
    tags = [(256, 4, 10_000), (257, 4, 10_000), (258, 3, 8), (259, 3, 8), (262, 3, 1), (273, 4, 8), (277, 3, 1)]
    tags += [(278, 4, 10_000), (279, 4, len(strip))]
    body = strip + bytes(120_000)
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    path.parent.mkdir()
    end = struct.pack("<H", len(tags)) + directory + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(body)) + body + end)
    return path.parent


def short_jpeg(path):
    path.parent.mkdir()
    Image.new("L", (4_000, 4_000), 77).save(path)
    path.write_bytes(path.read_bytes()[:40_000])
    return path.parent


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_large_photographs_are_read(tmp_path, suffix, mode, monkeypatch, rng):
    """The checks of large images accept whole ones."""
    monkeypatch.setattr(image_limits, "_LARGE", 1000)
    image = Image.fromarray(rng.integers(0, 256, (61, 45, 3), dtype=np.uint8)).convert(mode)
    image.save(tmp_path / f"a.{suffix}", **({"compression": "tiff_adobe_deflate"} if suffix == "tif" else {}))
    assert data.open(tmp_path).X.shape[1:3] == (61, 45)
    content = (tmp_path / f"a.{suffix}").read_bytes()
    (tmp_path / f"a.{suffix}").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError):
        data.open(tmp_path)


def bombs(folder):
    """Write small files of large content, and return the words of their refusals."""
    zeros = pa.table({"a": np.zeros(10**7)})
    parquet.write_table(zeros, folder / "rle.parquet", compression="zstd")
    parquet.write_table(pa.table({"a": ["a" * 2**20] * 300}), folder / "text.parquet", compression="zstd")
    feather.write_feather(pa.table({"a": pa.nulls(10**9)}), folder / "nulls.feather", compression="uncompressed")
    with pa.output_stream(str(folder / "rows.csv.zst"), compression="zstd") as file:
        file.write(b"a,b\n" + b"1,2\n" * 25_000_000)
    np.savez(folder / "rows.npz", **CSR | {"shape": [10**12, 3]})
    header = npy_header((120 * 2**17, 1))
    return {
        gzipped(folder / "a-idx3-ubyte.gz", idx_header(1, 27, 27), 100 * 2**20): "has 729 bytes, and the file conta",
        gzipped(folder / "b-idx3-ubyte.gz", idx_header(2**31, 2**31, 9), 2**20): "over 500 times their size",
        gzipped(folder / "c-idx3-ubyte.gz", idx_header(60, 2**10, 2**10), 45 * 2**20): "and the file contains 47,",
        zipped(folder / "tebibytes.npz", {"X.npy": npy_header((10**6, 10**6)) + bytes(9)}): "the file promises 9",
        lying_zip(folder / "more.npz", npy_header((9, 1)), 100 * 2**20, 80): "Bad CRC-32",
        lying_zip(folder / "less.npz", header, 2**10, len(header) + 120 * 2**20): "over 500 times their size",
        lying_zip(folder / "short.npz", npy_header((60, 2**17)), 45 * 2**20, 60 * 2**20 + 128): "47,186,048 are there",
        gzipped(folder / "line.jsonl.gz", b'{"text": "', 100 * 2**20, b"a" * 2**20): "line 1 is longer than 8 MiB",
        gzipped(folder / "line.csv.gz", b"a,b\n", 60 * 2**20, b"a" * 2**20): "longer than 4 MiB",
        folder / "rows.csv.zst": "over 500 times their size",
        folder / "rle.parquet": "over 500 times their size",
        folder / "text.parquet": "over 500 times their size",
        folder / "nulls.feather": "promises 8,000,000,000 bytes",
        folder / "rows.npz": "a sparse matrix of 1,000,000,000,000 rows",
        png(folder / "pixels" / "a.png", 20_000, 20_000): "more than 128 megapixels",
        png(folder / "rows" / "a.png", 11_000, 11_000, rows=100, depth=8, colour=6): "over 1,000 per byte",
        short_tiff(folder / "tiff" / "a.tif"): "the header promises 10000 x 10000 pixels",
        short_jpeg(folder / "jpeg" / "a.jpg"): "image file is truncated",
        png(folder / "short" / "a.png", 4_000, 4_000, rows=3_000, depth=8, colour=6): "more than its",
    }  # fmt: skip


OPEN_EACH = """
import sys, warnings
import isthmus.data, numpy, pandas, pyarrow.csv, pyarrow.feather, pyarrow.parquet, scipy.sparse, PIL.Image
from isthmus.errors import InputError

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024

start = peak()
for path in sys.argv[1:]:
    try:
        print("READ", isthmus.data.open(path))
    except InputError as error:
        print(f"{peak() - start:.1f}", error)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the peak of a process is read from /proc")
def test_files_that_promise_or_hold_too_much_are_refused_in_64_mib(tmp_path):
    expected = bombs(tmp_path)
    shown = subprocess.run(
        [sys.executable, "-c", OPEN_EACH, *map(str, expected)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert len(shown) == len(expected)
    for line, (path, words) in zip(shown, expected.items(), strict=True):
        mebibytes, message = line.split(" ", 1)
        assert words in message
        assert str(path) in message
        assert float(mebibytes) < 64, line


def write_mutable(folder, kind, variant, rng):
    """Write a small valid file, and return its path and the path to open."""
    n = 30
    frame = pd.DataFrame({
        "n": rng.integers(0, 9, n), "x": rng.normal(size=n), "s": rng.choice(["ab", "c", "é"], n),
        "c": pd.Categorical(rng.choice(["u", "v"], n)), "d": pd.date_range("2020", periods=n),
    })  # fmt: skip
    path = folder / {"idx": "a-idx3-ubyte", "idx.gz": "a-idx3-ubyte.gz", "sparse": "a.npz"}.get(kind, f"a.{kind}")
    images = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    if kind == "npy":
        np.save(path, [rng.normal(size=(9, 3)), images, np.asfortranarray(rng.normal(size=(6, 4)))][variant % 3])
    elif kind == "npz":
        (np.savez, np.savez_compressed)[variant % 2](path, X=images, y=np.array(list("abcd")))
    elif kind == "sparse":
        form = ("csr", "csc", "coo", "bsr", "dia")[variant % 5]
        sparse.save_npz(path, sparse.random(9, 8, 0.3, form, random_state=0), compressed=variant % 2 == 0)
    elif kind == "idx":
        path.write_bytes(idx_header(*images.shape) + images.tobytes())
    elif kind == "idx.gz":
        path.write_bytes(gzip.compress(idx_header(*images.shape) + images.tobytes()))
    elif kind == "parquet":
        (frame.set_index("s") if variant % 2 else frame).to_parquet(path, compression=("snappy", None)[variant % 2])
    elif kind == "feather":
        feather.write_feather(frame, path, compression=("lz4", "uncompressed")[variant % 2])
    elif kind in ("csv", "csv.gz"):
        frame.to_csv(path, index=bool(variant % 2))
    elif kind == "jsonl":
        frame.drop(columns="d").to_json(path, orient="records", lines=True)
    else:
        path = folder / "images" / path.name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)).save(path)
        return path, path.parent
    return path, path


def refusal_of(source):
    """Return the message of the refusal of a file, empty if it is read."""
    try:
        assert data.open(source).n_rows > 0
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "kind", ["npy", "npz", "sparse", "idx", "idx.gz", "parquet", "feather", "csv", "csv.gz", "jsonl", "png", "jpg"]
)
def test_a_file_with_one_to_eight_changed_bytes_is_read_or_refused_in_one_line(tmp_path, kind, rng):
    generator = random.Random(0)
    for attempt in range(MUTATIONS):
        if attempt % 10 == 0:
            path, source = write_mutable(tmp_path, kind, attempt // 10, rng)
            whole = path.read_bytes()
            data.open(source)
        content = bytearray(whole)
        for _ in range(generator.randint(1, 8)):
            near_an_end = generator.choice([0, len(content) - 1 - generator.randrange(min(300, len(content)))])
            at = generator.choice([generator.randrange(len(content)), near_an_end])
            content[at] = generator.choice([generator.randrange(256), content[at] ^ 1 << generator.randrange(8), 255])
        path.write_bytes(content)
        refusal = refusal_of(source)
        assert refusal.isprintable()
        assert not refusal or str(path.parent) in refusal or path.stem in refusal
