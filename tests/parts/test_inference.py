"""Properties of every inference, in one table: shapes, draws, masks, gradients, training, copies and state."""

from __future__ import annotations

import copy
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

import isthmus.parts
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.stacking import StackedDecoder
from isthmus.learning.trainer import Trainer
from isthmus.learning.training_config import TrainingConfig
from isthmus.parts.binary_inference import BinaryMap, NoisyBits, RelaxedBits, StraightThroughBits
from isthmus.parts.coder import Coder
from isthmus.parts.discrete_inference import Annealing, BernoulliInference, CategoricalInference
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.inference import EncoderMap, ImputingMap, Inference
from isthmus.parts.lateral import LateralCompetition
from isthmus.parts.likelihoods import Bernoulli, Gaussian
from isthmus.parts.lista import LISTA
from isthmus.parts.networks import MLP
from isthmus.parts.optimised_inference import OptimisedInference, PursuitInference
from isthmus.parts.predictive_inference import GainTanh, PredictionError, PredictiveInference
from isthmus.parts.recurrence import Recurrence
from isthmus.parts.stochastic_inference import DiagonalGaussian, FullGaussian, GrowingNoise
from tests.no_wait import NoWait

N_COLUMNS, CODE_SIZE = 6, 3
STRAIGHT = Annealing(straight_through=True)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def with_mlp(build: Callable[[MLP], Inference], n_inputs: int = N_COLUMNS, n_outputs: int = CODE_SIZE):
    """Return a function of a generator that builds a coder around the inference of an MLP."""

    def coder(generator: torch.Generator) -> Coder:
        inference = build(MLP((n_inputs, 8, n_outputs), generator=generator))
        return Coder(inference, MLP((CODE_SIZE, 8, N_COLUMNS), generator=generator), Bernoulli(N_COLUMNS))

    return coder


def rbm(generator: torch.Generator) -> Coder:
    return RBMEnergy(Bernoulli(N_COLUMNS), CODE_SIZE, weight_scale=0.5, generator=generator).coder()


def recurrence(generator: torch.Generator) -> Coder:
    layers = [
        Coder(EncoderMap(MLP((n, m), generator=generator), "sigmoid"), MLP((m, n), generator=generator), Bernoulli(n))
        for n, m in ((N_COLUMNS, 4), (4, CODE_SIZE))
    ]
    return Coder(Recurrence(layers, n_sweeps=2), StackedDecoder(layers), layers[0].likelihood)


def sparse_coding(generator: torch.Generator) -> Coder:
    decoder = MLP((CODE_SIZE, N_COLUMNS), generator=generator)
    return Coder(OptimisedInference(decoder, alpha=0.1), decoder, Gaussian(N_COLUMNS))


def pursuit(generator: torch.Generator) -> Coder:
    decoder = MLP((CODE_SIZE, N_COLUMNS), generator=generator)
    return Coder(PursuitInference(decoder, k=2), decoder, Gaussian(N_COLUMNS))


def prediction(generator: torch.Generator) -> Coder:
    decoder = MLP((CODE_SIZE, N_COLUMNS), generator=generator)
    encoder = MLP((N_COLUMNS, CODE_SIZE), generator=generator)
    inference = PredictiveInference(encoder, GainTanh(CODE_SIZE), decoder, alpha=0.1, prediction_weight=1.0)
    return Coder(inference, decoder, Gaussian(N_COLUMNS))


def competition(*, sees_mask: bool = False):
    """Return a function of a generator that builds a coder with lateral competition after an MLP."""

    def coder(generator: torch.Generator) -> Coder:
        encoder = MLP(((1 + sees_mask) * N_COLUMNS, 8, CODE_SIZE), generator=generator)
        inference = LateralCompetition(encoder, "softplus", n_steps=4, sees_mask=sees_mask)
        return Coder(inference, MLP((CODE_SIZE, N_COLUMNS), generator=generator), Bernoulli(N_COLUMNS))

    return coder


def unrolled(generator: torch.Generator) -> Coder:
    decoder = MLP((CODE_SIZE, N_COLUMNS), generator=generator)
    encoder = LISTA(decoder.affine_maps[0].weight.T, alpha=0.1, n_steps=4)
    return Coder(EncoderMap(encoder), decoder, Bernoulli(N_COLUMNS))


@dataclass(frozen=True)
class Row:
    """An inference and its properties.

    Attributes:
        build: function of a generator that returns a coder with this inference.
        type: the class of the inference.
        draws: leading axes of the code with a generator.
        is_random: True if the code depends on the generator.
        has_density: True if the inference is a distribution, with log q and log p of each draw.
        hides: True if entries with mask 0 have no influence.
    """

    build: Callable[[torch.Generator], Coder]
    type: type[Inference]
    draws: tuple[int, ...] = ()
    is_random: bool = False
    has_density: bool = False
    hides: bool = False


