"""`isthmus index`, `search` and `duplicates`: build, search, add, remove, and one line for each mistake."""

import json
import os
import signal
import subprocess

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import isthmus

from .commands import SMALL, run
from .processes import ISTHMUS, environment, wait_for

BUILD = ("index", "build", "{shop}/m.isthmus", "{shop}/products.csv")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Folder with a table of products, a model without its price, an index, and further products."""
    folder = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"sku": [f"p{i:02d}" for i in range(80)], "price": rng.uniform(0, 50, 80).round(2)})
    table[["size", "weight"]] = rng.normal(size=(80, 2)).round(3)
    table["city"] = rng.choice(["Bern", "Oslo"], 80)
    table.loc[70:79, ["size", "weight", "city"]] = table.loc[:9, ["size", "weight", "city"]].to_numpy()
    table.to_csv(folder / "products.csv", index=False)
    table.iloc[:3].assign(sku=["n1", "n2", "n3"]).to_csv(folder / "new.csv", index=False)
    table.iloc[20:22][["city", "weight", "size"]].to_csv(folder / "query.csv", index=False)
    model = ("fit", folder / "products.csv", "-o", folder / "m.isthmus", *SMALL, "--dtype", "sku=id")
    for command in (
        (*model, "--exclude", "price"),
        ("index", "build", folder / "m.isthmus", folder / "products.csv", "-o", folder / "index", "--keep", "price"),
    ):
        result = run(*command)
        assert result.exit_code == 0, result.stderr
    return folder


@pytest.fixture
def copied(shop, tmp_path):
    """A copy of the index that a test changes."""
    import shutil

    shutil.copytree(shop / "index", tmp_path / "index")
    return tmp_path / "index"


def found(result):
    """Return the rows that each query of a search found."""
    return [[each["row"] for each in query["neighbours"]] for query in json.loads(result.stdout)["queries"]]


def test_a_search_finds_what_the_index_finds_in_python(shop, succeed):
    index = isthmus.Index.open(shop / "index")
    queries = pd.read_csv(shop / "query.csv")[["size", "weight", "city"]]
    for options in ({}, {"where": "price < 30 and city = 'Oslo'"}, {"rerank": "codes"}, {"rerank": "rows"}):
        typed = [part for name, value in options.items() for part in (f"--{name}", value)]
        result = succeed("search", shop / "index", shop / "query.csv", "-k", 4, "--json", *typed)
        assert found(result) == index.search(queries, 4, **options).rows.tolist()
    neighbours = json.loads(result.stdout)["queries"][0]["neighbours"]
    assert neighbours[0]["columns"].keys() == {"sku", "price", "size", "weight", "city"}
    assert neighbours[0]["columns"]["sku"] == f"p{neighbours[0]['row']:02d}"


def test_columns_of_the_query_that_the_model_does_not_read_are_left_out(shop, succeed):
    result = succeed("search", shop / "index", shop / "products.csv", "-k", 1, "--json", "--quiet")
    queries = json.loads(result.stdout)["queries"]
    assert [query["query"] for query in queries] == [f"p{i:02d}" for i in range(80)]
    assert {query["neighbours"][0]["distance"] for query in queries} == {0}


def test_a_row_of_the_index_is_a_query_that_does_not_find_itself(shop, succeed):
    result = succeed("search", shop / "index", "--row", 3, "-k", 2, "--json")
    assert found(result)[0][0] == 73
    assert "neighbours of row 3" in succeed("search", shop / "index", "--row", 3).stdout


def test_results_are_written_with_the_columns_of_their_rows(shop, tmp_path, succeed):
    succeed("search", shop / "index", shop / "query.csv", "-k", 3, "-o", tmp_path / "near.csv")
    table = pd.read_csv(tmp_path / "near.csv")
    assert list(table.columns) == ["query", "row", "distance", "sku", "price", "size", "weight", "city"]
    assert table["query"].tolist() == [0, 0, 0, 1, 1, 1]
    succeed("duplicates", shop / "index", "--distance", 0, "-o", tmp_path / "groups.csv")
    groups = pd.read_csv(tmp_path / "groups.csv").groupby("group")["sku"].agg(set)
    for i in range(10):
        assert any({f"p{i:02d}", f"p{i + 70}"} <= group for group in groups)


def test_duplicates_are_groups_of_rows_and_may_be_verified(shop, succeed):
    result = succeed("duplicates", shop / "index", "--distance", 0, "--row-distance", "1e-6", "--json")
    assert json.loads(result.stdout)["groups"] == [[i, i + 70] for i in range(10)]
    assert "near-equal rows" in succeed("duplicates", shop / "index").stdout


def test_rows_are_added_and_removed_by_identifier_and_by_condition(shop, copied, succeed):
    added = succeed("index", "add", copied, shop / "new.csv", "--json")
    assert json.loads(added.stdout) == {"index": str(copied), "added": 3, "first": 80, "rows": 83}
    assert found(succeed("search", copied, shop / "new.csv", "-k", 3, "--json", "--quiet"))[0] == [0, 70, 80]
    succeed("index", "remove", copied, "--id", "n1", "--id", "p70")
    assert found(succeed("search", copied, "--row", 0, "-k", 1, "--where", "sku = 'n1'", "--json")) == [[]]
    left = json.loads(succeed("index", "remove", copied, "--where", "price >= 25", "--json").stdout)["rows"]
    contents = json.loads(succeed("index", "info", copied, "--json").stdout)
    assert [each["rows"] for each in contents["versions"]] == [80, 83, 81, left]
    assert contents["identifiers"] == ["sku"]
    assert "price" in succeed("index", "info", copied).stdout
    succeed("index", "restore", copied, 1)
    succeed("index", "compact", copied)
    contents = json.loads(succeed("index", "info", copied, "--json").stdout)
    assert (contents["rows"], len(contents["versions"])) == (80, 1)


def test_the_model_may_be_given_if_it_is_that_of_the_index(shop, copied, tmp_path, succeed, refused):
    succeed("search", copied, "--row", 3, "--model", shop / "m.isthmus")
    other = tmp_path / "other.isthmus"
    fit = ("fit", shop / "products.csv", "-o", other, *SMALL, "--seed", 1, "--dtype", "sku=id", "--exclude", "price")
    succeed(*fit)
    refused(("search", copied, "--row", 3, "--model", other), "the index of another model", "give the model that")
    refused(("index", "add", copied, shop / "new.csv", "--model", other), "the index of another model")


def test_words_are_a_query_of_a_model_of_texts(tmp_path, succeed, refused):
    rng = np.random.default_rng(0)
    topics = [["cocoa", "harvest", "ghana"], ["rate", "bank", "loan"]]
    lines = [json.dumps({"text": " ".join(rng.choice(topics[i % 2], 6))}) for i in range(40)]
    (tmp_path / "news.jsonl").write_text("\n".join(lines))
    succeed("fit", tmp_path / "news.jsonl", "-o", tmp_path / "m", "--epochs", "40", "--seed", "0", "--code-size", "2")
    succeed("index", "build", tmp_path / "m", tmp_path / "news.jsonl", "-o", tmp_path / "index")
    result = succeed("search", tmp_path / "index", "cocoa from ghana", "-k", 5, "--json")
    assert all(row % 2 == 0 for row in found(result)[0])
    assert "cocoa" in json.loads(result.stdout)["queries"][0]["neighbours"][0]["columns"]["text"]
    assert len(found(succeed("search", tmp_path / "index", tmp_path / "news.jsonl", "-k", 1, "--json"))) == 40
    refused(("search", tmp_path / "index", "missing.jsonl"), "missing.jsonl: no such file")
    assert "the model knows no word of 'zebra'" in succeed("search", tmp_path / "index", "zebra", "-k", 1).stderr
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    refused(("search", tmp_path / "index", tmp_path / "a.png"), "an image, and the model was fitted on texts")


def test_an_image_file_is_a_query_of_a_model_of_images(inputs, tmp_path, succeed, refused):
    succeed("index", "build", inputs / "images.isthmus", inputs / "images", "-o", tmp_path / "index")
    result = succeed("search", tmp_path / "index", inputs / "images" / "07.png", "-k", 2, "--json")
    first = json.loads(result.stdout)["queries"][0]["neighbours"][0]
    assert (first["row"], first["distance"], first["columns"]) == (7, 0, {"path": "07.png"})
    with Image.open(inputs / "images" / "07.png") as image:
        image.convert("RGB").resize((50, 60), Image.Resampling.NEAREST).save(tmp_path / "large.png")
    assert len(found(succeed("search", tmp_path / "index", tmp_path / "large.png", "-k", 3, "--json"))[0]) == 3
    succeed("index", "build", inputs / "array.isthmus", inputs / "array.npy", "-o", tmp_path / "array")
    refused(("search", tmp_path / "array", tmp_path / "large.png"), "an image, and the model was fitted on")


def test_labels_of_data_are_a_column_of_the_index(tmp_path, succeed):
    model = tmp_path / "m"
    succeed("fit", "mnist-sample:test", "-o", model, "--kind", "linear", "--epochs", "1", "--seed", "0")
    succeed("index", "build", model, "mnist-sample:test", "-o", tmp_path / "index", "--bits", 16, "--approximate")
    result = succeed("search", tmp_path / "index", "--row", 3, "-k", 4, "--where", "label = 7", "--exact", "--json")
    assert [each["columns"] for each in json.loads(result.stdout)["queries"][0]["neighbours"]] == [{"label": 7}] * 4


@pytest.mark.parametrize(
    ("command", "fragments"),
    [
        (("search", "{index}", "--row", 3, "-k", 81), ["k=81: the index has 80 rows"]),
        (("search", "{index}", "--row", 80), ["no row 80; it has 80 rows between 0 and 79"]),
        (("search", "{index}"), ["give QUERY, or a row of the index with --row N"]),
        (("search", "{index}", "{shop}/query.csv", "--row", 3), ["give QUERY, or a row"]),
        (("search", "{index}", "{shop}/query.csv", "--where", "prise < 3"), ["no column 'prise'", "'price'"]),
        (("search", "{index}", ""), ["the query is empty"]),
        (("search", "{index}", "{shop}/query.csv", "--where", "price <"), ["not a condition", "give one in SQL"]),
        (("search", "{index}", "{inputs}/table.csv"), ["missing columns 'size', 'weight'"]),
        (("search", "{index}", "{inputs}/array.npy"), ["the model was fitted on a table with named columns"]),
        (("search", "{index}", "{shop}/query.csv", "--rerank", "angle"), ["one of codes, cosine, rows"]),
        (("search", "{index}", "{shop}/query.csv", "-o", "{index}/near.csv"), ["lies in the input"]),
        (("search", "{index}", "{shop}/query.csv", "-o", "near.npy"), ["results are written as .csv, .parquet"]),
        (("search", "{shop}", "{shop}/query.csv"), ["this folder is not an index"]),
        (("search", "nowhere", "{shop}/query.csv"), ["nowhere: no such index"]),
        (("search", "{shop}/m.isthmus", "{shop}/query.csv"), ["is a file, not an index"]),
        (("duplicates", "{index}", "--distance", 64), ["below the number of bits, 64"]),
        (("index", "info", "{shop}"), ["this folder is not an index"]),
        (("index", "add", "{index}", "{shop}/query.csv"), ["--keep price: no such column"]),
        (("index", "add", "{index}", "{inputs}/table.csv"), ["no such column"]),
        (("index", "remove", "{index}"), ["give one of --where and --id"]),
        (("index", "remove", "{index}", "--id", "p99"), ["no row has the identifier 'p99' (column 'sku')"]),
        (("index", "remove", "{index}", "--where", "prise < 3"), ["no column 'prise'"]),
        (("index", "restore", "{index}", 9), ["no version 9"]),
        ((*BUILD, "-o", "{index}"), ["exists already", "--force"]),
        ((*BUILD, "-o", "{shop}", "--force"), ["contains the input"]),
        ((*BUILD, "-o", "no/x"), ["does not exist"]),
        ((*BUILD, "-o", "few", "--approximate"), ["few: 80 rows; partitions need at least 256"]),
        (("index", "build", *BUILD[:1:-1], "-o", "x"), ["commands expect MODEL before DATA"]),
    ],
)  # fmt: skip
def test_each_mistake_is_one_line_and_changes_nothing(
    command, fragments, shop, copied, inputs, tmp_path, monkeypatch, refused
):
    monkeypatch.chdir(tmp_path)
    places = {"shop": shop, "index": copied, "inputs": inputs}
    refused(tuple(str(part).format(**places) for part in command), *fragments)


def test_an_empty_index_is_refused_and_filled_again(shop, copied, succeed, refused):
    succeed("index", "remove", copied, "--where", "price >= 0")
    refused(("search", copied, shop / "query.csv"), "the index is empty: it has no rows to find; add rows first")
    assert "0 groups" in succeed("duplicates", copied).stderr
    succeed("index", "add", copied, shop / "new.csv")
    assert found(succeed("search", copied, shop / "query.csv", "-k", 1, "--json"))


def test_a_missing_extra_is_one_line(shop, monkeypatch, refused):
    import sys

    monkeypatch.setitem(sys.modules, "lancedb", None)
    refused(("search", shop / "index", shop / "query.csv"), "pip install 'isthmus[search]'")


def test_an_index_is_searched_and_filled_after_a_kill_of_index_add(shop, copied, tmp_path, succeed):
    pd.concat([pd.read_csv(shop / "new.csv")] * 20_000).to_csv(tmp_path / "many.csv", index=False)
    before = os.listdir(copied / "rows.lance" / "data")
    command = [*ISTHMUS, "index", "add", str(copied), str(tmp_path / "many.csv"), "--quiet"]
    with subprocess.Popen(command, env=environment()) as process:
        wait_for(lambda: os.listdir(copied / "rows.lance" / "data") != before, process, "a file of new rows")
        process.send_signal(signal.SIGKILL)
    assert json.loads(succeed("index", "info", copied, "--json").stdout)["rows"] == 80
    assert found(succeed("search", copied, "--row", 3, "-k", 1, "--json")) == [[73]]
    succeed("index", "add", copied, shop / "new.csv")
    assert json.loads(succeed("index", "info", copied, "--json").stdout)["rows"] == 83
