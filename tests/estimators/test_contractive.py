"""The contractive autoencoder, as its users see it: it keeps tangents, it is local, it tells where scale may cheat."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import isthmus
from isthmus import L1, MLP, Contraction, ContractiveAutoencoder, Convolutional, InputError, TopK
from isthmus.parts import jacobians
from isthmus.parts.jacobians import code_jacobian, singular_values

from .fitted import criterion

X = load_digits().images / 16
TRAIN, TEST = X[:1400], X[1400:]
QUICK = {
    "code_size": 64, "max_epochs": 30, "batch_size": 128, "learning_rate": 1e-2, "precision": "fp32", "random_state": 0,
}  # fmt: skip
UNTIED = MLP(tied=False)


def fitted(**options) -> ContractiveAutoencoder:
    return ContractiveAutoencoder(**QUICK | options).fit(TRAIN)


@pytest.fixture(scope="module")
def contractive() -> ContractiveAutoencoder:
    return fitted(contraction=Contraction(weight=0.1))


@pytest.fixture(scope="module")
def plain() -> ContractiveAutoencoder:
    return fitted(contraction=None)


def at(images: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(images.reshape(len(images), -1), dtype=torch.float32)


def parts(model: ContractiveAutoencoder):
    return model.coder_.encoder, model.coder_.code_activation


def squared_norms(model: ContractiveAutoencoder, images: np.ndarray = TEST) -> np.ndarray:
    with torch.no_grad():
        return code_jacobian(*parts(model), at(images)).square().sum((1, 2)).numpy()


# What it does


def test_its_code_moves_less_than_without_the_penalty_and_still_reconstructs(contractive, plain):
    assert squared_norms(contractive).mean() < 0.3 * squared_norms(plain).mean()
    variance = ((TEST - TRAIN.mean(0)) ** 2).sum((1, 2)).mean()
    assert contractive.reconstruction_error(TEST).mean() < 0.4 * variance


def test_fewer_directions_are_left_in_its_jacobian(contractive, plain):
    def left(model):
        spectrum = singular_values(*parts(model), at(TEST[:100])).detach().square()
        return float((spectrum.sum(1).square() / spectrum.square().sum(1)).mean())

    assert left(contractive) < left(plain)


def test_rows_that_are_far_apart_keep_different_codes(contractive):
    codes = contractive.transform(TEST)
    generator = np.random.default_rng(0)
    step = generator.normal(size=TEST.shape)
    step *= 0.1 / np.sqrt((step**2).sum((1, 2), keepdims=True))
    near = np.linalg.norm(contractive.transform(TEST + step) - codes, axis=1) / 0.1
    other = np.roll(TEST, 1, axis=0)
    apart = np.linalg.norm(np.roll(codes, 1, axis=0) - codes, axis=1) / np.sqrt(((other - TEST) ** 2).sum((1, 2)))
    assert near.mean() < 0.7 * apart.mean()


def test_the_term_in_the_history_is_weight_times_the_mean_squared_norm():
    model = ContractiveAutoencoder(**QUICK | {"max_epochs": 1, "validation_fraction": 0, "batch_size": 1400}).fit(TRAIN)
    untouched = ContractiveAutoencoder(**QUICK | {"max_epochs": 1, "validation_fraction": 0, "batch_size": 1400})
    untouched.set_params(learning_rate=1e-30).fit(TRAIN)
    term = model.history_["epochs"][0]["terms"]["contraction"]
    assert term == pytest.approx(0.1 * squared_norms(untouched, TRAIN).mean(), rel=1e-4)


def test_the_second_order_lowers_the_curvature_of_the_code(contractive):
    second = fitted(contraction=Contraction(order=2, hessian_weight=3.0, hessian_scale=0.3))

    def change(model):
        noise = 0.3 * torch.randn(at(TEST).shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            moved = code_jacobian(*parts(model), at(TEST) + noise) - code_jacobian(*parts(model), at(TEST))
        return float(moved.square().sum((1, 2)).mean())

    assert change(second) < change(contractive)


# Scale


def test_an_untied_decoder_undoes_the_scale_of_the_code_and_the_note_says_so(contractive):
    free = fitted(network=UNTIED)
    assert squared_norms(free).mean() < 0.8 * squared_norms(contractive).mean()

    def norms(model):
        maps = (model.coder_.encoder, model.coder_.decoder)
        return [float(part.affine_maps[0].weight.detach().norm()) for part in maps]

    encoder, decoder = norms(free)
    unasked = norms(fitted(contraction=Contraction(weight=1e-4), network=UNTIED))
    assert encoder / decoder < 0.8 * unasked[0] / unasked[1]
    (note,) = (note for note in free.history_["notes"] if "not tied" in note)
    assert f"(norms {encoder:.3g} and {decoder:.3g})" in note
    assert "take network=MLP(tied=True), or contraction='reconstruction'" in note


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"network": UNTIED, "contraction": "reconstruction"},
        {"network": UNTIED, "contraction": None},
        {"network": UNTIED, "sparsity": L1(unit_columns=True)},
    ],
)
def test_nothing_is_noted_where_scale_cannot_cheat(options):
    model = fitted(max_epochs=1, **options)
    assert not any("not tied" in note for note in model.history_["notes"])


def test_a_deep_untied_pair_is_noted_without_norms():
    model = fitted(max_epochs=1, network=MLP((8,), tied=False))
    assert any("ones of the decoder lower" in note for note in model.history_["notes"])


# What it is composed with, and what it refuses


def test_it_composes_with_sparsity_corruption_and_convolutions():
    model = fitted(
        max_epochs=2, code_size=20, sparsity=TopK(k=4), corruption="masking",
        network=Convolutional((4,), dense_sizes=(12,), activation="silu"),
    )  # fmt: skip
    assert {"reconstruction", "contraction"} <= model.history_["epochs"][-1]["terms"].keys()
    assert ((model.transform(TEST) != 0).sum(1) <= 4).all()


def test_a_mask_aware_encoder_is_contracted_with_respect_to_the_rows_only():
    model = fitted(max_epochs=2, corruption="missing", network=UNTIED)
    batch = model.preprocessing_.rows(TEST).batch(torch.arange(8))
    output = model.coder_(batch)
    W = model.coder_.encoder.affine_maps[0].weight[:, :64]
    s = output.code * (1 - output.code)
    expected = (s.square() * W.square().sum(1)).sum(1)
    torch.testing.assert_close(jacobians.Contraction()(output, model.coder_, None), expected)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"hidden_sizes": (16,), "contraction": Contraction(method="closed")}, "but this encoder has 2; use 'auto'"),
        ({"contraction": Contraction(of="reconstruction", method="closed")}, "includes the decoder; use 'auto'"),
        ({"contraction": "decoder"}, "contraction='decoder' is unknown; did you mean 'encoder'?"),
        (
            {"contraction": 0.1},
            "contraction=0.1: give one of 'encoder', 'reconstruction', a value such as Contraction()",
        ),
        ({"likelihood": "gaussian-predicted"}, "use network=MLP(tied=False), or likelihood='gaussian'"),
        ({"network": "conv", "corruption": "missing"}, "does not take the mask of missing entries as input; use net"),
        (
            {"corruption": "missing"},
            "the mask is an input (corruption='missing'), or a target is decoded; give network=MLP(tied=False)",
        ),
        (
            {"corruption": "missing", "likelihood": "gaussian-predicted"},
            "(corruption='missing'), or a target is decoded; give network=MLP(tied=False)",
        ),
        ({"contraction_weight": 0.1}, "has no argument 'contraction_weight'; give contraction=Contraction(weight=...)"),
        ({"corruption_groups": [[0, 1]]}, "has no argument 'corruption_groups'; give corruption=GroupMasking(groups"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(options, text):
    with pytest.raises(InputError) as error:
        fitted(max_epochs=1, **options)
    assert text in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"order": 3}, "Contraction: order=3: it must be 1, or 2"),
        ({"weight": -0.1}, "Contraction: weight -0.1 is invalid"),
        ({"of": "decoder"}, "choose one of: encoder, reconstruction"),
        ({"method": "foo"}, "Contraction: method 'foo' is unknown"),
        ({"of": "foo"}, "Contraction: of 'foo' is unknown"),
        ({"n_probes": 0}, "n_probes=0: it must be a whole number of at least 1"),
        ({"weight": 0.0, "n_probes": 0}, "n_probes=0: it must be a whole number of at least 1"),
    ],
)
def test_a_contraction_refuses_invalid_fields_in_one_line(fields, text):
    with pytest.raises(InputError) as error:
        Contraction(**fields)
    assert text in str(error.value)
    assert "\n" not in str(error.value)


def test_a_saved_model_keeps_its_contraction(contractive, tmp_path):
    contractive.save(tmp_path / "m")
    again = isthmus.load(tmp_path / "m")
    np.testing.assert_array_equal(squared_norms(again), squared_norms(contractive))
    assert criterion(again).penalties["contraction"].weight == 0.1
