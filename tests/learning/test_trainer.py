"""The trainer: minimised loss, stopping and resuming."""

import itertools

import pytest
import torch

from isthmus import InputError
from isthmus.learning import precision, threads
from isthmus.learning.contrastive_divergence import ContrastiveDivergence
from isthmus.learning.objectives import Objective, Reconstruction
from isthmus.learning.precision import fast_products, resolve_device, resolve_precision
from isthmus.learning.stacking import encode_rows
from isthmus.learning.trainer import Trainer
from isthmus.learning.training_config import TrainingConfig, batch_bounds, learning_rate_at
from isthmus.parts.carried import carry
from isthmus.parts.coder import Coder
from isthmus.parts.energies import RBMEnergy
from isthmus.parts.forward import Batch
from isthmus.parts.inference import EncoderMap
from isthmus.parts.layers import BatchNormalization
from isthmus.parts.likelihoods import Bernoulli, likelihood_from
from isthmus.parts.networks import MLP


class Memory:
    """Rows in a tensor."""

    def __init__(self, x):
        self.x, self.n_columns = x, x.shape[1]

    def __len__(self):
        return len(self.x)

    def batch(self, index):
        return Batch(self.x[index], rows=index)


def data(n=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Memory(torch.randn(n, 3, generator=generator) @ torch.randn(3, 8, generator=generator))


def pair(dropout=0.0, normalization=None):
    generator = torch.Generator().manual_seed(1)
    options = {"dropout": dropout, "normalization": normalization, "generator": generator}
    encoder, decoder = MLP((8, 16, 3), **options), MLP((3, 16, 8), **options)
    return Reconstruction(Coder(EncoderMap(encoder), decoder, likelihood_from({"name": "gaussian"}, 8)))


def training_config(**changes):
    return TrainingConfig(**{"max_epochs": 6, "batch_size": 32, "precision": "fp32", "device": "cpu"} | changes)


def learn(objective, validation=None, *, save_state=None, resume=None, **changes):
    generator = torch.Generator().manual_seed(2)
    trainer = Trainer(objective, data(), validation, training_config(**changes), generator, save_state=save_state)
    if resume:
        trainer.restore(*resume)
    return trainer.run()


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


class Killed(Exception):
    """Simulates kill -9: no code runs after it."""


@pytest.mark.parametrize("after", [1, 3, 7, 8, 20])
def test_a_run_interrupted_anywhere_and_resumed_ends_with_equal_weights(after):
    options = {"averaging": 0.9, "patience": 3, "clip_norm": 5.0, "weight_decay": 0.01}
    whole = pair(dropout=0.1, normalization="batch")
    learn(whole, data(40, seed=5), **options)
    saved = []

    def save_state(tensors, data):
        saved.append(({k: v.clone() for k, v in tensors.items()}, {k: _copied(v) for k, v in data.items()}))
        if len(saved) == after:
            raise Killed

    with pytest.raises(Killed):
        learn(pair(0.1, "batch"), data(40, seed=5), save_state=save_state, checkpoint_every=0.0, **options)
    resumed = pair(0.1, "batch")
    state = learn(resumed, data(40, seed=5), resume=saved[-1], **options)
    assert equal(resumed, whole)
    assert [line["epoch"] for line in state.epochs] == list(range(len(state.epochs)))


def _copied(value):
    return list(value) if isinstance(value, list) else dict(value) if isinstance(value, dict) else value


def test_one_step_is_adamw_on_the_mean_of_the_terms():
    reference, objective = pair(), pair()
    learn(objective, max_epochs=1, batch_size=200, learning_rate=0.01, warmup=0.0, weight_decay=0.1)
    optimizer = torch.optim.AdamW(reference.parameters(), lr=0.01, weight_decay=0.1)
    reference.nll(reference(Batch(data().x))).mean().backward()
    optimizer.step()
    for ours, theirs in zip(objective.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_plain_gradient_steps_are_those_of_sgd_and_can_be_resumed(momentum):
    options = {"optimizer": "sgd", "momentum": momentum, "learning_rate": 0.01, "warmup": 0.0, "batch_size": 100}
    reference, objective = pair(), pair()
    saved = []

    def save_state(tensors, data):
        saved.append(({k: v.clone() for k, v in tensors.items()}, {k: _copied(v) for k, v in data.items()}))

    learn(objective, max_epochs=1, save_state=save_state, checkpoint_every=0.0, **options)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.01, momentum=momentum)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(2))
    for step, index in enumerate(order.split(100)):
        optimizer.param_groups[0]["lr"] = learning_rate_at(step, 2, training_config(max_epochs=1, **options))
        optimizer.zero_grad()
        reference.nll(reference(Batch(data().x[index]))).mean().backward()
        optimizer.step()
    for ours, theirs in zip(objective.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    resumed = pair()
    learn(resumed, max_epochs=1, resume=saved[0], **options)
    assert equal(resumed, objective)


def test_an_unknown_optimizer_raises():
    with pytest.raises(InputError, match="optimizer 'adam' is unknown; did you mean 'adamw'"):
        learn(pair(), optimizer="adam")


def test_every_row_is_used_once_per_epoch_and_batches_are_nearly_equal():
    for n, size in itertools.product((1, 2, 31, 200, 513), (1, 16, 512)):
        bounds = batch_bounds(n, size)
        assert [i for start, stop in bounds for i in range(start, stop)] == list(range(n))
        sizes = [stop - start for start, stop in bounds]
        assert max(sizes) <= size
        assert min(sizes) >= min(n, max(1, size // 2))


def test_the_learning_rate_warms_up_and_decays_to_zero():
    s = training_config(learning_rate=0.5, warmup=0.1)
    rates = [learning_rate_at(step, 1000, s) for step in range(1000)]
    assert max(rates) == rates[99] == rates[100] == 0.5
    assert rates[0] == pytest.approx(0.005)
    assert rates[-1] < 1e-5
    assert rates[:100] == sorted(rates[:100])
    assert rates[100:] == sorted(rates[100:], reverse=True)


def test_patience_stops_training_and_keeps_the_best_weights_on_validation_rows():
    objective = pair()
    validation = Memory(torch.randn(30, 8, generator=torch.Generator().manual_seed(9)))  # other distribution
    state = learn(objective, validation, max_epochs=200, patience=4, learning_rate=0.05)
    assert state.stopped == "patience"
    assert len(state.epochs) == state.best_epoch + 1 + 4
    assert float(objective.monitor(Batch(validation.x)).detach().mean()) == pytest.approx(state.best, rel=1e-6)
    assert state.best == min(line["held_out"] for line in state.epochs)


def test_a_time_limit_stops_training_and_keeps_the_weights():
    objective = pair()
    state = learn(objective, max_epochs=10**6, time_limit=0.3)
    assert state.stopped == "time_limit"
    assert float(objective.monitor(Batch(data().x)).detach().mean()) == pytest.approx(
        state.epochs[-1]["train"], rel=1e-5
    )


class Interrupts(Reconstruction):
    """Raises KeyboardInterrupt at one step, or makes the loss NaN there."""

    at, what = 10, "interrupt"

    def criterion(self, batch, progress, generator):
        terms = super().criterion(batch, progress, generator)
        if not self.training:
            return terms
        self.at -= 1
        if self.at < 0 and self.what == "interrupt":
            raise KeyboardInterrupt
        return {name: term * float("nan") if self.at < 0 else term for name, term in terms.items()}


@pytest.mark.parametrize(("what", "stopped"), [("interrupt", "interrupted"), ("nan", "nan")])
def test_ctrl_c_and_nan_stop_training_and_keep_the_last_finite_weights(what, stopped):
    objective = Interrupts(pair().coder)
    objective.what = what
    state = learn(objective)
    assert state.stopped == stopped
    assert len(state.epochs) == 1
    assert float(objective.monitor(Batch(data().x)).detach().mean()) == pytest.approx(
        state.epochs[0]["train"], rel=1e-5
    )


class NanGradient(Interrupts):
    """The gradient of one step is NaN, though its loss is finite: the weights after it are NaN."""

    def criterion(self, batch, progress, generator):
        terms = super().criterion(batch, progress, generator)
        if self.training and self.at == 3:
            weight = self.coder.encoder.affine_maps[0].weight
            zero = (weight - weight.detach()).square().sum().sqrt()
            return {name: term + zero for name, term in terms.items()}
        return terms


def test_ctrl_c_after_a_loss_became_nan_keeps_the_last_finite_weights():
    objective = NanGradient(pair().coder)
    objective.at = 5
    initial = {name: value.clone() for name, value in objective.state_dict().items()}
    state = learn(objective)
    assert (state.stopped, state.epochs) == ("nan", [])
    assert all(torch.equal(value, initial[name]) for name, value in objective.state_dict().items())


class NanAt(Reconstruction):
    """Criterion whose loss is NaN in one step, and finite afterwards; a counter is carried."""

    def __init__(self, coder, step):
        super().__init__(coder)
        self.step, self.n_calls = step, 0
        self.register_buffer("counter", torch.zeros((), dtype=torch.long))

    def criterion(self, batch, progress, generator):
        terms = super().criterion(batch, progress, generator)
        if not self.training:
            return terms
        carry(self.counter, self.counter + 1)
        self.n_calls += 1
        return {name: term * float("nan") if self.n_calls == self.step + 1 else term for name, term in terms.items()}


@pytest.mark.parametrize("averaging", [None, 0.9])
@pytest.mark.parametrize("optimizer", [{"optimizer": "adamw"}, {"optimizer": "sgd", "momentum": 0.5}])
@pytest.mark.parametrize("step", [1, 3, 6])
def test_a_nan_in_the_middle_of_an_epoch_changes_nothing_from_that_step_on(step, optimizer, averaging):
    def trainer(last_step):
        objective = NanAt(pair(normalization="batch").coder, step)
        config = training_config(clip_norm=1.0, averaging=averaging, **optimizer)
        made = Trainer(objective, data(), None, config, torch.Generator().manual_seed(2))
        made.averaged_weights = {name: value.clone() for name, value in objective.state_dict().items()}
        objective.train()
        made.bounds = made.bounds[:last_step]
        return made

    failed, before = trainer(7), trainer(step)
    failed._epoch()
    before._epoch()
    assert (failed.state.stopped, before.state.stopped) == ("nan", "")
    assert failed.objective.n_calls == 7, "the flag is read at the end of the epoch"
    assert int(failed.objective.counter) == step
    assert equal(failed.objective, before.objective)
    assert failed.state.epochs == []
    moments, expected = (each.optimizer.state_dict()["state"] for each in (failed, before))
    assert moments.keys() == expected.keys()
    for number, slots in expected.items():
        assert all(torch.equal(moments[number][slot], value) for slot, value in slots.items())


@pytest.mark.parametrize("reader", ["on_progress", "save_state"])
def test_a_failed_step_stops_training_where_its_flag_is_read_within_the_epoch(reader):
    calls, objective = [], NanAt(pair().coder, 3)
    callback = {reader: lambda *arguments: calls.append(arguments)}
    trainer = Trainer(
        objective, data(), None, training_config(checkpoint_every=0.0), torch.Generator().manual_seed(2), **callback
    )
    trainer._emitted = -1e9
    state = trainer.run()
    assert state.stopped == "nan"
    if reader == "save_state":
        assert len(calls) == 3, "no checkpoint has the state of a failed step"
        assert objective.n_calls == 4


class WeightedRows(Memory):
    """Rows with weights."""

    def __init__(self, x, weight):
        super().__init__(x)
        self.weight = weight

    def batch(self, index):
        return Batch(self.x[index], rows=index, weight=self.weight[index])


def test_a_row_of_weight_two_counts_as_two_rows_in_terms_and_monitor():
    x = data(2).x
    weighted, repeated = WeightedRows(x, torch.tensor([2.0, 1.0])), Memory(x[[0, 0, 1]])
    objectives, states = (pair(), pair()), []
    for objective, rows in zip(objectives, (weighted, repeated), strict=True):
        config = training_config(max_epochs=3, learning_rate=0.05)
        trainer = Trainer(objective, rows, rows, config, torch.Generator().manual_seed(2))
        states.append(trainer.run())
    for ours, theirs in zip(*(objective.parameters() for objective in objectives), strict=True):
        torch.testing.assert_close(ours, theirs)
    for ours, theirs in zip(*(state.epochs for state in states), strict=True):
        for name in ("train", "held_out"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-5)
        assert ours["terms"]["reconstruction"] == pytest.approx(theirs["terms"]["reconstruction"], rel=1e-5)
    equal_weights = pair()
    Trainer(equal_weights, Memory(x), None, training_config(max_epochs=3), torch.Generator().manual_seed(2)).run()
    assert not equal(equal_weights, objectives[0])


def test_the_terms_of_an_epoch_are_means_by_the_weights_of_all_rows():
    rows = WeightedRows(data(10).x, torch.tensor([9.0, 9.0, *[0.1] * 8]))
    config = training_config(max_epochs=1, batch_size=2, learning_rate=1e-12)
    state = Trainer(pair(), rows, None, config, torch.Generator().manual_seed(2)).run()
    assert state.epochs[0]["terms"]["reconstruction"] == pytest.approx(state.epochs[0]["train"], rel=1e-5)


def test_the_moving_average_is_monitored_and_kept():
    objective = pair()
    state = learn(objective, averaging=0.99)
    assert float(objective.monitor(Batch(data().x)).detach().mean()) == pytest.approx(
        state.epochs[-1]["train"], rel=1e-5
    )
    plain = pair()
    learn(plain)
    assert not equal(plain, objective)


class Persistent(Objective):
    """Weights with batch normalisation, a chain, a counter and an unknown log Z."""

    def __init__(self):
        super().__init__()
        self.map = MLP((8, 4), generator=torch.Generator().manual_seed(0))
        self.normalise = BatchNormalization(4)
        self.register_buffer("chain", torch.zeros(3))
        self.register_buffer("counter", torch.zeros((), dtype=torch.long))
        self.register_buffer("log_partition", torch.tensor(torch.inf))
        self.states = []

    def criterion(self, batch, progress, generator):
        self.states.append({name: value.clone() for name, value in self.state_dict().items()})
        carry(self.chain, 1.0 - self.chain)
        carry(self.counter, self.counter + 1)
        return {"squares": (self.normalise(self.map(batch.x)) - 1.0).square().sum(1)}

    def monitor(self, batch):
        return (self.normalise(self.map(batch.x)) - 1.0).square().sum(1)


def test_weights_and_running_moments_are_averaged_and_other_buffers_are_not():
    objective, plain = Persistent(), Persistent()
    for one, averaging in ((objective, 0.5), (plain, None)):
        learn(one, max_epochs=1, batch_size=40, learning_rate=0.05, averaging=averaging)
    expected, *after = [*plain.states, plain.state_dict()]
    for step, values in enumerate(after):
        d = min(0.5, (1 + step) / (10 + step))
        expected = {name: d * expected[name] + (1 - d) * values[name] for name in values}
    for name in ("map.layers.0.weight", "normalise.weight", "normalise.running_mean", "normalise.running_variance"):
        torch.testing.assert_close(objective.state_dict()[name], expected[name])
    assert objective.chain.tolist() == [1.0, 1.0, 1.0]
    assert int(objective.counter) == 5
    assert float(objective.log_partition) == torch.inf


def test_averaging_an_rbm_keeps_its_chains_and_an_unknown_log_z():
    rows = Memory(torch.rand(64, 24, generator=torch.Generator().manual_seed(0)).round())
    rbm = RBMEnergy(Bernoulli(24), 22, generator=torch.Generator().manual_seed(1))  # neither layer is enumerable
    objective = ContrastiveDivergence(rbm, n_chains=5)
    objective.prepare(rows)
    generator = torch.Generator().manual_seed(2)
    Trainer(objective, rows, None, training_config(max_epochs=3, averaging=0.9), generator).run()
    density = objective.density
    density.compute_log_partition()
    assert float(density.log_partition) == torch.inf
    assert ((density.particles == 0) | (density.particles == 1)).all()


@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")  # the meta device stores no values
def test_an_average_is_resumed_on_the_device_of_the_weights():
    saved = []

    def save_state(tensors, data):
        saved.append(({k: v.clone() for k, v in tensors.items()}, data))

    learn(pair(), max_epochs=1, averaging=0.9, save_state=save_state, checkpoint_every=0.0)
    trainer = Trainer(pair(), data(), None, training_config(averaging=0.9), torch.Generator())
    trainer.device = torch.device("meta")
    trainer.objective.to("meta")
    trainer.restore(*saved[0])
    trainer._average()
    assert {value.device.type for value in trainer.averaged_weights.values()} == {"meta"}


class Two(Objective):
    """One term per row and one for the batch."""

    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(8))

    def criterion(self, batch, progress, generator):
        return {"rows": (batch.x * self.w).square().sum(1), "batch": self.w.square().sum()}

    def monitor(self, batch):
        return (batch.x * self.w).square().sum(1)


def test_terms_over_rows_and_over_the_batch_are_added_and_named():
    objective = Two()
    state = learn(objective, max_epochs=1, batch_size=200, learning_rate=1e-12)
    assert state.epochs[0]["terms"]["rows"] == pytest.approx(float(data().x.square().sum(1).mean()), rel=1e-5)
    assert state.epochs[0]["terms"]["batch"] == pytest.approx(8.0)
    expected = 2 * data().x.square().mean(0) + 2
    torch.testing.assert_close(objective.w.grad, expected, rtol=1e-4, atol=1e-4)


def test_the_precision_of_matrix_products_is_restored():
    before = torch.get_float32_matmul_precision()
    with pytest.raises(ZeroDivisionError), fast_products("fp32", torch.device("cpu")):
        raise ZeroDivisionError
    assert torch.get_float32_matmul_precision() == before


def test_matrix_products_are_probed_on_the_device_that_is_used(monkeypatch):
    with pytest.raises(NotImplementedError, match="no data"), fast_products("fp32", torch.device("meta")):
        pass  # the meta device has shapes without values

    def product(a, b, device):  # exact on the CPU, rounded to TF32 on another device
        exact = (a.double() @ b.double()).float()
        return exact if device.type == "cpu" else exact * (1 + 2**-11)

    monkeypatch.setattr(precision, "_product", product)
    before = torch.get_float32_matmul_precision()
    assert before != "medium"
    with fast_products("fp32", torch.device("cpu")) as there:
        assert there == "medium"
    with fast_products("fp32", torch.device("cuda")) as there:
        assert there == before == torch.get_float32_matmul_precision()


def test_training_and_encoding_between_layers_probe_their_own_device(monkeypatch):
    devices = []

    def product(a, b, device):
        devices.append(device)
        return a @ b

    monkeypatch.setattr(precision, "_product", product)
    trainer = Trainer(pair(), data(), None, training_config(max_epochs=1), torch.Generator())
    trainer.device = torch.device("cpu", 0)  # differs from torch.device("cpu")
    trainer.run()
    encode_rows(pair().coder, data(), torch.device("cpu", 0))
    assert devices == [torch.device("cpu", 0)] * 2


def test_bf16_training_keeps_fp32_weights():
    objective = pair()
    state = learn(objective, precision="bf16", learning_rate=0.01)
    assert state.epochs[-1]["train"] < state.epochs[0]["train"]
    assert {p.dtype for p in objective.parameters()} == {torch.float32}


@pytest.mark.parametrize(("name", "is_bf16"), [("bf16", True), ("fp32", False), ("auto", False)])
def test_training_runs_in_its_precision_and_evaluation_in_fp32(name, is_bf16, monkeypatch):
    seen = {"terms": set(), "monitor": set()}
    for method, states in seen.items():
        original = getattr(Reconstruction, method)

        def recorded(self, *arguments, original=original, states=states):
            states.add(torch.is_autocast_enabled("cpu"))
            return original(self, *arguments)

        monkeypatch.setattr(Reconstruction, method, recorded)
    learn(pair(), precision=name)
    assert (True in seen["terms"]) == is_bf16
    assert seen["monitor"] == {False}


@pytest.mark.parametrize(("limit", "n_threads"), [(10**9, 1), (0, 2)], ids=["a small model", "a large model"])
def test_a_small_model_trains_on_one_thread(limit, n_threads, monkeypatch):
    monkeypatch.setattr(threads, "SMALL_STEP", limit)
    seen = set()
    original = Reconstruction.terms

    def recorded(self, *arguments):
        seen.add(torch.get_num_threads())
        return original(self, *arguments)

    monkeypatch.setattr(Reconstruction, "terms", recorded)
    torch.set_num_threads(2)
    try:
        learn(pair())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert seen == {n_threads}


def test_unknown_devices_and_precisions_raise():
    with pytest.raises(ValueError, match="precision='fp8' is not one of auto, fp32, bf16"):
        resolve_precision("fp8", torch.device("cpu"))
    with pytest.raises(ValueError, match="device='abacus' is not a device; use 'auto'"):
        resolve_device("abacus")
    with pytest.raises(ValueError, match="device='mps' is not supported; use 'auto'"):
        resolve_device("mps")
    with pytest.raises(ValueError, match="device='cuda:99': torch finds .*; use 'cpu' or 'auto'"):
        resolve_device("cuda:99")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch finds no CUDA device on this computer"):
            resolve_device("cuda")
