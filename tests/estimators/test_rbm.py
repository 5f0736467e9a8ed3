"""Stacks of machines: unrolling is their mean-field passes, what is fine-tuned begins there, and what they refuse."""

import copy
import itertools
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import isthmus
from isthmus import CD, PCD, CodeClassifier, FineTuning, InputError, Pretraining, RBMLayer, StackedAutoencoder
from isthmus.learning.contrastive_divergence import ContrastiveDivergence
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.stacking import SimultaneousLayers
from isthmus.learning.unrolling import UnrolledDecoder, unrolled_coder
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.likelihoods import Bernoulli, likelihood_from

from .interruptions import kill, press_ctrl_c

DIGITS = load_digits()
X, Y = DIGITS.data[:300] / 16, DIGITS.target[:300]
SAME_TIME = {"pretraining": "together"}


def stack(**changes):
    options = {
        "layers": "rbm", "hidden_sizes": (24, 16), "code_size": 8, "max_epochs": 2, "batch_size": 64, "random_state": 0,
    }  # fmt: skip
    return StackedAutoencoder(**options | changes)


def weights(model):
    return {name: value.clone() for name, value in model.coder_.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def names(model):
    return [record["name"] for record in model.history_["pretraining"]] + [model.history_["name"]]


GREEDY = ["layer 1 of 3", "layer 2 of 3", "layer 3 of 3"]


def make_layers(visible="bernoulli", hidden="bernoulli", sizes=(6, 5, 4, 3)):
    """Criteria of RBMs in float64, with weights and biases that are not small."""
    generator, layers = torch.Generator().manual_seed(0), []
    for k, (n, m) in enumerate(itertools.pairwise(sizes)):
        likelihood = Bernoulli(n) if k else likelihood_from({"name": visible}, n)
        top = k == len(sizes) - 2
        rbm = RBMEnergy(
            likelihood, m, hidden=hidden if top else "bernoulli", weight_scale=1.0, generator=generator
        ).double()
        with torch.no_grad():
            for bias in (rbm.visible_bias, rbm.hidden_bias, *likelihood.parameters()):
                bias.copy_(torch.randn(bias.shape, generator=generator))
        layers.append(ContrastiveDivergence(rbm).double())
    return layers


def unrolled(layers):
    """Return the deep autoencoder of RBMs."""
    return unrolled_coder([layer.coder for layer in layers]).double()


@pytest.mark.parametrize("hidden", ["bernoulli", "gaussian", "rectified"])
@pytest.mark.parametrize("visible", ["bernoulli", "gaussian", "gaussian-per-column"])
def test_the_unrolled_stack_equals_the_mean_field_passes_of_its_rbms(visible, hidden):
    layers = make_layers(visible, hidden)
    whole = unrolled(layers)
    v = torch.rand(7, 6, generator=torch.Generator().manual_seed(1)).double()
    first, second, top = (layer.rbm for layer in layers)
    code = top.hidden_mean(second.hidden_mean(first.hidden_mean(v)))
    torch.testing.assert_close(whole.encode(Batch(v)).code, code)
    down = first.visible_mean(second.visible_mean(top.visible_mean(code)))
    output = whole(Batch(v))
    torch.testing.assert_close(whole.likelihood.mean(output.parameters), down)


def test_the_whole_names_every_weight_once_and_a_copy_is_its_own():
    made = unrolled(make_layers("gaussian-per-column"))
    for whole in (made, copy.deepcopy(made)):
        named = dict(whole.named_parameters())
        assert len({id(p) for p in named.values()}) == len(named) == 3 * 4 + 1  # W, c, b, U each, and the variances
        assert set(whole.state_dict()) == set(named)


def test_machines_that_do_not_fit_each_other_are_refused():
    first, _, third = make_layers()
    with pytest.raises(InputError, match="layer 1 has 5 units but layer 2 has 4 inputs; give each layer as many"):
        unrolled([first, third])


def both_ways(model):
    """Return the RBM and the directed layer of each layer of a fitted stack, lowest first."""
    return list(zip(model.coder_.encoder.encoders, reversed(model.coder_.decoder.decoders), strict=True))


@pytest.mark.parametrize("options", [{}, SAME_TIME])
@pytest.mark.parametrize("code", ["sigmoid", "linear"])
def test_without_fine_tuning_encoder_and_decoder_keep_the_rbm_weights(options, code):
    model = stack(fine_tuning=None, code_activation=code, **options).fit(X)
    h = torch.from_numpy(X).float()
    for rbm, directed in both_ways(model):
        assert rbm.weight.std() > 0.02
        assert torch.equal(directed.weight, rbm.weight.t())
        h = rbm.hidden_mean(h)
    np.testing.assert_allclose(model.transform(X), h.detach(), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "phases"),
    [
        ({}, [*GREEDY, "fine-tuning"]),
        ({"fine_tuning": None}, GREEDY),
        (SAME_TIME, ["together", "fine-tuning"]),
        ({"fine_tuning": None, **SAME_TIME}, ["together"]),
        ({"layers": "ordinary", **SAME_TIME}, ["together", "fine-tuning"]),
    ],
)
def test_the_phases_are_those_that_were_asked_for(changes, phases):
    model = stack(**changes).fit(X)
    assert names(model) == phases
    assert np.isfinite(model.reconstruct(X)).all()


