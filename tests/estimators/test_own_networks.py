"""Networks of users: built, trained, saved, searched and refused."""

import copy
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

import isthmus
from isthmus import Autoencoder, ContractiveAutoencoder, DenoisingAutoencoder, InputError, SparseAutoencoder, TopK
from isthmus.files import read_tensors
from isthmus.parts.forward import Batch
from tests.no_wait import NoWait

from .fitted import X
from .interruptions import kill

SMALL = {"code_size": 4, "max_epochs": 3, "random_state": 0}


@isthmus.register_network("normalised-pair")
@dataclass(frozen=True)
class NormalisedPair:
    """One hidden layer with batch normalisation on either side."""

    n_hidden: int = 16

    def build(self, n_inputs, code_size, n_outputs, image_shape, generator):
        encoder = nn.Sequential(
            nn.Linear(n_inputs, self.n_hidden), nn.BatchNorm1d(self.n_hidden), nn.ReLU(),
            nn.Linear(self.n_hidden, code_size),
        )  # fmt: skip
        return encoder, nn.Sequential(
            nn.Linear(code_size, self.n_hidden), nn.ReLU(), nn.Linear(self.n_hidden, n_outputs)
        )


class Images:
    """A convolution on 8 x 8 images; not registered."""

    def build(self, n_inputs, code_size, n_outputs, image_shape, generator):
        channels, height, width = image_shape
        encoder = nn.Sequential(
            nn.Unflatten(1, image_shape), nn.Conv2d(channels, 3, 3), nn.ReLU(), nn.Flatten(),
            nn.Linear(3 * (height - 2) * (width - 2), code_size),
        )  # fmt: skip
        return encoder, nn.Linear(code_size, n_outputs)


MODELS = {
    "deep": Autoencoder(network=NormalisedPair(), **SMALL),
    "deep, by name": Autoencoder(network="normalised-pair", **SMALL),
    "sparse": SparseAutoencoder(network=NormalisedPair(8), sparsity=TopK(k=2), **SMALL),
    "denoising, missing": DenoisingAutoencoder(network=NormalisedPair(8), corruption="missing", **SMALL),
    "contractive": ContractiveAutoencoder(network=NormalisedPair(8), **SMALL),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_network_of_a_user_trains_and_is_saved(name, tmp_path):
    model = clone(MODELS[name]).fit(X)
    epochs = model.history_["epochs"]
    assert epochs[-1]["train"] < epochs[0]["train"]
    again = clone(MODELS[name]).fit(X)
    np.testing.assert_array_equal(again.transform(X), model.transform(X))
    model.save(tmp_path / "m")
    loaded = isthmus.load(tmp_path / "m")
    np.testing.assert_array_equal(loaded.transform(X), model.transform(X))
    np.testing.assert_array_equal(loaded.reconstruct(X), model.reconstruct(X))
    assert loaded.network == model.network
    np.testing.assert_array_equal(copy.deepcopy(model).transform(X), model.transform(X))


def test_a_fit_leaves_the_global_generator_as_it_was():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    clone(MODELS["deep"]).fit(X)
    assert torch.equal(torch.rand(1), expected)


def test_a_pass_changes_no_buffer_and_does_not_wait():
    objective = clone(MODELS["deep"]).fit(X)._with_criterion().objective.train()
    batch = Batch(torch.randn(30, 64, generator=torch.Generator().manual_seed(0)))
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    with NoWait():
        terms, carried = objective.terms(batch, 0.5, None)
        sum(term.mean() for term in terms.values()).backward()
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())
    reference = copy.deepcopy(objective.coder.encoder.module)
    reference(batch.x)
    objective.update(carried)
    for ours, theirs in zip(objective.coder.encoder.module.buffers(), reference.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_killed_run_resumes_to_equal_codes(tmp_path, monkeypatch):
    expected = clone(MODELS["deep"]).fit(X).transform(X)
    model = clone(MODELS["deep"])
    kill(lambda **options: model.fit(X, checkpoint=tmp_path / "m", **options), monkeypatch, after=20)
    resumed = clone(MODELS["deep"]).fit(X, checkpoint=tmp_path / "m", resume=True)
    np.testing.assert_array_equal(resumed.transform(X), expected)
    kill(lambda **options: clone(model).fit(X, checkpoint=tmp_path / "n", **options), monkeypatch, after=2)
    other = Autoencoder(network=NormalisedPair(5), **SMALL)
    with pytest.raises(InputError, match="network"):
        other.fit(X, checkpoint=tmp_path / "n", resume=True)


def test_images_reach_the_network_with_their_shape(tmp_path):
    images = X.reshape(-1, 8, 8)
    model = Autoencoder(network=Images(), **SMALL).fit(images)
    assert model.reconstruct(images).shape == images.shape
    with pytest.raises(InputError, match=r"not registered; decorate it with @isthmus.register_network"):
        model.save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_a_search_chooses_between_networks():
    search = GridSearchCV(clone(MODELS["deep"]), {"network": ["mlp", NormalisedPair(2), NormalisedPair(16)]}, cv=2)
    assert search.fit(X[:100]).best_params_["network"] is not None


class Wrong:
    """Builds what it is given."""

    def __init__(self, *parts):
        self.parts = parts

    def build(self, n_inputs, code_size, n_outputs, image_shape, generator):
        return self.parts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": "resnet"}, "network 'resnet' is not registered"),
        ({"network": 3}, "give one of 'mlp', 'conv', 'conv1d', .*, or an object with a method build"),
        ({"network": NormalisedPair}, "give one of 'mlp', 'conv', 'conv1d', .*, or an object with a method build"),
        ({"network": Wrong(nn.Linear(64, 4))}, "build must return an encoder and a decoder"),
        ({"network": Wrong(nn.Linear(64, 4), len)}, "build must return an encoder and a decoder"),
        ({"network": Wrong(nn.Linear(60, 4), nn.Linear(4, 64))}, r"the encoder does not take rows of shape \(2, 64\)"),
        ({"network": Wrong(nn.Linear(64, 5), nn.Linear(4, 64))}, r"the encoder returns \(2, 5\)"),
        ({"network": Wrong(nn.Linear(64, 4), nn.Linear(4, 63))}, r"the decoder returns \(2, 63\)"),
        ({"network": NormalisedPair(), "hidden_sizes": (8,)}, r"hidden_sizes=\(8,\) is the shorthand of network=MLP"),
        ({"network": NormalisedPair(), "dropout": 0.5}, r"has no argument 'dropout'; give network=MLP\(dropout=...\)"),
    ],
)  # fmt: skip
def test_a_wrong_network_is_refused_in_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as error:
        Autoencoder(**SMALL | arguments).fit(X)
    assert "\n" not in str(error.value)


