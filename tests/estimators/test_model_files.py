"""Model files: sizes, kinds and names come from the file."""

import numpy as np
import pytest

import isthmus
from isthmus import L1, MLP, InputError, Layer, Masking
from isthmus.estimators import stacked
from isthmus.estimators.registry import KINDS
from isthmus.files import read_tensors, write_tensors
from isthmus.parts import convolutions
from isthmus.values import networks
from isthmus.values.corruptions import CORRUPTION
from isthmus.values.layers import LAYERS
from isthmus.values.networks import NETWORK
from isthmus.values.sparsities import SPARSITY

from .fitted import X


@pytest.mark.parametrize(
    "kind", ["deep", "conv", "denoising, conv", "stacked", "recurrent", "stacked, rbm", "dbn", "dbm"]
)
def test_a_file_is_read_in_its_own_sizes_when_the_defaults_have_changed(kind, tmp_path, monkeypatch):
    name, _, variant = kind.partition(", ")
    options = {"conv": {"network": "conv"}, "rbm": {"layers": "rbm"}}.get(variant, {})
    if name in ("dbm", "dbn"):
        options = {"hidden_sizes": None}
    model = KINDS[name](code_size=3, max_epochs=1, random_state=0, **options).fit(X[:60])
    assert getattr(model, "hidden_sizes", None) is None
    model.save(tmp_path / "m")
    for module in (networks, stacked):
        monkeypatch.setattr(module, "default_hidden_sizes", lambda n_columns, code_size: (5,))
    monkeypatch.setattr(convolutions, "default_channels", lambda image_shape: (3,))
    monkeypatch.setattr(convolutions, "default_dense_sizes", lambda code_size: (7,))
    again = isthmus.load(tmp_path / "m")
    assert again.hidden_sizes_ == model.hidden_sizes_
    np.testing.assert_array_equal(again.transform(X), model.transform(X))


def test_a_fresh_process_loads_a_model_through_a_submodule(tmp_path):
    import subprocess
    import sys

    KINDS["linear"](code_size=2, max_epochs=1, random_state=0).fit(X[:20]).save(tmp_path / "m")
    script = "from isthmus.estimators.model_files import load; import sys; print(load(sys.argv[1]).kind)"
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "m"], capture_output=True, text=True, check=True)
    assert done.stdout == "linear\n"


def test_an_unknown_kind_in_a_file_is_refused_by_name(tmp_path):
    KINDS["linear"](code_size=2, max_epochs=1, random_state=0).fit(X[:20]).save(tmp_path / "m")
    tensors, header = read_tensors(tmp_path / "m")
    write_tensors(tmp_path / "n", tensors, header | {"kind": "linaer"})
    with pytest.raises(InputError, match="unknown kind 'linaer'; did you mean 'linear'"):
        isthmus.load(tmp_path / "n")


def test_a_model_opens_on_another_device_than_that_of_its_training(tmp_path):
    model = isthmus.Autoencoder(code_size=2, hidden_sizes=(5,), max_epochs=1, device="cpu", random_state=0).fit(X[:60])
    model.save(tmp_path / "m")
    assert "device" not in read_tensors(tmp_path / "m")[1]["parameters"]
    assert isthmus.load(tmp_path / "m").device == "auto"
    assert isthmus.load(tmp_path / "m", device="cpu").device == "cpu"
    classifier = isthmus.CodeClassifier(encoder=model, max_epochs=1, random_state=0).fit(X[:60], np.arange(60) % 2)
    classifier.save(tmp_path / "c")
    again = isthmus.load(tmp_path / "c", device="cpu")
    assert again.device == again.encoder_.device == "cpu"
    with pytest.raises(InputError, match="cuda:99"):
        isthmus.load(tmp_path / "m", device="cuda:99")


@pytest.mark.parametrize(
    ("name", "argument", "shorthand", "new"),
    [
        ("deep", NETWORK, "mlp", MLP(activation="tanh")),
        ("sparse", SPARSITY, "l1", L1(weight=3.0, unit_columns=False)),
        ("denoising", CORRUPTION, "masking", Masking(rate=0.5)),
        ("stacked", LAYERS, "denoising", Layer(sparsity="topk")),
        ("stacked", CORRUPTION, "masking", Masking(rate=0.5)),
    ],
)
def test_a_file_is_read_with_its_own_values_when_a_shorthand_has_another_meaning(
    name, argument, shorthand, new, tmp_path, monkeypatch
):
    options = {"hidden_sizes": (5,)} if name in ("deep", "stacked") else {}
    options |= {"layers": "denoising"} if name == "stacked" else {}
    model = KINDS[name](code_size=3, max_epochs=1, random_state=0, **options).fit(X[:60])
    model.save(tmp_path / "m")
    assert isthmus.load(tmp_path / "m").get_params(deep=False) == model.get_params(deep=False)
    codes, values = model.transform(X), model.resolved_values()
    monkeypatch.setitem(argument.values, shorthand, new)
    again = isthmus.load(tmp_path / "m")
    np.testing.assert_array_equal(again.transform(X), codes)
    assert again.resolved_values() == values


def test_a_file_with_an_argument_of_a_later_version_is_refused_by_name(tmp_path):
    KINDS["linear"](code_size=2, max_epochs=1, random_state=0).fit(X[:20]).save(tmp_path / "m")
    tensors, header = read_tensors(tmp_path / "m")
    header["parameters"]["new_argument"] = 3
    write_tensors(tmp_path / "n", tensors, header)
    with pytest.raises(InputError, match="holds the argument 'new_argument', which kind 'linear' does not have"):
        isthmus.load(tmp_path / "n")
