from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

import isthmus.data as data


def written(tmp_path, records, name="d.jsonl"):
    text = "\n".join(record if isinstance(record, str) else json.dumps(record) for record in records) + "\n"
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return tmp_path / name


@pytest.mark.parametrize("name", ["d.jsonl", "d.ndjson", "d.jsonl.gz", "D.NDJSON.GZ"])
def test_records_with_a_text_field_become_documents(tmp_path, name):
    path = written(tmp_path, [{"text": "tin fell", "kind": 1}, "", {"text": "wheat rosé", "kind": 2}], name.lower())
    read = data.open(path, label_column="kind")
    assert read.X.texts == ("tin fell", "wheat rosé")
    assert read.labels.tolist() == [1, 2]
    assert read.name == "d"


def test_title_and_body_are_joined_to_one_text(tmp_path):
    records = [{"title": "A", "body": "b", "id": 7}, {"title": "", "body": "c", "id": 8}]
    read = data.open(written(tmp_path, records))
    assert read.X.texts == ("A\nb", "c")
    assert read.notes == ("d.jsonl: the text is title and body; fields ignored: id",)


def test_flat_records_become_a_table(tmp_path):
    read = data.open(written(tmp_path, [{"a": 1, "b": "x", "y": 0}, {"a": 2.5, "y": 1}]), label_column="y")
    assert list(read.X.columns) == ["a", "b"]
    assert read.X["a"].tolist() == [1, 2.5]
    assert read.X["b"].isna().tolist() == [False, True]
    np.testing.assert_array_equal(read.labels, [0, 1])


def test_the_field_split_selects_records(tmp_path, refused):
    path = written(tmp_path, [{"text": "p", "split": "train"}, {"text": "q", "split": "test"}])
    assert data.open(path, split="test").X.texts == ("q",)
    assert len(data.open(path, split="all").X) == 2
    with refused("contains no records of split 'valid'"):
        data.open(path, split="valid")
    with refused("has no splits; omit the split 'train'"):
        data.open(written(tmp_path, [{"text": "p"}]), split="train")


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (['{"text": "a"}', '{"text": '], "line 2 is not valid JSON (Expecting value at column "),
        (['{"text": "a"}', "[1, 2]"], "line 2 is a JSON list; it must be an object {...}"),
        ([{"text": "a"}, "", {"title": "b"}], "line 3 has no text in the field 'text'"),
        ([{"title": "a", "body": "b"}, {"title": "b", "body": None}], "line 2 has no text in the field 'body'"),
        ([{"a": 1}, {"a": [1, 2]}], "line 2: field 'a' contains a list; a table needs one value per field"),
        ([""], "contains no records; write one JSON object per line"),
    ],
)
def test_an_invalid_record_is_refused_with_its_line_number(tmp_path, refused, records, words):
    path = written(tmp_path, records)
    with refused(f"{path}: {words}"):
        data.open(path)


def test_an_unknown_label_field_of_texts_suggests_the_nearest(tmp_path, refused):
    with refused("no column 'topics'; did you mean 'topic'?"):
        data.open(written(tmp_path, [{"text": "a", "topic": "tin"}]), label_column="topics")


def test_truncated_and_non_utf8_files_are_refused(tmp_path, refused):
    path = written(tmp_path, [{"text": str(i)} for i in range(500)], "d.jsonl.gz")
    path.write_bytes(path.read_bytes()[:-200])
    with refused(f"{path}: truncated or damaged after", "copy it again"):
        data.open(path)
    (tmp_path / "e.jsonl").write_bytes(b'{"text": "caf\xe9"}\n')
    with refused("e.jsonl: not UTF-8 text after line 0; save the file as UTF-8"):
        data.open(tmp_path / "e.jsonl")


def test_columns_of_texts_cannot_be_excluded(tmp_path, refused):
    with refused("d: texts without column names; column 'id' cannot be excluded"):
        data.open(written(tmp_path, [{"text": "a", "id": 1}]), exclude=["id"])
