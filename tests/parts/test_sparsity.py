"""Penalties of sparse activations, and dead units."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from isthmus.errors import InputError
from isthmus.parts.centred_encoder import CentredMLP
from isthmus.parts.coder import Coder
from isthmus.parts.forward import Batch, ForwardPass
from isthmus.parts.inference import EncoderMap
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.networks import MLP, TiedMLP
from isthmus.parts.sparse_activations import Gated, JumpReLU
from isthmus.parts.sparsity import ActiveUnits, DeadUnits, GateL1, GateReconstruction, UnitActivity

N_COLUMNS, CODE_SIZE = 5, 8


def coder(activation: nn.Module | None = None, *, likelihood: str = "gaussian") -> Coder:
    generator = torch.Generator().manual_seed(0)
    encoder, decoder = (MLP(sizes, generator=generator) for sizes in ((N_COLUMNS, CODE_SIZE), (CODE_SIZE, N_COLUMNS)))
    inference = EncoderMap(encoder, nn.ReLU() if activation is None else activation)
    return Coder(inference, decoder, likelihood_from({"name": likelihood}, N_COLUMNS)).double()


def forward_pass(model: Coder, n_rows: int = 6) -> ForwardPass:
    x = torch.randn(n_rows, N_COLUMNS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    a = model.encoder(x).detach().requires_grad_()
    h = model.code_activation(a)
    return ForwardPass(Batch(x), Batch(x), a, h, model.decoder(h))


# Activity and dead units


def test_the_running_rate_of_a_stationary_code_is_its_rate():
    generator, activity = torch.Generator().manual_seed(0), UnitActivity(3)
    rates = torch.tensor([0.0, 0.2, 0.9])
    for _ in range(400):
        activity.update((torch.rand(50, 3, generator=generator) < rates).float())
    torch.testing.assert_close(activity.rate, rates, atol=0.03, rtol=0)
    assert activity.idle.tolist() == [20_000, 0, 0]


def test_the_first_batches_count_equally():
    activity = UnitActivity(1)
    for on in (1.0, 0.0, 1.0, 0.0):
        activity.update(torch.full((10, 1), on))
    assert float(activity.rate) == pytest.approx(0.5)


def dead_units(*, dead: list[int], n_revived: int = 2) -> DeadUnits:
    penalty = DeadUnits(code_size=CODE_SIZE, dead_after=1000, n_revived=n_revived).eval()
    penalty.activity.idle[dead] = 1000
    penalty.refresh()
    return penalty


def residual_preactivation(model: Coder, output: ForwardPass) -> np.ndarray:
    """Return the encoding of the residual x - r, centred at the decoder's bias."""
    encoder, decoder = model.encoder.affine_maps[0], model.decoder.affine_maps[0]
    error = (output.batch.x - output.parameters + decoder.bias).detach().numpy()
    return error @ encoder.weight.detach().numpy().T + encoder.bias.detach().numpy()


def shifted(a: np.ndarray) -> np.ndarray:
    """Return the units after the shift that makes each of them active in at least one of the six rows."""
    second = np.sort(a, axis=0)[-2]
    return np.maximum(a - np.minimum(second, 0), 0)


def test_dead_units_reconstruct_the_residual():
    model, dead = coder(), [1, 4, 6]
    output = forward_pass(model)
    weight = model.decoder.affine_maps[0].weight.detach().numpy()
    error = (output.batch.x - output.parameters).detach().numpy()
    expected = []
    for a, e in zip(shifted(residual_preactivation(model, output)), error, strict=True):
        units = sorted(dead, key=lambda j: -a[j])[:2]
        left = e - sum(weight[:, j] * a[j] for j in units)
        expected.append(0.5 * (left @ left) - 0.5 * (e @ e))
    np.testing.assert_allclose(dead_units(dead=dead)(output, model, None).detach().numpy(), expected)


def test_only_revived_units_get_a_gradient():
    model = coder()
    output = forward_pass(model)
    penalty = dead_units(dead=[1, 4])
    penalty(output, model, None).sum().backward()
    weight = model.decoder.affine_maps[0].weight
    z = penalty.auxiliary_code(output, model, penalty.dead).detach()
    error = (output.batch.x - output.parameters - z @ weight.t()).detach()
    expected_gradient = -(error @ weight.detach()) * (z > 0)
    torch.testing.assert_close(model.encoder.affine_maps[0].bias.grad, expected_gradient.sum(0))
    torch.testing.assert_close(weight.grad, -(error.t() @ z))
    assert output.preactivation.grad is None
    torch.testing.assert_close(model.decoder.affine_maps[0].bias.grad, torch.zeros(N_COLUMNS, dtype=torch.float64))


