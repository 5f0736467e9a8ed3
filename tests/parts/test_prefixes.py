"""Reconstruction from prefixes of the code: against its definition, and against the principal components."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from isthmus.errors import InputError
from isthmus.learning.objectives import Reconstruction
from isthmus.parts.coder import Coder
from isthmus.parts.convolutions import ConvolutionalDecoder
from isthmus.parts.forward import Batch, ForwardPass
from isthmus.parts.inference import EncoderMap
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.networks import MLP, TiedMLP
from isthmus.parts.own_networks import OwnDecoder
from isthmus.parts.prefixes import PrefixReconstruction, check_prefixes, prefix
from isthmus.parts.sparse_activations import BatchTopK, TopK, with_gathered_weights

N_COLUMNS, CODE_SIZE, N_ROWS = 6, 40, 9
PREFIXES = (1, 4, 20)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normals(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=seeded(seed))


def term(**options) -> PrefixReconstruction:
    return PrefixReconstruction(**{"prefixes": PREFIXES, "code_size": CODE_SIZE, **options})


def coder(activation: nn.Module | None = None, *, likelihood: str = "gaussian", gather: int = 0, **options) -> Coder:
    hidden = (7,) if options else ()
    encoder = MLP((N_COLUMNS, CODE_SIZE), generator=seeded())
    distribution = likelihood_from({"name": likelihood}, N_COLUMNS)
    decoder = MLP((CODE_SIZE, *hidden, distribution.n_parameters), generator=seeded(1), **options)
    decoder = with_gathered_weights(decoder, gather) if gather else decoder
    return Coder(EncoderMap(encoder, nn.ReLU() if activation is None else activation), decoder, distribution)


def explicit_sum(model: Coder, output: ForwardPass) -> Tensor:
    """Return the term by its definition, with the first columns of the decoder's weight alone."""
    layer, batch = model.decoder.affine_maps[0], output.batch
    parameters = [output.code[..., :p] @ layer.weight[:, :p].t() + layer.bias for p in PREFIXES]
    return sum(model.likelihood.nll(r, batch.desired_output, batch.observed) for r in parameters)


@pytest.mark.parametrize("name", ["gaussian", "gaussian-learned", "bernoulli", "gaussian-predicted"])
def test_the_term_is_the_sum_of_the_reconstructions_from_the_first_units(name):
    model = coder(likelihood=name)
    output = model(Batch(normals(N_ROWS, N_COLUMNS).sigmoid()))
    torch.testing.assert_close(term()(output, model, None), explicit_sum(model, output))


def test_missing_entries_and_targets_are_those_of_the_reconstruction():
    model = coder()
    mask = (normals(N_ROWS, N_COLUMNS, seed=2) > 0).float()
    target = normals(N_ROWS, N_COLUMNS, seed=3)
    output = model(Batch(normals(N_ROWS, N_COLUMNS), target=target, target_mask=mask))
    found = term()(output, model, None)
    torch.testing.assert_close(found, explicit_sum(model, output))
    changed = target.where(mask > 0, 1e6)
    other = model(Batch(output.batch.x, target=changed, target_mask=mask))
    assert torch.equal(term()(other, model, None), found)


def test_draws_are_leading_axes():
    model = coder()
    code = normals(3, N_ROWS, CODE_SIZE)
    batch = Batch(normals(N_ROWS, N_COLUMNS))
    output = ForwardPass(batch, batch, code, code, model.decoder(code))
    found = term()(output, model, None)
    assert found.shape == (3, N_ROWS)
    torch.testing.assert_close(found, explicit_sum(model, output))


def test_units_after_the_largest_prefix_get_no_gradient_and_the_others_do():
    model = coder(nn.Identity())
    output = model(Batch(normals(N_ROWS, N_COLUMNS)))
    term()(output, model, None).sum().backward()
    for gradient in (model.encoder.affine_maps[0].weight.grad, model.decoder.affine_maps[0].weight.grad.t()):
        assert gradient[:20].abs().sum(1).gt(0).all()
        assert not gradient[20:].any()


def test_the_encoder_runs_once():
    model, calls = coder(), []
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    Reconstruction(model, penalties={"prefixes": term()}).terms(Batch(normals(N_ROWS, N_COLUMNS)), 0.0, None)
    assert calls == [1]


# Decoders


@pytest.mark.parametrize("activation", [TopK, BatchTopK])
@pytest.mark.parametrize("training", [True, False])
def test_a_gathered_decoder_gives_the_term_and_gradients_of_the_dense_one(activation, training):
    results = []
    for gather in (0, 3):
        model = coder(activation(3, CODE_SIZE), gather=gather).train(training)
        output = model(Batch(normals(N_ROWS, N_COLUMNS)))
        omega = term()(output, model, None)
        omega.sum().backward()
        results.append([omega, *(p.grad for p in model.parameters())])
    for dense, gathered in zip(*results, strict=True):
        torch.testing.assert_close(gathered, dense)


@pytest.mark.parametrize("grad", [True, False])
def test_in_evaluation_mode_a_row_may_have_more_units_than_are_gathered_in_training(grad):
    """The threshold of BatchTopK admits any number there."""
    model, dense = (coder(BatchTopK(3, CODE_SIZE), gather=gather).eval() for gather in (3, 0))
    x = normals(N_ROWS, N_COLUMNS)
    with torch.set_grad_enabled(grad):
        output = model(Batch(x))
        assert (prefix(output.code, 20) != 0).sum() > 3 * N_ROWS
        torch.testing.assert_close(term()(output, model, None), term()(dense(Batch(x)), dense, None))


