"""Indexes: answers equal those of plain arrays, after every change, in every form of rows; nothing is lost."""

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

import isthmus
from isthmus.errors import InputError
from isthmus.retrieval.bits import hamming
from isthmus.retrieval.encoding import fingerprint
from isthmus.retrieval.folders import new_folder
from isthmus.retrieval.kept_rows import KeptRows

SMALL = {"max_epochs": 1, "random_state": 0}


@functools.cache
def table(n=120):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=["price", "unit cost", "a.b"])
    return frame.assign(
        city=rng.choice(["Bern", "Oslo"], n), day=pd.Timestamp("2024-01-31") + pd.to_timedelta(frame.index, "D")
    )


@functools.cache
def model(seed=0):
    return isthmus.LinearAutoencoder(code_size=3, dtypes={"day": "date"}, max_epochs=1, random_state=seed).fit(table())


def built(path=None, **options):
    return isthmus.Index.build(model(), table(), path, **options)


def brute(index, X, k, allowed=None):
    """Return distances and row numbers from the bits of all rows by a stable sort."""
    rows = index.row_numbers
    codes = index.bits.packed(index.model.transform(index.rows(rows)))
    if allowed is not None:
        rows, codes = rows[np.isin(rows, allowed)], codes[np.isin(rows, allowed)]
    distances = hamming(index.bits.packed(index.model.transform(X))[:, None], codes[None])
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, 1), rows[order]


def assert_found(neighbours, expected):
    n = expected[0].shape[1]
    np.testing.assert_array_equal(neighbours.distances[:, :n], expected[0])
    np.testing.assert_array_equal(neighbours.rows[:, :n], expected[1])
    assert (neighbours.rows[:, n:] == -1).all()


@pytest.mark.parametrize("n_bits", [5, 16, 64])
@pytest.mark.parametrize(
    ("where", "holds"),
    [
        (None, lambda t: t["price"] == t["price"]),
        ("price < 0", lambda t: t["price"] < 0),
        ("`unit cost` > 0.5 and city = 'Oslo'", lambda t: (t["unit cost"] > 0.5) & (t["city"] == "Oslo")),
        ("a_b between -0.1 and 0.1", lambda t: t["a.b"].between(-0.1, 0.1)),
        ("day < timestamp '2024-02-05'", lambda t: t["day"] < pd.Timestamp("2024-02-05")),
        ("_row in (3, 7)", lambda t: t.index.isin([3, 7])),
        ("price > 99", lambda t: t["price"] > 99),
    ],
)
def test_answers_are_those_of_a_sort_of_the_rows_for_which_the_condition_holds(n_bits, where, holds):
    index, queries = built(n_bits=n_bits), table().iloc[:5]
    expected = brute(index, queries, 8, np.flatnonzero(holds(table())))
    assert_found(index.search(queries, 8, where=where), expected)


@settings(max_examples=12, deadline=None)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.lists(st.integers(0, 119), min_size=1, max_size=6)),
            st.tuples(st.just("remove"), st.lists(st.integers(0, 30), min_size=1, max_size=6)),
            st.tuples(st.just("cheaper"), st.floats(-1, 1)),
        ),
        max_size=6,
    )
)
def test_after_every_change_an_index_holds_the_rows_of_a_plain_list(steps):
    index = isthmus.Index.build(model(), table().iloc[:20])
    rows, following = {i: i for i in range(20)}, 20
    for step, value in steps:
        if step == "add":
            added = index.add(table().iloc[value])
            assert added.tolist() == list(range(following, following + len(value)))
            rows |= dict(zip(added.tolist(), value, strict=True))
            following += len(value)
        elif step == "remove":
            known = sorted(set(value) & set(rows))
            if known:
                assert index.remove(known) == len(known)
            rows = {row: place for row, place in rows.items() if row not in known}
        else:
            gone = {row for row, place in rows.items() if table()["price"][place] < value}
            assert index.remove(where=f"price < {value!r}") == len(gone)
            rows = {row: place for row, place in rows.items() if row not in gone}
        assert index.row_numbers.tolist() == sorted(rows)
    if not rows:
        with pytest.raises(InputError, match="the index is empty"):
            index.search(table().iloc[:1], 1)
        return
    kept = sorted(rows)
    pd.testing.assert_frame_equal(
        index.rows(kept), table().iloc[[rows[row] for row in kept]].reset_index(drop=True), check_dtype=False
    )
    k = min(5, len(rows))
    assert_found(index.search(table().iloc[:3], k), brute(index, table().iloc[:3], k))