def test_fine_tuning_goes_on_from_the_machines_and_parts_the_two_ways():
    learned = stack(fine_tuning=None, patience=None).fit(X)
    tuned = stack(fine_tuning=FineTuning(epochs=1, learning_rate=1e-6), patience=None).fit(X)
    np.testing.assert_allclose(tuned.reconstruct(X), learned.reconstruct(X), atol=1e-3)
    (first, directed), *_ = both_ways(tuned)
    assert not torch.equal(first.weight.t(), directed.weight)


@pytest.mark.parametrize(("code", "hidden"), [("sigmoid", (32,)), ("linear", ())])
def test_machines_learn_to_reconstruct_and_fine_tuning_gains_more(code, hidden):
    options = {"hidden_sizes": hidden, "code_size": 12, "batch_size": 16, "code_activation": code, "max_epochs": 30}
    at_mean = ((X - X.mean(0)) ** 2).sum(1).mean()
    learned = stack(fine_tuning=None, pretraining=Pretraining(learning_rate=0.5), **options).fit(X)
    tuned = stack(fine_tuning=FineTuning(epochs=5), pretraining=Pretraining(learning_rate=0.5), **options).fit(X)
    assert tuned.reconstruction_error(X).mean() < learned.reconstruction_error(X).mean() < 0.85 * at_mean


def test_fine_tuning_follows_the_gradient_of_the_whole_and_no_centred_step():
    layers = make_layers()
    whole, v = Reconstruction(unrolled(layers)), torch.rand(7, 6, generator=torch.Generator().manual_seed(1)).double()
    for layer in layers:
        layer.density.carry_offsets(torch.rand(5, layer.rbm.n_visible).double(), rate=1.0)
    terms, _ = whole.terms(Batch(v), 0.0, None)
    terms["reconstruction"].mean().backward()
    before = [p.grad.clone() for p in whole.parameters()]
    whole.project_gradient()
    assert all(torch.equal(p.grad, gradient) for p, gradient in zip(whole.parameters(), before, strict=True))


def test_real_units_take_a_twentieth_of_the_steps():
    options = {"fine_tuning": None, "pretraining": Pretraining(learning_rate=0.2)}
    model = stack(likelihood="gaussian", **options).fit(DIGITS.data[:300])
    largest = [
        max(line["learning_rate"] for line in record["epochs"])
        for record in [*model.history_["pretraining"], model.history_]
    ]
    assert largest == pytest.approx([0.01, 0.2, 0.2], rel=0.5)


@pytest.mark.parametrize(
    ("given", "name"), [(X, "bernoulli"), (DIGITS.data[:300], "gaussian"), ((X > 0.5) * 1.0, "bernoulli")]
)
def test_the_visible_units_are_those_that_the_rows_suggest(given, name):
    assert stack(max_epochs=1).fit(given).likelihood_["name"] == name


def test_together_every_layer_follows_its_own_contrast_at_its_rate():
    layers = make_layers(hidden="gaussian")
    together = SimultaneousLayers(layers, [1.0, 1.0, 0.05]).train()
    v = torch.rand(7, 6, generator=torch.Generator().manual_seed(1)).double()
    terms, _ = together.terms(Batch(v), 0.0, torch.Generator().manual_seed(2))
    assert list(terms) == [f"layer_{k}_contrast" for k in (1, 2, 3)]
    sum(term.mean() for term in terms.values()).backward()
    ours = [layer.rbm.weight.grad.clone() for layer in layers]
    for layer in layers:
        layer.zero_grad()
    generator, h = torch.Generator().manual_seed(2), v
    for layer, rate, gradient in zip(make_layers(hidden="gaussian"), (1.0, 1.0, 0.05), ours, strict=True):
        terms, _ = layer.terms(Batch(h), 0.0, generator)
        terms["contrast"].mean().backward()
        torch.testing.assert_close(gradient, rate * layer.rbm.weight.grad)
        h = layer.coder.encode(Batch(h)).code.detach()


def test_together_ordinary_layers_pass_no_gradient_to_each_other():
    model = stack(layers="denoising", fine_tuning=None, **SAME_TIME).fit(X)
    layers = model._with_criterion().layers
    together = SimultaneousLayers(layers)
    together.zero_grad()
    terms, _ = together.terms(Batch(torch.from_numpy(X[:20]).float()), 0.0, torch.Generator().manual_seed(0))
    terms["layer_3_reconstruction"].mean().backward()
    moved = [any(p.grad is not None for p in layer.parameters()) for layer in layers]
    assert moved == [False, False, True]
    torch.testing.assert_close(
        together.monitor(Batch(torch.from_numpy(X).float())),
        sum(layer.monitor(seen) for _, layer, seen in together.climb(Batch(torch.from_numpy(X).float()))),
    )


