"""Registries of users' objects: one object a name, and errors that say how to register."""

from __future__ import annotations

import importlib
import sys

import pytest
from torch import nn

import isthmus
from isthmus.errors import InputError
from isthmus.parts import own_networks, own_penalties
from isthmus.parts.registered import Registry


def registry() -> Registry:
    return Registry("shape", "example.register_shape", built_in=("circle",))


def square():
    return 4


def triangle():
    return 3


def test_an_object_is_found_by_its_name_and_the_name_by_the_object():
    shapes = registry()
    assert shapes.register("square")(square) is square
    shapes.register("triangle")(triangle)
    assert (shapes.named("square"), shapes.named("triangle")) == (square, triangle)
    assert [shapes.name_of(value) for value in (square, triangle, print, 3)] == ["square", "triangle", None, None]
    assert list(shapes) == ["square", "triangle"]


def test_a_name_belongs_to_one_object():
    shapes = registry()
    shapes.register("square")(square)
    assert shapes.register("square")(square) is square
    for name in ("square", "circle"):
        with pytest.raises(InputError, match=f"shape name '{name}' is taken; register the shape under another name"):
            shapes.register(name)(triangle)
    assert shapes.named("square") is square


def test_an_object_has_one_or_more_names_and_the_first_is_its_own():
    shapes = registry()
    shapes.register("square")(square)
    shapes.register("rectangle")(square)
    assert shapes.name_of(square) == "square"


def test_two_lambdas_are_two_objects():
    shapes = registry()
    shapes.register("square")(first := lambda: 4)
    assert shapes.register("square")(first) is first
    with pytest.raises(InputError, match="'square' is taken"):
        shapes.register("square")(lambda: 4)


def test_a_module_that_is_reloaded_registers_again(tmp_path, monkeypatch):
    (tmp_path / "module_of_a_penalty.py").write_text(
        "from isthmus.parts.own_penalties import register_penalty\n"
        "@register_penalty('of-a-module')\n"
        "def mine(output, coder):\n"
        "    return output.code.sum(-1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        module = importlib.import_module("module_of_a_penalty")
        first = own_penalties.penalty_named("of-a-module")
        assert first is module.mine
        second = importlib.reload(module).mine
        assert own_penalties.penalty_named("of-a-module") is second is not first
        assert own_penalties.penalty_name(second) == "of-a-module"
    finally:
        sys.modules.pop("module_of_a_penalty", None)


@pytest.mark.parametrize("name", [square, 3, "", None])
def test_a_name_is_a_text(name):
    with pytest.raises(InputError, match=r"is not a name; decorate with example.register_shape\(NAME\), NAME a text"):
        registry().register(name)


def test_what_is_registered_can_be_called():
    with pytest.raises(InputError, match="shape 'four' is 4, which is neither a class nor a function"):
        registry().register("four")(4)


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        (
            Registry("shape", "example.register_shape"),
            "shape 'star' is not registered (known: none); import the module that registers it by "
            "example.register_shape first, on the command line with isthmus --import MODULE",
        ),
        (registry(), "shape 'star' is not registered (known: circle); import the module"),
    ],
)
def test_an_unknown_name_raises(shapes, text):
    with pytest.raises(InputError) as refused:
        shapes.named("star")
    assert str(refused.value).startswith(text)
    assert "\n" not in str(refused.value)


# Networks and penalties


def test_networks_and_penalties_have_names_of_their_own():
    @isthmus.register_network("same-name")
    class Pair:
        def build(self, n_inputs, code_size, n_outputs, image_shape, generator):
            return nn.Linear(n_inputs, code_size), nn.Linear(code_size, n_outputs)

    @own_penalties.register_penalty("same-name")
    def mine(output, coder):
        return output.code.sum(-1)

    assert isthmus.register_network is own_networks.register_network
    assert isinstance(own_networks.network_named("same-name"), Pair)
    assert own_networks.network_entry(Pair()) == {"registered": "same-name", "arguments": {}}
    assert own_penalties.penalty_named("same-name") is mine
    assert own_penalties.penalty_name(mine) == "same-name"
    assert own_penalties.penalty_name(Pair) is None


@pytest.mark.parametrize(
    ("named", "text"),
    [
        (own_networks.network_named, "network 'none such' is not registered (known: mlp, conv"),
        (own_penalties.penalty_named, "penalty 'none such' is not registered (known: "),
    ],
)
def test_an_unknown_network_or_penalty_raises(named, text):
    with pytest.raises(InputError) as refused:
        named("none such")
    assert str(refused.value).startswith(text)
    assert "isthmus --import MODULE" in str(refused.value)
