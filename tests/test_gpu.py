"""What works on the CPU works on a GPU; without a GPU these tests are skipped."""

import numpy as np
import pytest
import torch

from isthmus import Autoencoder, CodeClassifier
from isthmus.files import content_digest
from isthmus.parts.forward import Batch

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