TABLE = {
    "map": Row(with_mlp(lambda f: EncoderMap(f, "sigmoid")), EncoderMap),
    "map with mask": Row(
        with_mlp(lambda f: EncoderMap(f, "sigmoid", sees_mask=True), 2 * N_COLUMNS), EncoderMap, hides=True
    ),
    "imputing map": Row(rbm, ImputingMap, hides=True),
    "recurrence": Row(recurrence, Recurrence, draws=(2,)),
    "optimised": Row(sparse_coding, OptimisedInference, hides=True),
    "matching pursuit": Row(pursuit, PursuitInference, hides=True),
    "prediction": Row(prediction, PredictiveInference),
    "map of unrolled steps": Row(unrolled, EncoderMap),
    "competition": Row(competition(), LateralCompetition),
    "competition with mask": Row(competition(sees_mask=True), LateralCompetition, hides=True),
    "growing noise": Row(with_mlp(lambda f: GrowingNoise(f)), GrowingNoise, is_random=True),
    "growing noise with mask": Row(
        with_mlp(lambda f: GrowingNoise(f, sees_mask=True), 2 * N_COLUMNS), GrowingNoise, is_random=True, hides=True
    ),
    "noisy bits": Row(with_mlp(lambda f: BinaryMap(f, NoisyBits())), BinaryMap, is_random=True),
    "straight-through bits": Row(with_mlp(lambda f: BinaryMap(f, StraightThroughBits())), BinaryMap),
    "sampled straight-through bits with mask": Row(
        with_mlp(lambda f: BinaryMap(f, StraightThroughBits(stochastic=True), sees_mask=True), 2 * N_COLUMNS),
        BinaryMap, is_random=True, hides=True,
    ),
    "relaxed bits": Row(with_mlp(lambda f: BinaryMap(f, RelaxedBits())), BinaryMap, is_random=True),
    "gaussian": Row(
        with_mlp(DiagonalGaussian, n_outputs=2 * CODE_SIZE), DiagonalGaussian,
        draws=(1,), is_random=True, has_density=True,
    ),
    "gaussian with 5 draws and mask": Row(
        with_mlp(lambda f: DiagonalGaussian(f, n_draws=5, sees_mask=True), 2 * N_COLUMNS, 2 * CODE_SIZE),
        DiagonalGaussian, draws=(5,), is_random=True, has_density=True, hides=True,
    ),
    "full covariance with 2 draws": Row(
        with_mlp(lambda f: FullGaussian(f, n_draws=2), n_outputs=FullGaussian.n_outputs(CODE_SIZE)),
        FullGaussian, draws=(2,), is_random=True, has_density=True,
    ),
    "relaxed units": Row(with_mlp(BernoulliInference), BernoulliInference, draws=(1,), is_random=True),
    "straight-through units with 4 draws and mask": Row(
        with_mlp(lambda f: BernoulliInference(f, n_draws=4, annealing=STRAIGHT, sees_mask=True), 2 * N_COLUMNS),
        BernoulliInference, draws=(4,), is_random=True, has_density=True, hides=True,
    ),
    "relaxed variable": Row(
        with_mlp(lambda f: CategoricalInference(f, n_levels=3)), CategoricalInference, draws=(1,), is_random=True
    ),
    "straight-through variable with 4 draws": Row(
        with_mlp(lambda f: CategoricalInference(f, n_levels=3, n_draws=4, annealing=STRAIGHT)),
        CategoricalInference, draws=(4,), is_random=True, has_density=True,
    ),
}  # fmt: skip
"""One row for each inference, or for each of its modes."""

every_inference = pytest.mark.parametrize("row", TABLE.values(), ids=TABLE.keys())


class BinaryRows:
    """Rows of 6 binary columns that 3 bits determine, with some entries missing."""

    n_columns = N_COLUMNS

    def __init__(self, n: int = 200) -> None:
        bits = torch.rand(n, CODE_SIZE, generator=seeded(1)).round()
        self.x, self.mask = bits.repeat(1, 2), (torch.rand(n, N_COLUMNS, generator=seeded(2)) < 0.8).float()

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, index: torch.Tensor) -> Batch:
        return Batch(self.x[index], rows=index, mask=self.mask[index])


BATCH = BinaryRows(8).batch(torch.arange(8))


def test_the_table_has_every_inference_of_the_package():
    for module in pkgutil.iter_modules(isthmus.parts.__path__, "isthmus.parts."):
        importlib.import_module(module.name)
    found, pending = set(), [Inference]
    while pending:
        pending += (classes := pending.pop().__subclasses__())
        found |= {c for c in classes if c.__module__.startswith("isthmus.") and not inspect.isabstract(c)}
    assert found == {row.type for row in TABLE.values()}


@every_inference
def test_without_a_generator_the_code_has_no_draws_and_is_deterministic(row):
    coder = row.build(seeded())
    first, second = coder.encode(BATCH), coder.encode(BATCH)
    assert type(coder.inference) is row.type
    assert first.code.shape == (8, CODE_SIZE)
    assert torch.equal(first.code, second.code)
    assert first.log_q is None
    assert first.log_prior is None
    assert coder(BATCH).parameters.shape == (8, N_COLUMNS)