@pytest.mark.parametrize(
    ("rerank", "space"),
    [
        ("codes", lambda X: model().transform(X)),
        ("rows", lambda X: np.concatenate([output.x.numpy() for output in model().read(X)])),
    ],
)
def test_reranking_orders_the_candidates_by_the_distance_of_codes_or_rows(rerank, space):
    index, queries = built(), table().iloc[40:44]  # there are as many candidates as rows, but for 20
    found = index.search(queries, 3, rerank=rerank)
    candidates = index.search(queries, 100).rows
    for i in range(len(queries)):
        own = np.sort(candidates[i])
        distances = np.linalg.norm(space(table().iloc[own]).astype(float) - space(queries.iloc[[i]]), axis=1)
        order = np.argsort(distances, kind="stable")[:3]
        np.testing.assert_array_equal(found.rows[i], own[order])
        np.testing.assert_allclose(found.distances[i], distances[order], atol=1e-6)


def test_reranking_by_cosine_orders_by_the_angle():
    index, query = built(), table().iloc[[9]]
    found, codes = index.search(query, 4, rerank="cosine"), model().transform(table()).astype(float)
    angle = 1 - codes @ codes[9] / np.linalg.norm(codes, axis=1) / np.linalg.norm(codes[9])
    np.testing.assert_allclose(found.distances[0], angle[found.rows[0]], atol=1e-6)
    assert found.rows[0, 0] == 9
    assert (np.diff(found.distances[0]) >= 0).all()


@pytest.mark.parametrize("rerank", [None, "codes", "rows"])
def test_the_neighbours_of_a_row_are_those_of_its_content_without_itself(rerank):
    index = built()
    found = index.search(table().iloc[[17]], 9, rerank=rerank)
    np.testing.assert_array_equal(
        index.search_row(17, 8, rerank=rerank).rows[0], found.rows[0][found.rows[0] != 17][:8]
    )


def test_an_index_on_disk_answers_as_in_memory_with_its_own_copy_of_the_model(tmp_path):
    in_memory, _ = built(), built(tmp_path / "index")
    opened = isthmus.Index.open(tmp_path / "index")
    assert fingerprint(opened.model) == fingerprint(model())
    for rerank in (None, "codes", "rows"):
        a, b = (index.search(table(), 5, rerank=rerank) for index in (in_memory, opened))
        np.testing.assert_array_equal(a.rows, b.rows)
        np.testing.assert_allclose(a.distances, b.distances)
    assert isthmus.Index.open(tmp_path / "index", model=model()).model is model()
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_versions_stay_readable_until_the_index_is_compacted(tmp_path):
    index = built(tmp_path / "index")
    index.add(table().iloc[:2])
    index.remove([0, 121])
    assert [each["rows"] for each in index.versions] == [120, 122, 120]
    old = isthmus.Index.open(tmp_path / "index", version=1)
    assert old.row_numbers.tolist() == list(range(120))
    with pytest.raises(InputError, match="open at version 1, which does not change"):
        old.add(table().iloc[:1])
    index.restore(1)
    assert index.row_numbers.tolist() == list(range(120))
    assert index.add(table().iloc[:1]).tolist() == [122]  # numbers of rows are not used again
    index.compact()
    assert len(index.versions) == 1
    assert index.row_numbers.tolist() == [*range(120), 122]
    assert_found(index.search(table().iloc[:3], 5), brute(index, table().iloc[:3], 5))
    with pytest.raises(InputError, match="no version 1; it has"):
        isthmus.Index.open(tmp_path / "index", version=1)