def decoders(name: str) -> tuple[nn.Module, nn.Module]:
    encoder = MLP((N_COLUMNS, 7, CODE_SIZE), normalization="batch", generator=seeded())
    if name == "tied":
        return encoder, TiedMLP(encoder)
    if name == "convolutional":
        return encoder, ConvolutionalDecoder(
            (1, 1, N_COLUMNS), CODE_SIZE, channels=(4,), normalization="batch", dropout=0.5, generator=seeded()
        )
    if name == "own":
        layers = (nn.Linear(CODE_SIZE, 7), nn.BatchNorm1d(7), nn.Dropout(0.5), nn.Linear(7, N_COLUMNS))
        return encoder, OwnDecoder(nn.Sequential(*layers), N_COLUMNS)
    options = {"normalization": "batch", "dropout": 0.5, "generator": seeded()}
    return encoder, MLP((CODE_SIZE, 7, N_COLUMNS), **options)


@pytest.mark.parametrize("name", ["plain", "tied", "convolutional", "own"])
def test_the_term_is_that_of_evaluation_and_changes_neither_moments_nor_modes(name):
    encoder, decoder = decoders(name)
    model = Coder(EncoderMap(encoder, "relu"), decoder, likelihood_from({"name": "gaussian"}, N_COLUMNS))
    model(Batch(normals(N_ROWS, N_COLUMNS, seed=4)))  # moments that are not the initial ones
    output = model(Batch(normals(N_ROWS, N_COLUMNS)), seeded())
    before, random_state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    found = term()(output, model, seeded())
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(module.training for module in model.modules())
    decoder.eval()
    expected = sum(model.likelihood.nll(decoder(prefix(output.code, p)), output.batch.x) for p in PREFIXES)
    torch.testing.assert_close(found, expected)


# Training


def fitted_prefix_errors(weight: float, sparse: bool) -> tuple[np.ndarray, np.ndarray]:
    """Train a one-layer coder of four units; return the errors of its prefixes and of the principal components."""
    x = normals(200, N_COLUMNS) * torch.tensor([3.0, 2.0, 1.5, 1.0, 0.5, 0.2])
    x = x @ torch.linalg.qr(normals(N_COLUMNS, N_COLUMNS, seed=5)).Q
    x = x - x.mean(0)
    encoder, decoder = (MLP(sizes, generator=seeded(2)) for sizes in ((N_COLUMNS, 4), (4, N_COLUMNS)))
    model = Coder(
        EncoderMap(encoder, TopK(2, 4) if sparse else "linear"),
        decoder,
        likelihood_from({"name": "gaussian"}, N_COLUMNS),
    )
    objective = Reconstruction(model, penalties={"prefixes": term(weight=weight, prefixes=[1, 2, 3], code_size=4)})
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.02)
    for _ in range(800):
        terms, _ = objective.terms(Batch(x), 0.0, None)
        optimizer.zero_grad()
        sum(value.mean() for value in terms.values()).backward()
        optimizer.step()
    with torch.no_grad():
        code = model(Batch(x)).code
        errors = [(model.decoder(prefix(code, p)) - x).square().sum().item() for p in (1, 2, 3, 4)]
    variances = np.square(np.linalg.svd(x.numpy(), compute_uv=False))
    return np.array(errors), np.array([variances[p:].sum() for p in (1, 2, 3, 4)])


def test_the_prefixes_of_a_linear_code_have_the_errors_of_the_principal_components():
    ordered, best = fitted_prefix_errors(1.0, sparse=False)
    np.testing.assert_allclose(ordered, best, rtol=0.01)
    plain, _ = fitted_prefix_errors(0.0, sparse=False)
    np.testing.assert_allclose(plain[-1], best[-1], rtol=0.01)
    assert plain[0] > 1.2 * ordered[0]


def test_the_first_unit_of_a_sparse_code_explains_more_with_the_term():
    ordered, plain = (fitted_prefix_errors(weight, sparse=True)[0] for weight in (1.0, 0.0))
    assert ordered[0] < 0.9 * plain[0]


# Arguments


@pytest.mark.parametrize(
    ("prefixes", "text"),
    [
        ([], "prefixes=[]: give a list of at least one number of units, such as [1]"),
        (3, "prefixes=3: give a list of at least one number of units"),
        ("12", "prefixes='12': give a list of at least one number of units"),
        ([0, 2], "prefixes=[0, 2]: 0 is not a whole number from 1 to 7; a prefix has fewer units than the code, which"),
        ([2, 8], "prefixes=[2, 8]: 8 is not a whole number from 1 to 7"),
        ([1.5], "prefixes=[1.5]: 1.5 is not a whole number"),
        ([True], "prefixes=[True]: True is not a whole number"),
        ([4, 2, 4], "prefixes=[4, 2, 4] do not increase; give each number once, in order: [2, 4]"),
    ],
)
def test_invalid_prefixes_raise(prefixes, text):
    with pytest.raises(InputError) as refused:
        PrefixReconstruction(prefixes=prefixes, code_size=8)
    assert str(refused.value).startswith(text)
    assert "\n" not in str(refused.value)


def test_prefixes_are_integers_of_python_and_the_weight_is_checked():
    assert check_prefixes(np.array([1, 3]), 8) == (1, 3)
    assert repr(term()) == "PrefixReconstruction(weight=1, prefixes=(1, 4, 20))"
    with pytest.raises(InputError, match="PrefixReconstruction: weight -1 is invalid"):
        term(weight=-1)