@every_inference
def test_with_a_generator_draws_are_leading_axes(row):
    coder = row.build(seeded())
    output = coder(BATCH, seeded(3))
    assert output.code.shape == (*row.draws, 8, CODE_SIZE)
    assert output.parameters.shape == (*row.draws, 8, N_COLUMNS)
    assert coder.nll(output).shape == (*row.draws, 8)
    assert output.code.isfinite().all()


@every_inference
def test_the_code_depends_on_the_generator_alone_and_only_where_it_is_random(row):
    coder = row.build(seeded())
    code, same, other = (coder(BATCH, seeded(seed)).code for seed in (3, 3, 4))
    assert torch.equal(code, same)
    assert torch.equal(code, other) != row.is_random


@every_inference
def test_the_log_densities_of_each_draw_are_finite_or_absent(row):
    output = row.build(seeded())(BATCH, seeded(3))
    for density in (output.log_q, output.log_prior):
        assert (density is not None) == row.has_density
        if density is not None:
            assert density.shape == (*row.draws, 8)
            assert density.isfinite().all()


@every_inference
def test_the_gradient_reaches_every_parameter(row):
    penalties = {"prediction": PredictionError()} if row.type is PredictiveInference else None  # trains its encoder
    objective = Reconstruction(row.build(seeded()), penalties=penalties)
    terms, _ = objective.terms(BATCH, 0.5, seeded(3))
    torch.stack([term.mean() for term in terms.values()]).sum().backward()
    unreached = [
        name
        for name, p in objective.named_parameters()
        if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()
    ]
    assert unreached == []


@every_inference
def test_hidden_entries_have_no_influence_where_the_inference_treats_the_mask(row):
    coder = row.build(seeded())
    changed = Batch(torch.where(BATCH.mask > 0, BATCH.x, 1 - BATCH.x), mask=BATCH.mask)
    for generator in (None, seeded(3)):
        state = None if generator is None else generator.get_state()
        code = coder(BATCH, generator).code
        if generator is not None:
            generator.set_state(state)
        assert torch.equal(code, coder(changed, generator).code) == row.hides


@pytest.mark.parametrize("reduction", ["mean", "logmeanexp"])
@every_inference
def test_a_few_epochs_of_training_decrease_the_monitor(row, reduction):
    rows = BinaryRows()
    objective = Reconstruction(row.build(seeded()), reduction=reduction)
    objective.prepare(rows)
    before = objective.monitor(rows.batch(torch.arange(len(rows)))).mean()
    config = TrainingConfig(max_epochs=15, batch_size=20, learning_rate=0.02, precision="fp32", device="cpu")
    state = Trainer(objective, rows, None, config, seeded(5)).run()
    assert state.stopped == "max_epochs"
    assert objective.monitor(rows.batch(torch.arange(len(rows)))).mean() < before - 0.1


@pytest.mark.parametrize("reduction", ["mean", "logmeanexp"])
@every_inference
def test_the_monitor_reduces_draws_repeats_its_values_and_changes_nothing(row, reduction):
    objective = Reconstruction(row.build(seeded()), reduction=reduction).eval()
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    first, second = objective.monitor(BATCH), objective.monitor(BATCH)
    assert first.shape == (8,)
    assert torch.equal(first, second)
    assert all(torch.equal(value, before[name]) for name, value in objective.state_dict().items())


@every_inference
def test_encoding_in_evaluation_mode_changes_nothing(row):
    coder = row.build(seeded()).eval()
    before = {name: value.clone() for name, value in coder.state_dict().items()}
    coder.encode(BATCH)
    coder(BATCH, seeded())
    assert all(torch.equal(value, before[name]) for name, value in coder.state_dict().items())


@every_inference
def test_the_state_of_one_coder_makes_another_equal(row):
    coder, other = row.build(seeded(0)), row.build(seeded(1))
    assert not torch.equal(coder(BATCH).parameters, other(BATCH).parameters)
    other.load_state_dict(coder.state_dict())
    for generators in ((None, None), (seeded(3), seeded(3))):
        outputs = [model(BATCH, generator) for model, generator in zip((coder, other), generators, strict=True)]
        assert torch.equal(outputs[0].code, outputs[1].code)
        assert torch.equal(outputs[0].parameters, outputs[1].parameters)


@every_inference
def test_a_deep_copy_is_equal_and_shares_no_parameter(row):
    coder = row.build(seeded())
    before = coder(BATCH, seeded(3))
    copied = copy.deepcopy(coder)
    assert torch.equal(copied(BATCH, seeded(3)).parameters, before.parameters)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=seeded(6)))
    assert torch.equal(coder(BATCH, seeded(3)).parameters, before.parameters)
    rebuilt = row.build(seeded(1))
    rebuilt.load_state_dict(copied.state_dict())
    # A part that the copy still shared with the original would give other values here.
    assert torch.equal(copied(BATCH, seeded(3)).parameters, rebuilt(BATCH, seeded(3)).parameters)


@every_inference
def test_a_step_does_not_wait_for_the_device(row):
    objective = Reconstruction(row.build(seeded()))
    with NoWait():
        terms, carried = objective.terms(BATCH, 0.5, seeded(3))
        torch.stack([term.mean() for term in terms.values()]).sum().backward()
        objective.update(carried)
