"""Supervised heads on a code: loss, monitor and noise."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import multivariate_normal
from sklearn.metrics import log_loss

from isthmus.learning.objectives import Reconstruction
from isthmus.learning.supervision import CrossEntropy, SquaredError, Supervision
from isthmus.parts.coder import Coder
from isthmus.parts.corruptions import Masking
from isthmus.parts.forward import UNLABELLED, Batch
from isthmus.parts.inference import EncoderMap
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.networks import MLP

LABELS = torch.tensor([0, 2, UNLABELLED, 1, 1, UNLABELLED, 0, 2])
KNOWN = (LABELS != UNLABELLED).numpy()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def supervision(loss=None, hidden=(5,), outputs=3, normalization=None, corrupted=False, code="sigmoid", **options):
    encoder = MLP((4, *hidden, 3), "tanh", normalization=normalization, generator=seeded(1))
    decoder = MLP((3, 4), generator=seeded(2))
    unsupervised = Reconstruction(
        Coder(EncoderMap(encoder, code), decoder, likelihood_from({"name": "gaussian"}, 4)),
        corruption=Masking(0.5) if corrupted else None,
    )
    head = MLP((3, outputs), generator=seeded(3))
    return Supervision(unsupervised, head, loss or CrossEntropy(), **options).double()


def batch(label=LABELS, weight=None):
    x = torch.randn(len(LABELS), 4, generator=seeded(4), dtype=torch.float64)
    return Batch(x, label=label, weight=weight)


def outputs(objective):
    return objective(batch()).detach().numpy()


def test_the_term_is_the_log_loss_of_the_labelled_rows():
    objective = supervision()
    term = objective.terms(batch(), 0.0, seeded())[0]["classification"]
    assert term.shape == LABELS.shape
    probabilities = softmax(outputs(objective), axis=1)[KNOWN]
    assert term.mean().item() == pytest.approx(log_loss(LABELS.numpy()[KNOWN], probabilities), rel=1e-12)


def test_rows_without_label_change_no_gradient():
    def gradients(x):
        objective = supervision()
        objective.terms(Batch(x, label=LABELS), 0.0, None)[0]["classification"].mean().backward()
        return [p.grad for p in objective.parameters() if p.grad is not None]

    x = batch().x
    others = torch.where(torch.from_numpy(KNOWN)[:, None], x, 7.0)
    assert all(torch.equal(a, b) for a, b in zip(gradients(x), gradients(others), strict=True))


def test_a_batch_without_labels_has_zero_gradient():
    term = supervision().terms(batch(torch.full_like(LABELS, UNLABELLED)), 0.0, None)[0]["classification"]
    assert term.tolist() == [0.0] * len(LABELS)


def test_the_squared_error_is_minus_the_log_density_of_a_unit_gaussian():
    objective = supervision(SquaredError(), outputs=2)
    label = torch.randn(8, 2, generator=seeded(5), dtype=torch.float64)
    label[3] = torch.nan
    term = objective.terms(batch(label), 0.0, None)[0]["regression"]
    labelled = np.arange(8) != 3
    expected = [-multivariate_normal(o).logpdf(y) for o, y in zip(outputs(objective), label.numpy(), strict=True)]
    assert term.mean().item() == pytest.approx(np.mean(np.array(expected)[labelled]), rel=1e-12)
    assert term[3] == 0


def test_monitor_is_the_error_plus_a_tenth_of_the_cross_entropy():
    objective = supervision().eval()
    o, y = outputs(objective)[KNOWN], LABELS.numpy()[KNOWN]
    expected = (o.argmax(1) != y).mean() + 0.1 * log_loss(y, softmax(o, axis=1))
    assert objective.monitor(batch()).mean().item() == pytest.approx(expected, rel=1e-12)


def test_the_criterion_of_the_autoencoder_is_added_with_its_weight_and_corruption():
    objective = supervision(corrupted=True, reconstruction_weight=0.25)
    terms, _ = objective.terms(batch(), 0.0, seeded())
    own, _ = objective.unsupervised.terms(batch(), 0.0, seeded())
    assert terms.keys() == {"classification", "reconstruction"}
    torch.testing.assert_close(terms["reconstruction"], 0.25 * own["reconstruction"])
    clean = softmax(outputs(objective), axis=1)[KNOWN]
    assert terms["classification"].mean().item() == pytest.approx(log_loss(LABELS.numpy()[KNOWN], clean))


def test_sample_weights_apply_to_the_reconstruction():
    weight = torch.arange(1.0, 9.0, dtype=torch.float64)
    objective = supervision(reconstruction_weight=2.0)
    term = objective.terms(batch(weight=weight), 0.0, None)[0]["reconstruction"]
    own = objective.unsupervised.terms(batch(), 0.0, None)[0]["reconstruction"].detach().numpy()
    assert term.mean().item() == pytest.approx(2 * np.average(own, weights=weight.numpy()), rel=1e-12)


def noisy_outputs(objective, n=4000):
    """Return outputs of one row for many noise samples, (n, outputs)."""
    row = Batch(batch().x[:1].expand(n, 4), label=torch.zeros(n, dtype=torch.long))
    with torch.no_grad(), objective._noise_injection(seeded()):
        return objective(row, seeded(1))


def test_noise_on_a_linear_code_has_the_expected_output_variance():
    objective = supervision(hidden=(), code="linear", hidden_noise=0.3)
    samples = noisy_outputs(objective)
    weight = objective.head.affine_maps[0].weight.detach()
    torch.testing.assert_close(samples.var(0), 0.09 * weight.square().sum(1), rtol=0.1, atol=0)
    torch.testing.assert_close(samples.mean(0), objective(batch())[0].detach(), rtol=0, atol=0.02)


def test_dropout_keeps_the_mean_of_a_linear_code():
    objective = supervision(hidden=(), code="linear", dropout=0.5)
    samples = noisy_outputs(objective)
    assert len(samples.unique(dim=0)) == 8
    torch.testing.assert_close(samples.mean(0), objective(batch())[0].detach(), rtol=0, atol=0.05)


def test_input_dropout_masks_columns_only_in_training():
    objective = supervision(input_dropout=0.5)
    with torch.no_grad():
        assert not torch.equal(objective(batch(), seeded()), objective(batch()))
        assert torch.equal(objective.eval()(batch(), seeded()), objective(batch()))


def test_noise_is_added_to_every_hidden_layer_and_hooks_are_removed():
    objective = supervision(hidden=(5, 6), hidden_noise=0.1)
    sizes = []
    objective._noise_hook = lambda generator: lambda module, inputs, units: sizes.append(units.shape[-1])
    objective.terms(batch(), 0.0, seeded())
    assert sizes == [5, 6, 3]
    assert not any(module._forward_hooks for module in objective.modules())


def test_no_noise_without_a_generator_or_in_eval_mode():
    objective = supervision(hidden_noise=0.5, dropout=0.5)
    still = objective.terms(batch(), 0.0, None)[0]["classification"]
    assert not torch.equal(objective.terms(batch(), 0.0, seeded())[0]["classification"], still)
    torch.testing.assert_close(objective.eval().terms(batch(), 0.0, seeded())[0]["classification"], still)


def test_a_frozen_autoencoder_keeps_its_weights_and_running_statistics():
    objective = supervision(normalization="batch", frozen=True).train()
    before = {name: value.clone() for name, value in objective.coder.state_dict().items()}
    objective.terms(batch(), 0.0, seeded())[0]["classification"].mean().backward()
    assert all(parameter.grad is None for parameter in objective.coder.parameters())
    assert all(parameter.grad is not None for parameter in objective.head.parameters())
    assert all(torch.equal(value, before[name]) for name, value in objective.coder.state_dict().items())


def test_fine_tuning_reaches_every_parameter_of_the_encoder():
    objective = supervision().train()
    objective.terms(batch(), 0.0, seeded())[0]["classification"].mean().backward()
    for part in (objective.coder.encoder, objective.head):
        assert all(parameter.grad.abs().sum() > 0 for parameter in part.parameters())