@pytest.mark.parametrize("name", ["gaussian-learned", "gaussian-per-column"])
def test_a_learned_variance_is_frozen_in_the_dead_unit_term(name):
    model = coder(likelihood=name)
    output, likelihood = forward_pass(model), model.likelihood
    with torch.no_grad():
        likelihood.free_log_variance.fill_(-0.5)
    penalty = dead_units(dead=[1, 4])
    term = penalty(output, model, None)
    shift = penalty.auxiliary_code(output, model, penalty.dead) @ model.decoder.affine_maps[0].weight.t()
    expected = likelihood.nll(output.parameters + shift, output.batch.x) - likelihood.nll(
        output.parameters, output.batch.x
    )
    torch.testing.assert_close(term, expected)
    term.sum().backward()
    assert likelihood.free_log_variance.grad is None
    assert model.decoder.affine_maps[0].weight.grad.abs().sum() > 0


def test_all_dead_units_are_revived_if_they_are_fewer_than_n_revived():
    model = coder()
    output = forward_pass(model)
    penalty = dead_units(dead=[3], n_revived=5)
    z = penalty.auxiliary_code(output, model, penalty.dead)
    assert z[:, [0, 1, 2, 4, 5, 6, 7]].abs().sum() == 0
    np.testing.assert_allclose(z[:, 3].detach().numpy(), shifted(residual_preactivation(model, output))[:, 3])


def test_the_threshold_shift_is_zero_for_a_batch_of_one_row():
    model = coder()
    output = forward_pass(model, n_rows=1)
    z = dead_units(dead=list(range(CODE_SIZE)), n_revived=CODE_SIZE).auxiliary_code(
        output, model, torch.ones(CODE_SIZE) > 0
    )
    np.testing.assert_allclose(z.detach().numpy(), residual_preactivation(model, output).clip(0))


def test_without_dead_units_the_term_is_zero_and_only_training_counts_rows():
    model = coder()
    output, penalty = forward_pass(model), DeadUnits(code_size=CODE_SIZE, dead_after=10**6, n_revived=2)
    assert penalty.eval()(output, model, None).tolist() == [0.0] * 6
    assert int(penalty.activity.n_batches) == 0
    penalty.train()(output, model, None)
    assert int(penalty.activity.n_batches) == 1