def test_a_name_belongs_to_one_network():
    with pytest.raises(InputError, match="'normalised-pair' is taken"):
        isthmus.register_network("normalised-pair")(Images)
    with pytest.raises(InputError, match="'mlp' is taken"):
        isthmus.register_network("mlp")(Images)
    assert isthmus.register_network("normalised-pair")(NormalisedPair) is NormalisedPair


MODULE = """
from torch import nn
import isthmus

@isthmus.register_network("pair-of-a-module")
class Pair:
    def build(self, n_inputs, code_size, n_outputs, image_shape, generator):
        return nn.Linear(n_inputs, code_size), nn.Linear(code_size, n_outputs)
"""


def test_the_command_line_imports_the_module_of_a_network(tmp_path):
    (tmp_path / "mynets.py").write_text(MODULE)
    np.save(tmp_path / "x.npy", X[:60])

    def isthmus_command(*words):
        command = [sys.executable, "-c", "from isthmus.cli import main; main()", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    fit = ("fit", "x.npy", "-o", "m", "--epochs", "2", "--set", "network=pair-of-a-module", "--quiet")
    assert isthmus_command("--import", "mynets", *fit).returncode == 0
    assert read_tensors(tmp_path / "m")[1]["parameters"]["network"]["registered"] == "pair-of-a-module"
    encode = ("encode", "m", "x.npy", "-o", "codes.npy")
    missing = isthmus_command(*encode)
    assert missing.returncode == 2
    assert "network 'pair-of-a-module' is not registered" in missing.stderr
    assert "--import MODULE" in missing.stderr
    assert isthmus_command("--import", "mynets", *encode).returncode == 0
    absent = isthmus_command("--import", "no_such_module", *encode)
    assert absent.returncode == 2
    assert "--import no_such_module" in absent.stderr


def test_a_registered_class_with_attributes_is_saved_only_as_a_dataclass(tmp_path):
    @isthmus.register_network("test-plain-attributes")
    class Plain:
        def __init__(self, n_hidden=4):
            self.n_hidden = n_hidden

        def build(self, n_inputs, code_size, n_outputs, image_shape, generator):
            return nn.Linear(n_inputs, code_size), nn.Linear(code_size, n_outputs)

    model = isthmus.Autoencoder(network=Plain(3), code_size=2, max_epochs=1, random_state=0).fit(X[:40])
    with pytest.raises(
        InputError, match=r"Plain is not a dataclass, so a file cannot hold its attributes \(n_hidden\)"
    ):
        model.save(tmp_path / "m")


def test_a_network_that_returns_the_same_modules_is_copied():
    class Same:
        def __init__(self):
            self.pair = nn.Linear(X.shape[1], 2), nn.Linear(2, X.shape[1])

        def build(self, *sizes):
            return self.pair

    network = Same()
    before = network.pair[0].weight.detach().clone()
    first = isthmus.Autoencoder(network=network, code_size=2, max_epochs=2, random_state=0).fit(X[:60])
    codes = first.transform(X)
    isthmus.Autoencoder(network=network, code_size=2, max_epochs=2, random_state=1).fit(X[:60])
    np.testing.assert_array_equal(first.transform(X), codes)
    torch.testing.assert_close(network.pair[0].weight, before, rtol=0, atol=0)