def test_an_open_index_sees_the_changes_of_another_process_after_refresh(tmp_path):
    index = built(tmp_path / "index")
    isthmus.Index.open(tmp_path / "index").add(table().iloc[:4])
    assert len(index) == 120
    index.refresh()
    assert len(index) == 124
    assert index.add(table().iloc[:1]).tolist() == [124]


def test_partitions_find_most_neighbours_and_exact_answers_all(tmp_path):
    X = np.random.default_rng(0).normal(size=(600, 6))
    fitted = isthmus.LinearAutoencoder(code_size=6, **SMALL).fit(X)
    index = isthmus.Index.build(fitted, X, tmp_path / "index")
    exact = index.search(X[:20], 5)
    index.partition(4)
    assert index.info["partitions"]
    np.testing.assert_array_equal(index.search(X[:20], 5, exact=True).rows, exact.rows)
    found = index.search(X[:20], 5, where="x0 < 5")
    assert np.mean([len(set(a) & set(b)) for a, b in zip(found.rows, exact.rows, strict=True)]) > 3
    assert (found.rows[:, 0] == np.arange(20)).all()


@pytest.mark.parametrize("rerank", [None, "codes", "rows"])
def test_an_index_with_partitions_is_searched_and_changed_without_the_bits_of_all_rows(rerank, tmp_path, monkeypatch):
    X = np.random.default_rng(0).normal(size=(280, 6))
    fitted = isthmus.LinearAutoencoder(code_size=6, **SMALL).fit(X)
    isthmus.Index.build(fitted, X, tmp_path / "index").partition(1)  # all rows are candidates
    exact, index = (isthmus.Index.open(tmp_path / "index") for _ in range(2))
    monkeypatch.setattr("isthmus.retrieval.reader.QUERIES_PER_CALL", 4)
    monkeypatch.setattr(index._store, "read_bits", None)  # which fails if it is called
    found, own = exact.search(X[:9], 28, rerank=rerank, exact=True), exact.search_row(7, 28, rerank=rerank, exact=True)
    np.testing.assert_array_equal(index.search(X[:9], 28, rerank=rerank).distances, found.distances)
    np.testing.assert_array_equal(index.search_row(7, 28, rerank=rerank).distances, own.distances)
    few = index.search(X[:9], 28, where="_row in (3, 8)")
    assert [sorted(found) for found in few.rows[:, :2].tolist()] == [[3, 8]] * 9
    assert (few.rows[:, 2:] == -1).all()
    pd.testing.assert_frame_equal(index.table([9, 2, 9]), exact.table([9, 2, 9]))
    np.testing.assert_array_equal(index.rows([]), X[:0])
    assert index.add(X[:2]).tolist() == [280, 281]
    assert {0, 280} <= set(index.search(X[:1], 28, rerank=rerank).rows[0].tolist())
    assert index.remove([280]) == 1
    assert (len(index), index.info["rows"]) == (281, 281)
    for act in (index.search_row, lambda row: index.remove([row]), lambda row: index.rows([row])):
        with pytest.raises(InputError, match="no row 280; it has 281 rows"):
            act(280)


def test_duplicates_are_verified_by_the_distance_of_their_rows():
    X = np.random.default_rng(0).normal(size=(60, 5))
    X[50:] = X[:10] + 1e-6
    fitted = isthmus.LinearAutoencoder(code_size=3, **SMALL).fit(X)
    index = isthmus.Index.build(fitted, X, n_bits=12)
    pairs = [[i, i + 50] for i in range(10)]
    assert [group.tolist() for group in index.duplicates(2, row_distance=1e-3)] == pairs
    everything = index.duplicates(2)
    assert sum(map(len, everything)) >= 20
    assert index.duplicates(2, row_distance=1e9)[0].tolist() == everything[0].tolist()


