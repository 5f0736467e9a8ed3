"""Compare the search of an index with faiss's own: python -m benchmarks.retrieval [ROWS] [REPEATS] [--columns N].

The rows are normal numbers, and the index has 64 bits each. They are made, encoded and added in blocks, so that ten
million rows need little memory. Every alternative searches the same bits for the same queries. `index` is
`Index.search_bits`; `with codes` is `Index.search`, which encodes the queries too. The rows for which a condition holds
are found in the first call, which is measured apart. At last another process adds blocks while the index is searched:
each search reads the latest version, and the numbers of its rows say whether it holds whole blocks.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.quality import positive
from isthmus import Index, LinearAutoencoder
from isthmus.retrieval import extras
from isthmus.retrieval.multi_index import MultiIndex

N_BITS, K = 64, 10
SHARES = (0.01, 0.1, 1.0)
BLOCK, MAX_MULTI_INDEX = 1_000_000, 2_000_000
ADDED_BLOCKS, ADDED_ROWS, PAUSE_SECONDS, ALONE_SECONDS = 8, 50_000, 0.5, 5.0


def main() -> None:
    """Read the arguments and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.retrieval", description=(__doc__ or "").splitlines()[0]
    )  # fmt: skip
    parser.add_argument("rows", type=positive, nargs="?", default=1_000_000, help="rows of the index, default 1000000")
    parser.add_argument("repeats", type=positive, nargs="?", default=3, help="runs of each alternative, default 3")
    parser.add_argument("--columns", type=positive, default=64, help="columns of the rows and units, default 64")
    arguments = parser.parse_args()
    print(f"faiss {extras.faiss().__version__}, lancedb {extras.lancedb().__version__}, "
          f"{torch.get_num_threads()} threads")  # fmt: skip
    print(*run(arguments.rows, arguments.repeats, arguments.columns), sep="\n", flush=True)


def run(n_rows: int, repeats: int, n_columns: int = 64) -> list[str]:
    """Build an index in a temporary folder and measure it."""
    model = LinearAutoencoder(code_size=n_columns, max_epochs=1, random_state=0).fit(normal(0, 5000, n_columns))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "index")
        encoded = built = 0.0
        for start in range(0, n_rows, BLOCK):
            X = normal(start, min(BLOCK, n_rows - start), n_columns)
            columns = {"share": (start + np.arange(len(X))) / n_rows}
            encoded += seconds(lambda X=X: model.transform(X))
            built += seconds(lambda X=X, columns=columns, start=start: grow(path, model, X, columns, start))
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        index = Index.open(path)
        opened = seconds(lambda: index.row_numbers)
        lines = [
            f"build of {n_rows} rows: {n_rows / built:.0f} rows/s (encoding alone {n_rows / encoded:.0f}), "
            f"bits read in {opened:.2f} s",
            f"bytes a row: 8 of bits and 8 of its number in memory; {size / n_rows:.0f} on disk, with {4 * n_columns} "
            f"of its code and {4 * n_columns + 8} of its columns",
        ]
        lines += [*searches(index, model, n_rows, repeats), *while_appending(path, n_columns)]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return [*lines, f"largest memory of the process: {peak:.1f} GiB"]


def normal(seed: int, n_rows: int, n_columns: int) -> np.ndarray:
    """Return rows of normal numbers."""
    return np.random.default_rng(seed).standard_normal((n_rows, n_columns), np.float32)


def grow(path: Path, model: Any, X: np.ndarray, columns: dict[str, np.ndarray], start: int) -> None:
    """Build an index of the first block of rows, or add one."""
    if start:
        Index.open(path, model=model).add(X, columns=columns)
    else:
        Index.build(model, X, path, columns=columns, n_bits=N_BITS)


