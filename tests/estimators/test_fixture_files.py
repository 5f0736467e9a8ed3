"""Files that earlier versions wrote stay readable, with the codes and scores of then."""

import json

import numpy as np
import pytest

import isthmus
from isthmus.estimators.registry import DETECTORS, IMPUTERS, KINDS, PREDICTORS, TRANSFORMERS
from isthmus.files import SCHEMA, read_tensors

from .fixture_files import FOLDER, ROWS, expected_path, outputs, path_of

SCHEMAS = sorted(int(folder.name.removeprefix("schema-")) for folder in FOLDER.glob("schema-*"))
FILES = [(schema, name) for schema in SCHEMAS for name in json.loads(expected_path(schema).read_text())]


def test_the_schema_of_today_has_a_file_of_every_kind():
    kinds = {read_tensors(path_of(name))[1]["kind"] for schema, name in FILES if schema == SCHEMA}
    assert kinds == {*KINDS, *PREDICTORS, *DETECTORS, *IMPUTERS, *TRANSFORMERS}
    assert ROWS.keys() <= {name for schema, name in FILES if schema == SCHEMA}


@pytest.mark.parametrize(("schema", "name"), FILES, ids=[f"{schema}: {name}" for schema, name in FILES])
def test_a_file_opens_and_gives_what_it_gave_when_it_was_written(schema, name):
    model = isthmus.load(path_of(name, schema))
    for part, then in json.loads(expected_path(schema).read_text())[name].items():
        np.testing.assert_allclose(outputs(name, model)[part], then, rtol=1e-3, atol=1e-4, err_msg=part)