def forms():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 4, 5)).astype(np.uint8)
    words = [" ".join(rng.choice(["tin", "cocoa", "wheat", "ship"], 6)) for _ in range(30)]
    return {
        "matrix": rng.normal(size=(30, 4)),
        "float32": rng.normal(size=(30, 4)).astype(np.float32),
        "images": images,
        "colour": rng.integers(0, 256, (30, 4, 5, 3)).astype(np.uint8),
        "series": rng.normal(size=(30, 6, 2)),
        "wide": rng.normal(size=(30, 1001)),
        "texts": isthmus.data.open(words).X,
        "table": table(30),
        "sparse": scipy.sparse.random_array((30, 9), density=0.4, rng=rng, format="csr"),
    }


@pytest.mark.parametrize("form", forms())
def test_rows_of_every_form_are_indexed_and_given_back(form, tmp_path):
    X = forms()[form]
    dtypes = {"day": "date"} if form == "table" else None
    fitted = isthmus.LinearAutoencoder(code_size=2, dtypes=dtypes, **SMALL).fit(X)
    isthmus.Index.build(fitted, X, tmp_path / "index")
    index = isthmus.Index.open(tmp_path / "index")
    assert index.search(X[:3] if form != "table" else X.iloc[:3], 1).distances.tolist() == [[0], [0], [0]]
    if form == "sparse":
        for refused in (lambda: index.rows([0]), lambda: index.search(X[:1], 1, rerank="rows")):
            with pytest.raises(InputError, match=r"not (kept|keep)"):
                refused()
        return
    found = index.rows([7, 2])
    if form == "table":
        pd.testing.assert_frame_equal(found, X.iloc[[7, 2]].reset_index(drop=True), check_dtype=False)
    elif form == "texts":
        assert list(found) == [X[7], X[2]]
        assert index.search(X[5], 1).rows.shape == (1, 1)
    else:
        np.testing.assert_array_equal(found, X[[7, 2]])
        assert found.dtype == X.dtype
    assert len(index.add(X[:2] if form != "table" else X.iloc[:2])) == 2


def test_an_index_at_an_address_is_built_opened_and_replaced(tmp_path):
    address = f"file://{tmp_path}/index"
    built(address)
    isthmus.Index.open(address).add(table().iloc[:2])
    assert len(isthmus.Index.open(address)) == 122
    with pytest.raises(InputError, match="exists already; choose another address"):
        built(address)
    assert len(built(address, force=True)) == 120
    with pytest.raises(InputError, match="this folder is not an index"):
        isthmus.Index.open(f"file://{tmp_path}/other")
    for act in (isthmus.Index.open, built):
        with pytest.raises(InputError, match="No object store provider"):
            act("s4://bucket/index")


def test_columns_of_every_type_are_kept(tmp_path):
    X = np.random.default_rng(0).normal(size=(6, 3))
    fitted = isthmus.LinearAutoencoder(code_size=2, **SMALL).fit(X)
    columns = pd.DataFrame(
        {
            "_row": ["a", "b", "c", None, "e", "f"],
            "name": pd.Categorical(["u", "v", "u", "v", None, "u"]),
            "n": pd.array([1, 2, None, 4, 5, 6], "Int64"),
            "flag": [True, False] * 3,
            "mixed": [1, "two", 3.5, None, "five", 6],
            "empty": [None] * 6,
            "when": pd.date_range("2024-01-01", periods=6, tz="UTC"),
            "x0": range(6),
        }
    )
    index = isthmus.Index.build(fitted, X, tmp_path / "index", columns=columns, identifiers=["_row"])
    assert index.identifiers == ["_row_"]
    found = index.table([3, 0])
    assert found["name"].tolist() == ["v", "u"]
    assert found["n"].tolist() == [4, 1]
    assert found["mixed"].isna().tolist() == [True, False]
    assert found["when"].tolist() == [columns["when"][3], columns["when"][0]]
    assert index.numbers_of(["b", "f"]).tolist() == [1, 5]
    assert index.search(X[:1], 6, where="flag and n > 2 and x0 >= 0").rows[0].tolist()[:1] == [4]
    assert "x0_" in index.columns