def test_residual_input_of_centred_and_of_mask_aware_encoders():
    model, every = coder(), torch.ones(CODE_SIZE) > 0
    output, penalty = forward_pass(model), dead_units(dead=[], n_revived=CODE_SIZE)
    plain = penalty.auxiliary_code(output, model, every)
    encoder, bias = model.encoder, model.decoder.affine_maps[0].bias.detach()
    model.inference.encoder = CentredMLP(encoder, model.decoder, model.likelihood)
    with torch.no_grad():
        encoder.affine_maps[0].bias.add_(encoder.affine_maps[0].weight @ bias)
    torch.testing.assert_close(penalty.auxiliary_code(output, model, every), plain)
    mask_aware_encoder = MLP((2 * N_COLUMNS, CODE_SIZE), generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        weight = encoder.affine_maps[0].weight
        mask_aware_encoder.affine_maps[0].weight.copy_(torch.cat([weight, torch.zeros_like(weight)], 1))
        mask_aware_encoder.affine_maps[0].bias.copy_(encoder.affine_maps[0].bias - weight @ bias)
    model.inference = EncoderMap(mask_aware_encoder, nn.ReLU(), sees_mask=True)
    torch.testing.assert_close(penalty.auxiliary_code(output, model, every), plain)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_a_unit_that_is_negative_on_every_row_is_revived_by_the_term_only(weight):
    model = coder()
    x = torch.randn(100, N_COLUMNS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        model.encoder.affine_maps[0].bias[2] = -4.0
    penalty = DeadUnits(weight, code_size=CODE_SIZE, dead_after=500, n_revived=4)
    optimizer = torch.optim.Adam([*model.encoder.parameters(), *model.decoder.parameters()], lr=0.1)
    for _ in range(60):
        penalty.refresh()
        a = model.encoder(x)
        h = a.relu()
        output = ForwardPass(Batch(x), Batch(x), a, h, model.decoder(h))
        loss = model.likelihood.nll(output.parameters, x).mean() + penalty.weight * penalty(output, model, None).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        penalty.refresh()
    assert bool((model.encoder(x)[:, 2] > 0).any()) == (weight > 0)


def test_a_term_without_dead_or_revived_units_raises():
    with pytest.raises(InputError, match="DeadUnits: dead_after=0 and n_revived=3"):
        DeadUnits(code_size=CODE_SIZE, dead_after=0, n_revived=3)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("term", [DeadUnits(code_size=CODE_SIZE, dead_after=1, n_revived=2), GateReconstruction()])
def test_auxiliary_terms_use_the_running_moments_without_update(term, tied):
    generator = torch.Generator().manual_seed(0)
    options = {"normalization": "batch", "generator": generator}
    encoder = MLP((N_COLUMNS, 7, CODE_SIZE), **options)
    decoder = TiedMLP(encoder) if tied else MLP((CODE_SIZE, 7, N_COLUMNS), **options)
    model = Coder(EncoderMap(encoder, "relu"), decoder, likelihood_from({"name": "gaussian"}, N_COLUMNS)).double()
    for module in (encoder, model.decoder):
        for name, buffer in module.named_buffers():
            buffer.copy_(torch.rand(len(buffer), generator=generator) + (0.5 if "variance" in name else -0.5))
    output = forward_pass(model)
    if isinstance(term, DeadUnits):
        term.eval().activity.idle.fill_(1)
        term.refresh()
    before = [buffer.clone() for module in (encoder, model.decoder) for buffer in module.buffers()]
    learning = term(output, model, None)
    after = [buffer for module in (encoder, model.decoder) for buffer in module.buffers()]
    assert len(before) == 4
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(module.training for part in (encoder, model.decoder) for module in part.modules())
    encoder.eval(), model.decoder.eval()
    torch.testing.assert_close(term(output, model, None), learning)


# Penalties of JumpReLU and Gated


def test_active_units_are_counted():
    model = coder(JumpReLU(CODE_SIZE, threshold=0.2))
    output = forward_pass(model)
    count = ActiveUnits()(output, model, None)
    np.testing.assert_array_equal(count.detach().numpy(), (output.code.detach().numpy() != 0).sum(1))


def test_active_units_of_another_activation_raise():
    model = coder()
    with pytest.raises(InputError, match="ActiveUnits needs the code activation JumpReLU; found ReLU"):
        ActiveUnits()(forward_pass(model), model, None)


def test_gates_are_penalised_and_reconstruct_through_a_frozen_decoder():
    model = coder(Gated(CODE_SIZE))
    with torch.no_grad():
        model.code_activation.bias.fill_(0.3)
    output = forward_pass(model)
    gates = output.preactivation.detach().numpy().clip(0)
    np.testing.assert_allclose(GateL1()(output, model, None).detach().numpy(), gates.sum(1))
    term = GateReconstruction()(output, model, None)
    affine = model.decoder.affine_maps[0]
    r = gates @ affine.weight.detach().numpy().T + affine.bias.detach().numpy()
    expected = 0.5 * np.square(output.batch.x.numpy() - r).sum(1) + N_COLUMNS / 2 * np.log(2 * np.pi)
    np.testing.assert_allclose(term.detach().numpy(), expected)
    term.sum().backward()
    assert output.preactivation.grad.abs().sum() > 0
    assert [p.grad for p in model.decoder.parameters()] == [None, None]


@pytest.mark.parametrize("centred", [False, True])
def test_a_tied_decoder_and_its_variance_are_frozen(centred):
    model = coder(Gated(CODE_SIZE), likelihood="gaussian-learned")
    encoder, likelihood = model.encoder, model.likelihood
    decoder = model.decoder = TiedMLP(encoder).double()
    if centred:
        model.inference.encoder = CentredMLP(encoder, decoder, likelihood)
    output = forward_pass(model)
    GateReconstruction()(output, model, None).sum().backward()
    assert output.preactivation.grad.abs().sum() > 0
    assert [p.grad for part in (encoder, decoder, likelihood) for p in part.parameters()] == [None] * 4
    x, a = output.batch.x, output.preactivation.detach().requires_grad_()
    weight, bias = encoder.affine_maps[0].weight.detach(), decoder.biases[0].detach()
    (0.5 * (x - a.relu() @ weight - bias).square()).sum().backward()
    torch.testing.assert_close(output.preactivation.grad, a.grad)
