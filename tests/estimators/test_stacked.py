"""The stacked autoencoder: its phases, what a cut or a Ctrl-C leaves, its labels, and what it refuses."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from sklearn import clone
from sklearn.datasets import load_digits

import isthmus
from isthmus import Contraction, FineTuning, InputError, Layer, Masking, Pretraining, RBMLayer, StackedAutoencoder, TopK
from isthmus.parts import corruptions, jacobians
from isthmus.parts.networks import TiedMLP
from isthmus.parts.penalties import LaplacePrior

from .fitted import criterion, equal, kept_state
from .interruptions import kill, press_ctrl_c

DIGITS = load_digits()
X, Y = DIGITS.data[:300], DIGITS.target[:300]


def stack(**changes):
    options = {"hidden_sizes": (24, 16), "code_size": 8, "max_epochs": 2, "batch_size": 64, "random_state": 0}
    return StackedAutoencoder(**options | changes)


def names(model):
    return [record["name"] for record in model.history_["pretraining"]] + [model.history_["name"]]


GREEDY = ["layer 1 of 3", "layer 2 of 3", "layer 3 of 3"]


@pytest.mark.parametrize(
    ("changes", "phases"),
    [
        ({}, [*GREEDY, "fine-tuning"]),
        ({"fine_tuning": None}, GREEDY),
        ({"pretraining": None}, ["fine-tuning"]),
        ({"pretraining": "joint"}, ["joint"]),
        ({"pretraining": "joint", "fine_tuning": FineTuning(epochs=1)}, ["joint", "fine-tuning"]),
        ({"pretraining": "supervised"}, GREEDY),
        ({"pretraining": "supervised", "fine_tuning": FineTuning(epochs=1)}, [*GREEDY, "fine-tuning"]),
    ],
)
def test_the_phases_are_those_that_were_asked_for(changes, phases):
    model = stack(**changes).fit(X, Y)
    assert names(model) == phases
    assert np.isfinite(model.reconstruct(X)).all()


def test_epochs_and_rates_are_those_of_their_stage():
    model = stack(
        pretraining=Pretraining(epochs=3, learning_rate=1e-2), fine_tuning=FineTuning(epochs=4, learning_rate=1e-4)
    ).fit(X)
    records = [*model.history_["pretraining"], model.history_]
    assert [len(record["epochs"]) for record in records] == [3, 3, 3, 4]
    largest = [max(line["learning_rate"] for line in record["epochs"]) for record in records]
    assert largest == pytest.approx([1e-2, 1e-2, 1e-2, 1e-4], rel=0.5)


@pytest.mark.parametrize(
    ("layers", "found"),
    [
        ("ordinary", lambda layer: layer.corruption is None and not layer.penalties),
        ("denoising", lambda layer: isinstance(layer.corruption, corruptions.Masking)),
        ("sparse", lambda layer: isinstance(layer.penalties["sparsity"], LaplacePrior)),
        ("contractive", lambda layer: isinstance(layer.penalties["contraction"], jacobians.Contraction)),
    ],
)
def test_every_layer_is_of_the_kind_that_was_asked_for(layers, found):
    model = stack(layers=layers, max_epochs=1).fit(X)
    whole = criterion(model)
    assert all(found(layer) for layer in whole.layers)
    assert all(isinstance(layer.coder.decoder, TiedMLP) for layer in whole.layers)
    assert not whole.penalties  # the whole is fine-tuned without


def test_kinds_of_layer_combine_with_every_argument_of_the_regularised_kinds():
    layer = Layer(corruption="gaussian", sparsity=TopK(k=3), contraction=Contraction(weight=0.1), tied=False)
    model = stack(layers=layer, max_epochs=1).fit(X)
    terms = [set(record["epochs"][0]["terms"]) for record in model.history_["pretraining"]]
    assert terms == [{"reconstruction", "dead_units", "contraction"}] * 3
    assert (model.transform(X) != 0).sum(1).max() == 3
    assert not any(isinstance(layer.coder.decoder, TiedMLP) for layer in criterion(model).layers)


SAVED = {"a layer": 15, "another": 29, "fine-tuning": 40}
"""Steps after which a run is killed: five a pass, two passes a phase."""


@pytest.mark.parametrize("where", SAVED)
@pytest.mark.parametrize("pretraining", ["greedy", "supervised"])
def test_a_run_cut_in_any_phase_and_resumed_ends_with_equal_weights(where, pretraining, tmp_path, monkeypatch):
    options = {"layers": "denoising", "pretraining": pretraining, "fine_tuning": FineTuning(epochs=2)}
    uncut = stack(**options).fit(X, Y)
    kill(partial(stack(**options).fit, X, Y, checkpoint=tmp_path / "m"), monkeypatch, after=SAVED[where])
    state = isthmus.files.read_tensors(tmp_path / "m.checkpoint")[1]["state"]
    assert state["phase"] == (SAVED[where] - 1) // 10
    if pretraining == "supervised":
        with pytest.raises(InputError, match=r"other arguments: .*labels \("):
            stack(**options).fit(X, Y[::-1], checkpoint=tmp_path / "m", resume=True)
    again = stack(**options).fit(X, Y, checkpoint=tmp_path / "m", resume=True)
    assert equal(kept_state(again), kept_state(uncut))
    assert names(again) == names(uncut)
    assert [record["epochs"][-1]["train"] for record in again.history_["pretraining"]] == [
        record["epochs"][-1]["train"] for record in uncut.history_["pretraining"]
    ]


@pytest.mark.parametrize("options", [{}, {"pretraining": "joint"}, {"pretraining": "supervised"}])
def test_ctrl_c_in_a_layer_keeps_a_model_that_can_be_used(options, tmp_path, monkeypatch):
    press_ctrl_c(monkeypatch, at=8)
    model = stack(**options).fit(X, Y)
    assert model.history_["stopped"] == "interrupted"
    assert names(model) == (["joint"] if options.get("pretraining") == "joint" else ["layer 1 of 3"])
    model.save(tmp_path / "m")
    again = isthmus.load(tmp_path / "m")
    np.testing.assert_array_equal(again.reconstruct(X), model.reconstruct(X))
    assert np.isfinite(again.transform(X)).all()


def test_layers_that_learned_reconstruct_better_than_drawn_ones_and_fine_tuning_better_still():
    options = {"hidden_sizes": (48,), "code_size": 16, "max_epochs": 40, "learning_rate": 1e-2, "patience": None}
    greedy = stack(fine_tuning=None, **options).fit(X).reconstruction_error(X).mean()
    tuned = stack(**options).fit(X).reconstruction_error(X).mean()
    drawn = stack(pretraining=None, **options | {"max_epochs": 1}).fit(X).reconstruction_error(X).mean()
    assert tuned < greedy < drawn


def test_labels_help_the_code_tell_classes_apart():
    def separation(**options):
        codes = stack(hidden_sizes=(24,), max_epochs=30, learning_rate=1e-2, **options).fit(X, Y).transform(X)
        means = np.stack([codes[label == Y].mean(0) for label in range(10)])
        return means.var(0).sum() / np.mean([codes[label == Y].var(0).sum() for label in range(10)])

    assert separation(pretraining="supervised") > 3 * separation(fine_tuning=None)


def test_the_reconstruction_counts_beside_the_labels_where_asked():
    model = stack(pretraining=Pretraining("supervised", reconstruction_weight=0.5)).fit(X, Y)
    blind = stack(pretraining="supervised").fit(X, Y)
    assert set(model.history_["epochs"][0]["terms"]) == {"classification", "reconstruction"}
    assert model.history_["notes"] == []
    assert "the decoder was not trained" in blind.history_["notes"][0]
    assert blind.history_["epochs"][0]["terms"].keys() == {"classification"}


def test_validation_rows_carry_their_classes():
    model = stack(pretraining="supervised").fit(X[:200], Y[:200], validation=(X[200:], Y[200:]))
    assert model.history_["epochs"][-1]["held_out"] > 0
    assert not hasattr(model, "_y")


def test_a_stack_is_copied_with_its_layers():
    model = stack(max_epochs=1).fit(X)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other._with_criterion().layers[1].parameters():
            parameter.zero_()
    assert not np.array_equal(other.transform(X), model.transform(X))


REFUSED = [
    ({"layers": "denoisy"}, "layers='denoisy' is unknown; did you mean 'denoising'"),
    ({"layers": None}, "layers=None: give one of 'ordinary', 'denoising', 'sparse', 'contractive', 'rbm', a val"),
    (
        {"layers": Masking()},
        r"layers=Masking\(\): give one of 'ordinary', 'denoising', 'sparse', 'contractive', 'rbm', a",
    ),
    ({"pretraining": "greedily"}, "pretraining='greedily' is unknown; did you mean 'greedy'"),
    (
        {"pretraining": FineTuning()},
        r"pretraining=FineTuning\(\): give one of 'greedy', 'together', 'joint', 'supervised'",
    ),
    ({"code_activation": "foo"}, "^code_activation 'foo' is unknown; choose one of: "),
    ({"layers": Layer(activation="silu")}, "codes of SiLU units cannot be reconstructed by a layer above"),
    ({"pretraining": None, "fine_tuning": None}, "pretraining=None without fine-tuning trains nothing"),
    ({"n_chains": 50}, "has no argument 'n_chains'; give layers=RBMLayer"),
    ({"corruption": "masking"}, r"has no argument 'corruption'; give layers=Layer\(corruption=...\)"),
    ({"layers": Layer(sparsity=TopK(k=9))}, "k=9 active units do not fit a code of 8"),
]


@pytest.mark.parametrize(("changes", "text"), REFUSED, ids=[str(changes) for changes, _ in REFUSED])
def test_arguments_that_a_stack_has_no_use_for_are_refused(changes, text):
    with pytest.raises(InputError, match=text):
        stack(**changes).fit(X)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: Layer(corruption="missing"), "corruption='missing' has no meaning for codes, the input of the upper"),
        (lambda: Layer(corruption="groups"), "corruption='groups' has no meaning for codes, the input of the upper"),
        (lambda: Layer(corruption="maskin"), "corruption='maskin' is unknown; did you mean 'masking'"),
        (lambda: Layer(activation="foo"), "^activation 'foo' is unknown; choose one of: "),
        (lambda: RBMLayer(method="cdd"), "method='cdd' is unknown; did you mean 'cd'"),
        (lambda: Pretraining("greedily"), "Pretraining: method 'greedily' is unknown; did you mean 'greedy'"),
        (lambda: Pretraining(epochs=-1), "Pretraining: epochs=-1: it must be a whole number of at least 1"),
        (lambda: Pretraining(epochs=0), "Pretraining: epochs=0: it must be a whole number of at least 1"),
        (
            lambda: Pretraining(reconstruction_weight=0.1),
            "reconstruction_weight=0.1 applies only to method='supervised'",
        ),
        (lambda: Pretraining("supervised", reconstruction_weight=-1), "reconstruction_weight.* -1 is invalid; give"),
        (lambda: FineTuning(epochs=0), "FineTuning: epochs=0: it must be a whole number of at least 1"),
        (lambda: FineTuning(learning_rate=0), "FineTuning: learning_rate=0: it must be a finite number above 0"),
    ],
)
def test_layers_and_stages_refuse_invalid_fields(build, text):
    with pytest.raises(InputError, match=text) as refused:
        build()
    assert "\n" not in str(refused.value)


def test_labels_that_cannot_be_learned_are_refused():
    model = stack(pretraining="supervised")
    with pytest.raises(InputError, match="StackedAutoencoder requires y to be passed"):
        model.fit(X)
    with pytest.raises(InputError, match="X has 300 rows and y has 299 labels; give one label per row"):
        clone(model).fit(X, Y[1:])
    with pytest.raises(InputError, match=r"validates on labels too; give validation=\(rows, classes\)"):
        clone(model).fit(X, Y, validation=X)
    for rows, validation in ((Y, (X[:2], [np.nan, 1.0])), (np.where(Y == 3, np.nan, Y), None)):
        with pytest.raises(InputError, match="y holds nan at row .*; leave the row out$"):
            clone(model).fit(X, rows, validation=validation)
    with pytest.raises(InputError, match="y holds the class 11, which is not one of the training classes"):
        clone(model).fit(X, Y, validation=(X[:2], [11, 0]))