def test_the_index_of_a_data_frame_identifies_its_rows():
    named = table().set_axis([f"c{i}" for i in range(120)]).rename_axis("customer")
    index = isthmus.Index.build(model(), named)
    assert index.identifiers == ["customer"]
    assert index.table([3])["customer"].tolist() == ["c3"]
    assert index.remove(index.numbers_of(["c3", "c5"])) == 2
    with pytest.raises(InputError, match=r"no row has the identifier 'c3' \(column 'customer'\)"):
        index.numbers_of(["c3"])


def test_kept_columns_survive_json():
    kept = KeptRows.of(forms()["images"], None, ())
    assert KeptRows.from_dict(kept.to_dict()) == kept


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda i: i.search(table(), 121), "k=121: the index has 120 rows; give at most 120"),
        (lambda i: i.search(table(), 0), "k=0: the number of neighbours"),
        (lambda i: i.search(table(), 1, where="prise < 3"), "no column 'prise'; did you mean 'price'?"),
        (lambda i: i.search(table(), 1, where="unit cost < 3"), "write 'unit cost' in backquotes: `unit cost`"),
        (lambda i: i.search(table(), 1, where="day < '2024-03-01'"), "such as day < date '2024-01-31'"),
        (lambda i: i.search(table(), 1, where="price <"), "not a condition"),
        (lambda i: i.search(table(), 1, where="price < 'cheap'"), "not a condition"),
        (lambda i: i.search(table(), 1, where="1"), "not a condition"),
        (lambda i: i.search(table(), 1, where="price < 3; drop"), "holds ';'"),
        (lambda i: i.search(table(), 1, rerank="angle"), "one of codes, cosine, rows"),
        (lambda i: i.search(table()[["price"]], 1), "feature names"),
        (lambda i: i.search_row(120, 3), "no row 120; it has 120 rows between 0 and 119"),
        (lambda i: i.search_row(3, 120), "k=120"),
        (lambda i: i.search_bits(np.zeros((1, 9), np.uint8), 1), "72 bits, and the codes have 64"),
        (lambda i: i.add(table().assign(price="cheap")), "price"),
        (lambda i: i.remove(), "one of rows and where"),
        (lambda i: i.remove([5, 500]), "no row 500"),
        (lambda i: i.remove([1.7]), "row number 1.7: row numbers are whole numbers"),
        (lambda i: i.remove([True] * 120), "row number True"),
        (lambda i: i.search_row("3"), "row number '3'"),
        (lambda i: i.table(["a"]), "row number 'a'"),
        (lambda i: i.search(table(), "3"), "k='3': the number"),
        (lambda i: i.search(table(), 1, where=3), "a condition is a text"),
        (lambda i: i.duplicates(1.5), "distance=1.5: it must be a whole number"),
        (lambda i: i.duplicates(1, row_distance=-1), "row_distance=-1: it must be at least 0"),
        (lambda i: built(n_bits=2.5), "n_bits=2.5: it must be a whole number"),
        (lambda i: i.remove(where="cost < 3"), "no column 'cost'"),
        (lambda i: i.duplicates(64), "below the number of bits, 64"),
        (lambda i: i.restore(7), "no version 7; it has 1 to 1"),
        (lambda i: i.partition(), "partitions need at least 256"),
        (lambda i: built(i.address), "exists already"),
        (lambda i: built(i.address + "/no/index"), "does not exist"),
        (lambda i: isthmus.Index.open(i.address, model=model(1)), "the index of another model"),
        (lambda i: isthmus.Index.open(i.address, version=4), "no version 4"),
        (lambda i: isthmus.Index.open(Path(i.address).parent), "this folder is not an index"),
        (lambda i: isthmus.Index.open(i.address + "x"), "no such index"),
        (lambda i: isthmus.Index.open(__file__), "is a file, not an index"),
        (lambda i: isthmus.Index.build(model(), table(), columns={"a": [1]}), "1 row, and X has 120"),
        (lambda i: isthmus.Index.build("model", table()), "str is not an autoencoder"),
    ],
)
def test_invalid_requests_are_refused_and_change_nothing(act, message, shared_index):
    before = shared_index.version
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace("?", r"\?")) as raised:
        act(shared_index)
    if "feature names" not in message:
        assert isinstance(raised.value, InputError)
        assert "\n" not in str(raised.value)
    shared_index.refresh()
    assert (shared_index.version, len(shared_index)) == (before, 120)