@pytest.mark.parametrize("method", ["cd", "pcd"])
@pytest.mark.parametrize(("options", "step"), [({}, 15), ({}, 35), (SAME_TIME, 7), (SAME_TIME, 15)])
def test_a_run_cut_in_any_phase_and_resumed_ends_with_equal_weights(options, step, method, tmp_path, monkeypatch):
    options = {"layers": RBMLayer(method=method), **options}
    uncut = stack(**options).fit(X)
    kill(partial(stack(**options).fit, X, checkpoint=tmp_path / "m"), monkeypatch, after=step)
    again = stack(**options).fit(X, checkpoint=tmp_path / "m", resume=True)
    assert same(weights(again), weights(uncut))
    assert names(again) == names(uncut)


def test_ctrl_c_in_a_machine_keeps_a_model_whose_two_ways_agree(tmp_path, monkeypatch):
    press_ctrl_c(monkeypatch, at=8)
    model = stack().fit(X)
    assert names(model) == ["layer 1 of 3"]
    for rbm, directed in both_ways(model):
        assert torch.equal(rbm.weight.t(), directed.weight)
    model.save(tmp_path / "m")
    np.testing.assert_array_equal(isthmus.load(tmp_path / "m").reconstruct(X), model.reconstruct(X))


def test_a_classifier_starts_from_the_machines():
    model = stack(fine_tuning=None, max_epochs=20).fit(X)
    before = weights(model)
    how = {"max_epochs": 60, "learning_rate": 3e-2, "patience": None, "validation_fraction": 0.0, "random_state": 0}
    classifier = CodeClassifier(encoder=model, **how).fit(X, Y)
    assert classifier.score(X, Y) > 0.7
    assert same(weights(model), before)


def test_the_command_line_fits_machines(tmp_path):
    from typer.testing import CliRunner

    from isthmus.cli import app

    np.save(tmp_path / "x.npy", X[:100])
    told = ["fit", str(tmp_path / "x.npy"), "-o", str(tmp_path / "m"), "--kind", "stacked", "--epochs", "2",
            "--code-size", "3", "--set", "layers=rbm", "--set", "pretraining=together"]  # fmt: skip
    result = CliRunner().invoke(app, told)
    assert result.exit_code == 0, result.output
    assert isinstance(isthmus.load(tmp_path / "m").coder_.decoder, UnrolledDecoder)


REFUSED = [
    ({"pretraining": "joint"}, "pretraining='joint' is for layers that reconstruct, and RBMs are not trained so; take"),
    ({"pretraining": "supervised"}, "pretraining='supervised' is for layers that reconstruct"),
    ({"corruption": "masking"}, r"has no argument 'corruption'; give layers=Layer\(corruption=...\)"),
    ({"sparsity": "kl"}, r"has no argument 'sparsity'; give layers=Layer\(sparsity=...\)"),
    ({"contraction_weight": 0.1}, r"has no argument 'contraction_weight'; give .*Contraction\(weight=...\)"),
    ({"tied": True}, r"has no argument 'tied'; give layers=Layer\(tied=...\)"),
    ({"activation": "relu"}, r"has no argument 'activation'; give layers=Layer\(activation=...\)"),
    ({"code_activation": "tanh"}, "code_activation 'tanh' is unknown"),
    ({"pretraining": None}, "pretraining=None leaves RBMs at their small initial weights"),
    ({"hidden_sizes": (24, 0)}, r"hidden_sizes=\(24, 0\): it must be a list of whole numbers of at least 1"),
    ({"likelihood": "gaussian-unit"}, "likelihood='gaussian-unit' has no visible unit of an energy"),
    ({"method": "pcd"}, "has no argument 'method'; give layers=RBMLayer"),
]


@pytest.mark.parametrize(("changes", "text"), REFUSED, ids=[str(changes) for changes, _ in REFUSED])
def test_arguments_that_machines_have_no_use_for_are_refused_in_one_line(changes, text):
    with pytest.raises(InputError, match=text) as refused:
        stack(**changes).fit(X)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: RBMLayer(method="cdd"), "method='cdd' is unknown; did you mean 'cd'"),
        (lambda: RBMLayer(method="score"), "method='score': the layers of a stack are trained by 'cd' or 'pcd'"),
        (lambda: RBMLayer(method=CD(n_steps=0)), "n_steps=0: it must be a whole number of at least 1"),
        (lambda: RBMLayer(method=PCD(n_chains=0)), "n_chains=0"),
        (
            lambda: stack().set_params(layers__tied=True),
            "layers='rbm', that is RBMLayer.., has no argument 'tied'; set la",
        ),
        (lambda: stack().set_params(layers__sparsity="kl"), "has no argument 'sparsity'; set layers='ordinary' or"),
    ],
)
def test_a_layer_of_a_machine_refuses_fields_in_one_line(build, text):
    with pytest.raises(InputError, match=text) as refused:
        build()
    assert "\n" not in str(refused.value)


def test_real_rows_in_binary_machines_are_refused():
    with pytest.raises(InputError, match="Bernoulli likelihood requires values in .0, 1.; found 5"):
        stack(likelihood="bernoulli", scaling="none").fit(DIGITS.data[:300])
