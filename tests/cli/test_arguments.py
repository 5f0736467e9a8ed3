"""Parsing of times, image sizes, fractions and settings."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from isthmus import CodeClassifier, Layer, TopK
from isthmus.cli import arguments
from isthmus.cli.terminal import one_line, print_json
from isthmus.errors import InputError
from isthmus.estimators.registry import KINDS
from isthmus.values.value import ARGUMENTS


@dataclass
class Kind:
    hidden_sizes: Sequence[int] | None = None
    categories: Sequence[str] | None = None
    likelihood: str | dict[str, str] = "auto"
    normalization: Literal["batch", "layer"] | None = None
    tied: bool = False
    dropout: float = 0.0
    patience: int | None = 10
    random_state: Any = None


@pytest.mark.parametrize(
    ("typed", "expected"), [("90s", 90), ("5m", 300), ("1h", 3600), ("1h30m", 5400), ("0.5", 0.5), ("1.5m", 90)]
)
def test_a_time_is_converted_to_seconds(typed, expected):
    assert arguments.seconds(typed) == expected


@pytest.mark.parametrize("typed", ["", "0", "0s", "-5m", "soon", "5 minutes", "5d", "1h30", "nan"])
def test_an_invalid_time_is_refused(typed):
    with pytest.raises(InputError, match="is not a time; write for example 90s"):
        arguments.seconds(typed)


@pytest.mark.parametrize("typed", ["28", "28x", "0x28", "axb", "28x28x3", "-1x4"])
def test_an_invalid_image_size_is_refused(typed):
    with pytest.raises(InputError, match="write height and width in pixels"):
        arguments.size(typed)


@pytest.mark.parametrize("typed", ["", "a", "1,", "-1", "1.0", "1;2", "0-3"])
def test_invalid_row_numbers_are_refused(typed):
    with pytest.raises(InputError, match="write numbers from 0, separated by commas, such as 0,1,2"):
        arguments.numbers("--rows", typed, 9, "rows")


@pytest.mark.parametrize("typed", ["1", "1.5", "-0.1", "nan", "inf"])
def test_a_number_that_is_not_a_fraction_raises(typed):
    with pytest.raises(InputError, match="the fraction must be at least 0 and less than 1"):
        arguments.fraction(typed)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("hidden_sizes=512,256", {"hidden_sizes": (512, 256)}),
        ("hidden_sizes=[512, 256]", {"hidden_sizes": (512, 256)}),
        ("hidden_sizes=(512,)", {"hidden_sizes": (512,)}),
        ("hidden_sizes=512", {"hidden_sizes": (512,)}),
        ("hidden-sizes=none", {"hidden_sizes": None}),
        ("hidden_sizes=None", {"hidden_sizes": None}),
        ("categories=city,month", {"categories": ("city", "month")}),
        ("likelihood=gaussian-learned", {"likelihood": "gaussian-learned"}),
        ('likelihood={"age": "count"}', {"likelihood": {"age": "count"}}),
        ("normalization=batch", {"normalization": "batch"}),
        ("tied=true", {"tied": True}),
        ("tied=False", {"tied": False}),
        ("dropout=1e-1", {"dropout": 0.1}),
        ("dropout=0", {"dropout": 0.0}),
        ("patience=null", {"patience": None}),
        ("random_state=7", {"random_state": 7}),
    ],
)
def test_a_setting_is_converted_to_the_type_of_its_argument(typed, expected):
    assert arguments.settings([typed], "deep", Kind) == expected


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("hiden_sizes=3", "kind 'deep' has no setting 'hiden_sizes'; did you mean 'hidden_sizes'?"),
        ("zzzz=3", "kind 'deep' has no setting 'zzzz'; it has 'hidden_sizes', 'categories'"),
        ("dropout", "write NAME=VALUE"),
        ("=3", "write NAME=VALUE"),
        ("dropout=much", "dropout must be a number"),
        ("tied=maybe", "tied must be true or false"),
        ("tied=1", "tied must be true or false"),
        ("patience=2.5", "patience must be an integer or none"),
        ("hidden_sizes=a,b", "hidden_sizes must be integers such as 512,256 or none"),
        ("normalization=group", "normalization must be batch or layer or none"),
        ("likelihood=3", "likelihood must be a string or a JSON object"),
    ],
)
def test_an_invalid_setting_is_refused_by_name(typed, message):
    with pytest.raises(InputError) as caught:
        arguments.settings([typed], "deep", Kind)
    assert message in str(caught.value)


@pytest.mark.parametrize("typed", ["hidden_sizes=()", "hidden_sizes=[]"])
def test_hidden_sizes_can_be_empty(typed):
    assert arguments.settings([typed], "deep", Kind) == {"hidden_sizes": ()}


def test_a_setting_given_twice_is_refused():
    with pytest.raises(InputError, match="dropout is set twice"):
        arguments.settings(["dropout=0.1", "dropout=0.2"], "deep", Kind)


def test_every_argument_of_every_kind_can_be_set():
    for name, kind in KINDS.items():
        for argument, default in kind().get_params(deep=False).items():
            typed = f"{argument}={json.dumps(default)}"
            expected = ARGUMENTS[argument].expanded(default) if argument in ARGUMENTS else default
            assert arguments.settings([typed], name, kind) == {argument: expected}


def test_every_field_of_every_value_can_be_set():
    for argument in ARGUMENTS.values():
        kinds = [kind for kind in KINDS.values() if argument.name in kind().get_params(deep=False)]
        for shorthand, default in argument.values.items():
            for path, field in default.get_params().items():
                typed = [
                    f"{argument.name}={shorthand}",
                    f"{argument.name}.{path.replace('__', '.')}={json.dumps(field)}",
                ]
                found = arguments.settings(typed, kinds[0].kind, kinds[0])
                name = path.rpartition("__")[2]
                expected = ARGUMENTS[name].expanded(field) if name in default.nested else field
                assert found == {argument.name: default, f"{argument.name}__{path}": expected}


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["sparsity=topk", "sparsity.k=16"], {"sparsity": TopK(), "sparsity__k": 16}),
        (["sparsity.k=16", "sparsity=topk"], {"sparsity": TopK(), "sparsity__k": 16}),
        (["sparsity.weight=2"], {"sparsity__weight": 2.0}),
        (
            ["network.hidden-sizes=8,6", "network.activation=tanh"],
            {"network__hidden_sizes": (8, 6), "network__activation": "tanh"},
        ),
        (["sparsity=none"], {"sparsity": None}),
    ],
)
def test_a_field_of_a_value_is_set_after_the_value(typed, expected):
    assert arguments.settings(typed, "sparse", KINDS["sparse"]) == expected


def test_fields_of_a_value_within_a_value_can_be_set():
    typed = ["layers=denoising", "layers.corruption.rate=0.4"]
    found = arguments.settings(typed, "stacked", KINDS["stacked"])
    assert found == {"layers": Layer(corruption="masking"), "layers__corruption__rate": 0.4}


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("sparsity.k=16", "sparsity is 'l1', which has no k; add --set sparsity=topk, or sparsity=batch-topk"),
        ("corruption.rate=0.1", "corruption is None, which has no rate; add --set corruption=masking"),
        ("sparsity.wieght=1", "has no argument 'wieght'; it has weight, unit_columns"),
        ("sparsity=topkk", "sparsity='topkk' is unknown; did you mean 'topk'?"),
        ("network.dropout=much", "dropout must be a number"),
        ("patience.k=3", "patience takes no values"),
        ("k=16", "kind 'sparse' has no setting 'k'; it is sparsity=TopK(k=...) in Python, here --set sparsity.k=..."),
    ],
)
def test_an_invalid_field_of_a_value_is_refused(typed, message):
    with pytest.raises(InputError) as caught:
        arguments.settings([typed], "sparse", KINDS["sparse"])
    assert f"--set {typed}: " in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", ["code_size_", "coder_", "preprocessing_", "history_", "kind", "overcomplete"])
def test_attributes_that_are_not_arguments_are_refused(name):
    for kind, constructor in {**KINDS, "classifier": CodeClassifier}.items():
        with pytest.raises(InputError, match=f"kind '{kind}' has no setting '{name}'"):
            arguments.settings([f"{name}=3"], kind, constructor)
        with pytest.raises(InputError, match="has no setting 'zzzz'") as caught:
            arguments.settings(["zzzz=3"], kind, constructor)
        assert "_'" not in str(caught.value)


def test_nan_and_infinity_become_null_in_json(capsys):
    print_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": (1, None)}, "name": "ä"})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": {"d": [1, None]}, "name": "ä"}


def test_line_breaks_are_removed_from_messages():
    assert one_line("first\n\n  second\tthird ") == "first second third"