@pytest.fixture(scope="module")
def shared_index(tmp_path_factory):
    return built(tmp_path_factory.mktemp("indexes") / "index")


def test_an_index_whose_build_did_not_finish_or_is_damaged_is_refused(tmp_path):
    import shutil

    built(tmp_path / "index")
    shutil.copytree(tmp_path / "index", tmp_path / "part")
    shutil.rmtree(tmp_path / "part" / "model.lance")
    with pytest.raises(InputError, match="the build of this index did not finish"):
        isthmus.Index.open(tmp_path / "part")
    for path in (tmp_path / "index" / "rows.lance" / "data").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match="the index cannot be read"):
        isthmus.Index.open(tmp_path / "index").search(table(), 1)


def test_a_build_that_fails_leaves_nothing_and_force_replaces_an_index_alone(tmp_path):
    wrong = table().assign(price=np.nan)
    with pytest.raises(InputError):
        isthmus.Index.build(model(), wrong, tmp_path / "index")
    assert list(tmp_path.iterdir()) == []
    built(tmp_path / "index")
    index = isthmus.Index.build(model(), table().iloc[:30], tmp_path / "index", force=True)
    assert len(index) == 30
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    (tmp_path / "other").mkdir()
    with pytest.raises(InputError, match="exists already; choose another name, or remove it"):
        isthmus.Index.build(model(), table(), tmp_path / "other", force=True)


def test_an_add_that_fails_in_a_later_block_adds_no_row(tmp_path, monkeypatch):
    monkeypatch.setattr("isthmus.retrieval.encoding.block_size", lambda X: 16)
    index = isthmus.Index.build(model(), table(), tmp_path / "index", columns={"n": range(120)})
    numbers = [*map(float, range(119)), 0.5]
    with pytest.raises(InputError, match="column 'n' does not fit the type int64"):
        index.add(table(), columns={"n": numbers})
    index.refresh()
    assert len(index) == 120
    assert index.add(table(), columns={"n": [float(i) for i in range(120)]})[0] == 120


def test_a_full_disk_loses_nothing(tmp_path):
    import resource

    index = built(tmp_path / "index")
    index.add(table().iloc[:5])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        with pytest.raises(InputError, match="could not be written .File too large.*no row was added; free disk space"):
            index.add(table())
        with pytest.raises(InputError, match="index: could not be written .File too large.*no row was removed"):
            index.remove(where="price < 0")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    opened = isthmus.Index.open(tmp_path / "index")
    assert len(opened) == 125
    assert_found(opened.search(table().iloc[:3], 5), brute(opened, table().iloc[:3], 5))
    assert len(opened.add(table())) == 120


def test_a_failure_of_a_build_names_the_path_that_was_given(tmp_path):
    with pytest.raises(InputError, match=f"^{tmp_path}/index: full$"), new_folder(f"{tmp_path}/index", False) as folder:
        raise InputError(f"{folder}: full")


ADDING = """
import sys, numpy as np, isthmus
index = isthmus.Index.open(sys.argv[1])
X = np.random.default_rng(1).normal(size=(2000, 4))
while True:
    index.add(X)
"""


