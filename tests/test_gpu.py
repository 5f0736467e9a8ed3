"""What works on the CPU works on a GPU; without a GPU these tests are skipped."""

import numpy as np
import pytest
import torch

from isthmus import Autoencoder, CodeClassifier
from isthmus.evaluation.likelihood import elbo, has_densities, importance_log_prob
from isthmus.files import content_digest
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch
from isthmus.parts.likelihoods import Bernoulli
from isthmus.parts.networks import MLP
from isthmus.parts.stochastic_inference import DiagonalGaussian

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_the_digest_of_tensors_is_that_of_their_copies_on_the_cpu():
    tensors = {"weight": torch.arange(6.0).view(2, 3).t(), "count": torch.tensor(3)}
    there = {name: tensor.cuda() for name, tensor in tensors.items()}
    assert content_digest(there, {}) == content_digest(tensors, {})


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_a_batch_on_a_gpu_is_moved_to_it_again(name):
    batch = Batch(torch.ones(2, 3), mask=torch.zeros(2, 3)).to(torch.device(name))
    again = batch.to(torch.device(name))
    assert again.x.device == again.mask.device == torch.device("cuda:0")
    assert torch.equal(again.x.cpu(), torch.ones(2, 3))


def test_a_classifier_of_an_encoder_on_a_gpu_writes_checkpoints(tmp_path):
    X = np.random.default_rng(0).normal(size=(60, 6))
    y = (X[:, 0] > 0).astype(int)
    encoder = Autoencoder(code_size=2, max_epochs=1, random_state=0, device="cuda").fit(X)
    encoder.transform(X)
    assert next(encoder.coder_.parameters()).is_cuda
    classifier = CodeClassifier(encoder=encoder, max_epochs=1, random_state=0).fit(X, y, checkpoint=tmp_path / "model")
    assert classifier.predict(X).shape == (60,)


@pytest.mark.parametrize("function", [importance_log_prob, elbo])
def test_samples_for_a_likelihood_are_those_of_the_cpu(function):
    generator = torch.Generator().manual_seed(0)
    encoder, decoder = MLP((20, 30, 8), generator=generator), MLP((4, 30, 20), generator=generator)
    coder = Coder(DiagonalGaussian(encoder), decoder, Bernoulli(20))
    batch = Batch((torch.rand(40, 20, generator=generator) < 0.3).float())
    expected = function(coder, batch, 300)
    found = function(coder.cuda(), batch.to(torch.device("cuda:0")), 300)
    assert has_densities(coder)
    torch.testing.assert_close(found.log_prob, expected.log_prob, rtol=0, atol=1e-3)
