"""The encoder of counts: term weights as scikit-learn computes them, and where it is centred."""

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfTransformer

from isthmus.parts.count_encoder import CountEncoder
from isthmus.parts.networks import MLP

COUNTS = torch.from_numpy(np.random.default_rng(0).poisson(0.7, size=(50, 8))).float() + torch.eye(50, 8)


def encoder():
    found = CountEncoder(MLP((8, 3), generator=torch.Generator().manual_seed(0)))
    found.learn(lambda: COUNTS.split(20))
    return found


def test_the_terms_are_those_of_scikit_learn():
    expected = TfidfTransformer(norm="l2").fit(COUNTS.numpy()).idf_
    assert np.allclose(encoder().weights, expected)
    scaled = np.log1p(COUNTS.numpy()) * expected
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    assert np.allclose(encoder().terms(COUNTS), scaled * np.sqrt(8), atol=1e-5)


def test_the_mean_output_is_zero_after_centring():
    found = encoder()
    with torch.no_grad():
        found.affine_maps[0].bias.zero_()
        found.centre(COUNTS.mean(0))
        assert torch.allclose(found(COUNTS).mean(0), torch.zeros(3), atol=1e-5)


def test_an_empty_row_has_finite_output():
    assert encoder()(torch.zeros(1, 8)).isfinite().all()