def test_an_index_is_searched_after_a_kill_while_rows_are_added(tmp_path):
    X = np.random.default_rng(0).normal(size=(500, 4))
    fitted = isthmus.LinearAutoencoder(code_size=3, **SMALL).fit(X)
    isthmus.Index.build(fitted, X, tmp_path / "index")
    data = tmp_path / "index" / "rows.lance" / "data"
    process = subprocess.Popen([sys.executable, "-c", ADDING, str(tmp_path / "index")], env=dict(os.environ))
    began = time.monotonic()
    while len(list(data.iterdir())) < 3:
        assert process.poll() is None
        assert time.monotonic() - began < 120
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    index = isthmus.Index.open(tmp_path / "index")
    assert (len(index) - 500) % 2000 == 0
    assert index.row_numbers.tolist() == list(range(len(index)))
    assert_found(index.search(X[:5], 7), brute(index, X[:5], 7))
    n = len(index)
    assert index.add(X).tolist() == list(range(n, n + 500))


class BinaryCodes(isthmus.LinearAutoencoder):
    """A kind whose codes are bits, 0 or 1 of type uint8."""

    def transform(self, X):
        return (super().transform(X) > 0).astype(np.uint8)


def test_codes_that_are_bits_are_the_bits_of_an_index():
    X = np.random.default_rng(0).normal(size=(90, 14))
    fitted = BinaryCodes(code_size=12, **SMALL).fit(X)
    index = isthmus.Index.build(fitted, X)
    assert (index.info["bits"], index.info["codes"]) == (12, "bits")
    codes = fitted.transform(X)
    distances = (codes[:, None] != codes[None]).sum(-1)
    order = np.argsort(distances, axis=1, kind="stable")[:, :4]
    assert_found(index.search(X, 4), (np.take_along_axis(distances, order, 1), order))
    assert index.search_row(5, 3, rerank="rows").rows.shape == (1, 3)
    with pytest.raises(InputError, match="the codes of this index are the bits themselves"):
        index.search(X, 4, rerank="codes")
    with pytest.raises(InputError, match="the codes of this model are 12 bits"):
        isthmus.Index.build(fitted, X, n_bits=64)


def test_a_reader_reads_only_the_rows_that_another_process_added(tmp_path, monkeypatch):
    index = built(tmp_path / "index")
    index.search(table().iloc[:3], 5)
    monkeypatch.setattr(index._store, "read_bits", None)  # which fails if it is called
    for start in (0, 7):
        isthmus.Index.open(tmp_path / "index").add(table().iloc[start : start + 7])
        index.refresh()
        assert_found(index.search(table().iloc[start : start + 4], 9), brute(index, table().iloc[start : start + 4], 9))
    assert index.row_numbers.tolist() == list(range(134))
    assert index.add(table().iloc[:2]).tolist() == [134, 135]
    assert index.search(table().iloc[:1], 3, where="_row >= 134").rows[0, 0] == 134


CHANGES = {
    "add": lambda index, random: index.add(table().iloc[: random.integers(1, 20)]),
    "remove": lambda index, random: index.remove(random.choice(index.row_numbers, 3, replace=False)),
    "remove the last": lambda index, random: index.remove([index.row_numbers[-1]]),
    "restore": lambda index, random: index.restore(int(random.choice([each["version"] for each in index.versions]))),
    "compact": lambda index, random: index.compact(),
}


@pytest.mark.parametrize("seed", range(6))
def test_a_reader_that_refreshes_has_the_rows_of_one_that_opens_the_index_anew(seed, tmp_path):
    random = np.random.default_rng(seed)
    reader = built(tmp_path / "index")
    reader.search(table().iloc[:2], 4)
    for _ in range(8):
        for _ in range(random.integers(1, 3)):
            name = str(random.choice([*CHANGES, "add", "add"]))
            CHANGES[name](isthmus.Index.open(tmp_path / "index"), random)
        reader.refresh()
        fresh = isthmus.Index.open(tmp_path / "index")
        np.testing.assert_array_equal(reader.row_numbers, fresh.row_numbers)
        found, expected = (each.search(table().iloc[:5], 6) for each in (reader, fresh))
        np.testing.assert_array_equal(found.rows, expected.rows)
        np.testing.assert_array_equal(found.distances, expected.distances)
        pd.testing.assert_frame_equal(reader.table(found.rows[0]), fresh.table(found.rows[0]))
