"""Compare the search of an index with faiss's own: python -m benchmarks.retrieval [ROWS] [REPEATS].

The rows are normal numbers with 64 columns, and the index has 64 bits each. Every alternative searches the same bits
for the same queries. `index` is `Index.search_bits`; `with codes` is `Index.search`, which encodes the queries too. The
rows for which a condition holds are found in the first call, which is measured apart.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.quality import positive
from isthmus import Index, LinearAutoencoder
from isthmus.retrieval import extras
from isthmus.retrieval.multi_index import MultiIndex

N_COLUMNS, N_QUERIES, K = 64, 1000, 10
SHARES = (0.01, 0.1, 1.0)


def main() -> None:
    """Read the arguments and print the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.retrieval", description=(__doc__ or "").splitlines()[0]
    )  # fmt: skip
    parser.add_argument("rows", type=positive, nargs="?", default=1_000_000, help="rows of the index, default 1000000")
    parser.add_argument("repeats", type=positive, nargs="?", default=3, help="runs of each alternative, default 3")
    arguments = parser.parse_args()
    print(f"faiss {extras.faiss().__version__}, lancedb {extras.lancedb().__version__}, "
          f"{torch.get_num_threads()} threads")  # fmt: skip
    print(*run(arguments.rows, arguments.repeats), sep="\n", flush=True)


def run(n_rows: int, repeats: int) -> list[str]:
    """Build an index in a temporary folder and measure it."""
    X = np.random.default_rng(0).normal(size=(n_rows, N_COLUMNS)).astype(np.float32)
    model = LinearAutoencoder(code_size=N_COLUMNS, max_epochs=1, random_state=0).fit(X[:5000])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "index")
        encoded = seconds(lambda: model.transform(X))
        built = seconds(lambda: Index.build(model, X, path, columns={"share": np.arange(n_rows) / n_rows}))
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        opened = seconds(lambda: len(Index.open(path)))
        lines = [
            f"build of {n_rows} rows: {n_rows / built:.0f} rows/s (encoding alone {n_rows / encoded:.0f}), "
            f"opened in {opened:.2f} s",
            f"bytes a row: 8 of bits and 8 of its number in memory; {size / n_rows:.0f} on disk, with {4 * N_COLUMNS} "
            f"of its code and {4 * N_COLUMNS + 8} of its columns",
        ]
        return [*lines, *searches(Index.open(path), X, repeats)]


def searches(index: Index, X: np.ndarray, repeats: int) -> list[str]:
    """Compare queries/s, all queries in one call and one query a call."""
    queries = np.random.default_rng(1).normal(size=(N_QUERIES, N_COLUMNS)).astype(np.float32)
    bits = index.bits.packed(index.model.transform(queries))
    flat, tables = extras.faiss().IndexBinaryFlat(N_COLUMNS), MultiIndex(index.bits.packed(index.model.transform(X)))
    flat.add(index.bits.packed(index.model.transform(X)))
    calls: dict[str, Callable[[slice], object]] = {
        "faiss": lambda part: flat.search(bits[part], K),
        "index": lambda part: index.search_bits(bits[part], K),
        "with codes": lambda part: index.search(queries[part], K),
        "re-ranked": lambda part: index.search(queries[part], K, rerank="codes"),
        "multi-index": lambda part: tables.search(bits[part], K),
    }
    lines = []
    for share in SHARES:
        where = f"share < {share!r}"
        calls[f"where {share:.0%}"] = lambda part, where=where: index.search_bits(bits[part], K, where=where)
        first = seconds(lambda call=calls[f"where {share:.0%}"]: call(slice(1)))
        lines.append(f"first query with a condition that {share:.0%} of the rows fulfil: {1000 * first:.0f} ms")
    lines += [f"{'queries/s':12s}  {'1000 a call':>11s}  ratio  {'1 a call':>9s}  ratio"]
    speeds = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            batch = N_QUERIES / seconds(lambda call=call: call(slice(None)))
            single = 50 / seconds(lambda call=call: [call(slice(i, i + 1)) for i in range(50)])
            speeds[name].append((batch, single))
    base = np.median(speeds["faiss"], axis=0)
    for name, found in speeds.items():
        batch, single = np.median(found, axis=0)
        lines.append(f"{name:12s}  {batch:11.0f}  {batch / base[0]:5.2f}  {single:9.0f}  {single / base[1]:5.2f}")
    return lines


def seconds(call: Callable[[], object]) -> float:
    """Return the time of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
