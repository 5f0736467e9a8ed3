"""Measurements of the experiment on contraction, compared with full Jacobians and singular values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from experiments import contraction
from experiments import contraction_measures as measures
from isthmus import MLP, ContractiveAutoencoder

X = load_digits().images / 16


@pytest.fixture(scope="module", params=[(), (12,)], ids=["one layer", "two layers"])
def model(request) -> ContractiveAutoencoder:
    network = MLP(request.param, activation="sigmoid", tied=False)
    return ContractiveAutoencoder(code_size=20, network=network, max_epochs=3, random_state=0).fit(X[:400])


def jacobians(model: ContractiveAutoencoder, rows: np.ndarray, of: str) -> torch.Tensor:
    coder = model.coder_
    x = torch.as_tensor(rows.reshape(len(rows), -1), dtype=torch.float32)

    def f(x: torch.Tensor) -> torch.Tensor:
        code = torch.sigmoid(coder.encoder(x))
        return code if of == "encoder" else torch.sigmoid(coder.decoder(code))

    return torch.stack([torch.autograd.functional.jacobian(f, row[None]).squeeze((0, 2)) for row in x])


@pytest.mark.parametrize("of", ["encoder", "reconstruction"])
def test_norms_are_those_of_the_jacobians(model, of):
    expected = jacobians(model, X[400:420], of).square().sum((1, 2)).sqrt().numpy()
    found = measures.jacobian_norms(model, X[400:420], of)
    np.testing.assert_allclose(found, expected, rtol=0.15)
    assert found.mean() == pytest.approx(expected.mean(), rel=0.03)


def test_the_spectrum_is_the_mean_of_the_singular_values(model):
    expected = np.linalg.svd(jacobians(model, X[400:425], "encoder").numpy(), compute_uv=False).mean(0)
    np.testing.assert_allclose(measures.spectrum(model, X[400:425]), expected, atol=1e-5)


def test_at_a_small_distance_the_ratio_is_the_norm_over_the_root_of_the_columns(model):
    rows = X[:400]
    ratios = measures.contraction_ratios(model, rows, [1e-2, 1e3], seed=0)
    # Of a random direction u of length 1, E ||J u||^2 = ||J||^2 / columns; a mean of roots is a little less.
    assert ratios[0] == pytest.approx(measures.jacobian_norms(model, rows).mean() / 8, rel=0.1)
    assert ratios[1] < 20**0.5 / 1e3  # no two codes of 20 sigmoid units are further apart


def test_weight_norms_separate_encoder_and_decoder(model):
    norms = measures.weight_norms(model)
    for name, part in (("encoder", model.coder_.encoder), ("decoder", model.coder_.decoder)):
        flat = torch.cat([layer.weight.detach().flatten() for layer in part.affine_maps])
        assert norms[name] == pytest.approx(float(flat.norm()), rel=1e-5)


def test_rises_and_directions_of_known_values():
    assert contraction._rise({"ratios": [0.5, 0.6, 0.2]}) == pytest.approx(1.2)
    assert contraction._directions({"spectrum": [3.0, 1.0, 0.5]}) == 2
    assert contraction._directions({"spectrum": [10.0, 1.0, 0.5]}) == 1
