"""The content of an index: the model and its fingerprint, the map to bits, and rows as Arrow record batches."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from isthmus.data.dataset import index_columns, is_row_numbers
from isthmus.data.preprocessing import n_rows_of
from isthmus.errors import InputError, pluralize
from isthmus.estimators import inputs
from isthmus.estimators.base import BaseAutoencoder
from isthmus.estimators.registry import load
from isthmus.files import content_digest
from isthmus.retrieval.bits import CodeBits
from isthmus.retrieval.kept_rows import BITS, CODE, ROW, KeptRows, block_size, taken

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def fingerprint(model: BaseAutoencoder) -> str:
    """Return the SHA-256 of the weights and the preprocessing of a fitted model, on which its codes depend.

    Example:
        >>> from isthmus import LinearAutoencoder
        >>> X = np.random.default_rng(0).normal(size=(20, 3))
        >>> a, b = (fingerprint(LinearAutoencoder(code_size=2, max_epochs=1, random_state=i).fit(X)) for i in (0, 1))
        >>> len(a), a == b
        (64, False)
    """
    tensors, header = model._pack()
    return content_digest(tensors, {name: header[name] for name in ("kind", "preprocessing")})


def file_of(model: BaseAutoencoder) -> bytes:
    """Return the bytes of the file of a model."""
    if not hasattr(model, "transform") or not hasattr(model, "_pack"):
        raise InputError(f"{type(model).__name__} is not an autoencoder of isthmus; give a fitted one")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.isthmus")
        model.save(path)
        return path.read_bytes()


def model_in(content: bytes, device: str) -> BaseAutoencoder:
    """Return the model in the bytes of its file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.isthmus")
        path.write_bytes(content)
        model: BaseAutoencoder = load(path, device=device)
        return model


def tensors_to_bytes(bits: CodeBits) -> bytes:
    """Return the arrays of a map to bits as one safetensors file."""
    from safetensors.numpy import save

    return save(bits.tensors)


def bits_from_bytes(n_bits: int, content: bytes) -> CodeBits:
    """Return the map to bits that `tensors_to_bytes` wrote."""
    from safetensors.numpy import load as tensors_in

    return CodeBits(n_bits, **tensors_in(content))


def further_columns(
    X: Any, columns: pd.DataFrame | Mapping[str, Any] | None, identifiers: Sequence[str]
) -> tuple[pd.DataFrame | None, list[str]]:
    """Return the further columns of rows with the names of identifiers: given ones after those of the rows."""
    import pandas as pd

    parts, names = [], list(identifiers)
    if hasattr(X, "row_names") and getattr(X, "carried", None) is not None:
        parts.append(X.carried.reset_index(drop=True))
        names += [str(name) for name in X.carried.columns] if X.row_names is not None else []
    elif isinstance(X, pd.DataFrame) and not is_row_numbers(X.index):
        parts.append(index_columns(X.index).reset_index(drop=True))
        names += list(map(str, parts[0].columns))
    if columns is not None:
        parts.append(pd.DataFrame(columns).reset_index(drop=True))
    return (pd.concat(parts, axis=1) if parts else None), names


def checked_rows(model: BaseAutoencoder, X: Any, further: pd.DataFrame | None) -> int:
    """Return the number of rows, after all of them were checked.

    Raises:
        InputError: rows that the model refuses; another number of further values than of rows.
    """
    n = n_rows_of(X)
    if further is not None and len(further) != n:
        raise InputError(f"columns: {pluralize(len(further), 'row')}, and X has {n:,}; give one for each row")
    inputs.model_rows(model, X)
    return n


def index_schema(fields: Sequence[pa.Field], bits: CodeBits, code_size: int | None) -> pa.Schema:
    """Return the Arrow schema of an index: numbers, bits, codes of real numbers, and the columns of rows."""
    import pyarrow as pa

    own = [pa.field(ROW, pa.int64()), pa.field(BITS, pa.list_(pa.uint8(), -(-bits.n_bits // 8)))]
    if code_size is not None:
        own.append(pa.field(CODE, pa.list_(pa.float32(), code_size)))
    return pa.schema([*own, *fields])


def record_batches(
    model: BaseAutoencoder, bits: CodeBits, kept: KeptRows, schema: pa.Schema, X: Any, further: pd.DataFrame | None,
    first: int,
) -> Iterator[pa.RecordBatch]:  # fmt: skip
    """Yield rows as they are stored, block by block; the numbers of rows count up from `first`."""
    import pyarrow as pa

    n, size = n_rows_of(X), block_size(X)
    for start in range(0, n, size):
        part = slice(start, min(start + size, n))
        block = taken(X, part)
        codes = np.asarray(model.transform(block))
        columns = {ROW: pa.array(np.arange(first + part.start, first + part.stop))}
        columns[BITS] = _lists(bits.packed(codes), schema.field(BITS).type)
        if CODE in schema.names:
            columns[CODE] = _lists(codes.astype(np.float32, copy=False), schema.field(CODE).type)
        columns |= kept.arrays(block, None if further is None else further.iloc[part], schema)
        yield pa.record_batch([columns[name] for name in schema.names], schema=schema)


def _lists(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Return the rows of a matrix as lists of one size."""
    import pyarrow as pa

    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=kind)