def searches(index: Index, model: Any, n_rows: int, repeats: int) -> list[str]:
    """Compare queries/s, many queries in one call and one query a call."""
    n_columns = model.code_size_
    queries = normal(1, min(1000, max(10**9 // n_rows, 100)), n_columns)
    bits = index.bits.packed(model.transform(queries))
    parts = (normal(start, min(BLOCK, n_rows - start), n_columns) for start in range(0, n_rows, BLOCK))
    codes = np.concatenate([index.bits.packed(model.transform(X)) for X in parts])
    flat = extras.faiss().IndexBinaryFlat(N_BITS)
    flat.add(codes)
    calls: dict[str, Callable[[slice], object]] = {
        "faiss": lambda part: flat.search(bits[part], K),
        "index": lambda part: index.search_bits(bits[part], K),
        "with codes": lambda part: index.search(queries[part], K),
        "re-ranked": lambda part: index.search(queries[part], K, rerank="codes"),
    }
    if n_rows <= MAX_MULTI_INDEX:
        tables = MultiIndex(codes)
        calls["multi-index"] = lambda part: tables.search(bits[part], K)
    lines = []
    for share in SHARES:
        where = f"share < {share!r}"
        calls[f"where {share:.0%}"] = lambda part, where=where: index.search_bits(bits[part], K, where=where)
        first = seconds(lambda call=calls[f"where {share:.0%}"]: call(slice(1)))
        lines.append(f"first query with a condition that {share:.0%} of the rows fulfil: {1000 * first:.0f} ms")
    lines += [f"{'queries/s':12s}  {f'{len(bits)} a call':>11s}  ratio  {'1 a call':>9s}  ratio"]
    speeds = {name: [] for name in calls}
    n_single = min(50, len(bits) // 5)
    for _ in range(repeats):
        for name, call in calls.items():
            batch = len(bits) / seconds(lambda call=call: call(slice(None)))
            single = n_single / seconds(lambda call=call: [call(slice(i, i + 1)) for i in range(n_single)])
            speeds[name].append((batch, single))
    base = np.median(speeds["faiss"], axis=0)
    for name, found in speeds.items():
        batch, single = np.median(found, axis=0)
        lines.append(f"{name:12s}  {batch:11.0f}  {batch / base[0]:5.2f}  {single:9.0f}  {single / base[1]:5.2f}")
    return lines


def while_appending(path: Path, n_columns: int) -> list[str]:
    """Compare queries/s, one a call, before, while and after another process adds blocks of rows."""
    index = Index.open(path)
    bits, n_before = index.bits.packed(index.model.transform(normal(2, 100, n_columns))), len(index)
    context = get_context("spawn")
    ready, done = context.Event(), context.Event()
    writer = context.Process(target=append, args=(str(path), n_columns, ready, done))
    began = time.perf_counter()
    alone = [search_until(index, bits, lambda: time.perf_counter() - began > ALONE_SECONDS)[0]]
    writer.start()
    ready.wait()
    began = time.perf_counter()
    beside, sizes = search_until(index, bits, done.is_set)
    added = ADDED_BLOCKS * ADDED_ROWS / (time.perf_counter() - began)
    writer.join()
    began = time.perf_counter()
    speed, after = search_until(index, bits, lambda: time.perf_counter() - began > ALONE_SECONDS)
    alone.append(speed)
    known = {n_before + i * ADDED_ROWS for i in range(ADDED_BLOCKS + 1)}
    if writer.exitcode or not sizes <= known or after != {max(known)}:
        raise RuntimeError(f"searches saw {sorted(sizes | after)} rows; complete are {sorted(known)}")
    load = f"{ADDED_BLOCKS} blocks of {ADDED_ROWS} rows, with pauses of {PAUSE_SECONDS:g} s"
    return [
        f"queries/s, one a call with the latest version: {np.mean(alone):.0f} alone, {beside:.0f} while another "
        f"process adds {load} ({beside / np.mean(alone):.2f}; {added:.0f} rows/s)",
        f"each search saw whole blocks: {len(sizes)} versions",
    ]


def search_until(index: Index, bits: np.ndarray, is_done: Callable[[], bool]) -> tuple[float, set[int]]:
    """Search the latest version until something holds; return queries/s and the numbers of rows that searches saw."""
    index.refresh()
    index.search_bits(bits[:1], K)  # reads the bits
    began, n, sizes = time.perf_counter(), 0, set()
    while not n or not is_done():
        index.refresh()
        index.search_bits(bits[n % len(bits) :][:1], K)
        n += 1
        if len(index) not in sizes:
            sizes.add(len(index))
            if index.row_numbers[-1] != len(index) - 1:
                raise RuntimeError(f"{len(index)} rows with numbers up to {index.row_numbers[-1]}: a part of a block")
    return n / (time.perf_counter() - began), sizes


def append(path: str, n_columns: int, ready: Any, done: Any) -> None:
    """Add blocks of rows to an index, with pauses; `ready` and `done` are events."""
    index = Index.open(path)
    ready.set()
    try:
        for block in range(ADDED_BLOCKS):
            index.add(normal(10**9 + block, ADDED_ROWS, n_columns), columns={"share": np.ones(ADDED_ROWS)})
            time.sleep(PAUSE_SECONDS)
    finally:
        done.set()


def seconds(call: Callable[[], object]) -> float:
    """Return the time of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
