"""Stacks: composition of layers, layerwise and joint training, and the memory of codes."""

import copy
import itertools
import os
import tempfile
import tracemalloc

import numpy as np
import pytest
import torch

from isthmus.errors import InputError
from isthmus.learning import stacking
from isthmus.learning.objectives import Reconstruction
from isthmus.learning.phases import Phase, run_phases
from isthmus.learning.stacking import CodeRows, JointStack, LayerInputs, Stack, SupervisedLayer, encode_rows
from isthmus.learning.supervision import CrossEntropy
from isthmus.learning.trainer import mean_over_rows
from isthmus.parts.code_likelihoods import code_likelihood
from isthmus.parts.coder import Coder
from isthmus.parts.corruptions import Masking
from isthmus.parts.forward import Batch
from isthmus.parts.inference import EncoderMap
from isthmus.parts.jacobians import Contraction
from isthmus.parts.likelihoods import likelihood_from
from isthmus.parts.networks import ACTIVATIONS, MLP, TiedMLP

from .test_trainer import Memory, data, training_config

CPU = torch.device("cpu")


def layers(sizes=(8, 6, 5, 3), activation="sigmoid", tied=True, rate=0.0, contraction=0.0):
    generator = torch.Generator().manual_seed(3)
    made, likelihood = [], likelihood_from({"name": "gaussian"}, sizes[0])
    for n_in, n_out in itertools.pairwise(sizes):
        encoder = MLP((n_in, n_out), generator=generator)
        decoder = TiedMLP(encoder) if tied else MLP((n_out, n_in), generator=generator)
        made.append(
            Reconstruction(
                Coder(EncoderMap(encoder, activation), decoder, likelihood),
                corruption=Masking(rate) if rate else None,
                penalties={"contraction": Contraction(contraction)} if contraction else None,
            )
        )
        likelihood = code_likelihood(ACTIVATIONS[activation](), n_out)
    return made


def coders(made):
    return [layer.coder for layer in made]


def weights(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def differ(a, b):
    return a.keys() == b.keys() and all(not torch.equal(a[name], b[name]) for name in a)


def learn(whole, phases, rows=None, **options):
    rows = data() if rows is None else rows
    return run_phases(whole, phases, rows, None, torch.Generator().manual_seed(0), **options)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "linear"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_stack_is_the_composition_of_its_layers(activation, tied):
    """The expected values are computed with matrices, without modules of the stack."""
    parts = [layer.double() for layer in layers(activation=activation, tied=tied)]
    stack, x = Stack(parts).double(), data(10).x.double()
    up = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu, "linear": lambda a: a}[activation]
    down = {"relu": torch.nn.functional.softplus}.get(activation, up)
    h = x
    for layer in parts:
        (affine,) = layer.coder.encoder.affine_maps
        h = up(h @ affine.weight.T + affine.bias)
    torch.testing.assert_close(stack.coder.encode(Batch(x)).code, h)
    for number, layer in enumerate(reversed(parts)):
        weight = layer.coder.encoder.affine_maps[0].weight if tied else layer.coder.decoder.affine_maps[0].weight.T
        bias = layer.coder.decoder.biases[0] if tied else layer.coder.decoder.affine_maps[0].bias
        h = h @ weight + bias
        h = down(h) if number < 2 else h
    torch.testing.assert_close(stack(Batch(x)).parameters, h)
    torch.testing.assert_close(stack.monitor(Batch(x)), 0.5 * (x - h).square().sum(1) + 4 * np.log(2 * np.pi))


def test_the_stack_shares_the_parameters_of_its_layers_and_so_does_a_copy():
    parts = layers()
    for stack in (Stack(parts), copy.deepcopy(Stack(parts))):
        owned = {id(p) for p in stack.parameters()}
        assert owned == {id(p) for layer in stack.layers for p in layer.parameters()}
        assert len(stack.state_dict()) == len(owned) == 9
    assert owned.isdisjoint({id(p) for layer in parts for p in layer.parameters()})


def test_training_a_layer_changes_its_weights_only():
    parts = layers()
    stack, below = Stack(parts), LayerInputs(coders(parts), CPU)
    learn(stack, [Phase("layer 1", parts[0], training_config(), below.view(0))])
    before = [weights(layer) for layer in parts]
    learn(stack, [Phase("layer 2", parts[1], training_config(), below.view(1))])
    after = [weights(layer) for layer in parts]
    assert same(before[0], after[0])
    assert differ(before[1], after[1])
    assert same(before[2], after[2])
    whole = weights(stack)
    assert torch.equal(
        whole["coder.inference.encoder.encoders.1.layers.0.weight"], after[1]["coder.inference.encoder.layers.0.weight"]
    )


def test_training_a_layer_of_a_stack_equals_training_it_on_the_codes_alone():
    parts = layers(rate=0.3)
    phase = Phase("layer 2", parts[1], training_config(), LayerInputs(coders(parts), CPU).view(1))
    (record,) = learn(Stack(parts), [phase])
    again = layers(rate=0.3)
    rows = Memory(parts[0].coder.encode(Batch(data().x)).code.detach())
    (alone,) = learn(again[1], [Phase("alone", again[1], training_config())], rows)
    # A product of all rows may be rounded differently from a product of a batch.
    torch.testing.assert_close(weights(parts[1]), weights(again[1]), rtol=1e-4, atol=1e-5)
    losses = [[line["train"] for line in lines["epochs"]] for lines in (record, alone)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_every_layer_is_initialized_at_the_mean_of_its_input():
    stack = Stack(layers(tied=False))
    stack.prepare(data())
    h = data().x
    for layer in stack.layers:
        code = layer.coder.encode(Batch(h))
        assert code.preactivation.mean(0).abs().max() < 1e-5
        mean = h.mean(0, keepdim=True)
        torch.testing.assert_close(layer.coder.likelihood.mean(layer(Batch(mean)).parameters), mean)
        h = code.code.detach()


def test_joint_training_has_the_error_of_the_stack_and_the_penalty_of_every_layer():
    parts = [layer.double() for layer in layers(contraction=0.5)]
    joint, x = JointStack(parts).double(), data(10).x.double()
    terms, _ = joint.terms(Batch(x), 0.0, None)
    assert list(terms) == ["reconstruction", *(f"layer_{k}_contraction" for k in (1, 2, 3))]
    torch.testing.assert_close(terms["reconstruction"], Stack(parts).monitor(Batch(x)))
    h = x
    for number, layer in enumerate(parts, 1):
        jacobian = torch.autograd.functional.jacobian(lambda h, layer=layer: layer.coder.encode(Batch(h)).code, h[:1])
        assert terms[f"layer_{number}_contraction"][0].item() == pytest.approx(0.5 * float(jacobian.square().sum()))
        h = layer.coder.encode(Batch(h)).code.detach()


def test_joint_training_corrupts_the_input_of_every_layer_and_trains_all_of_them():
    parts = layers(rate=0.4)
    joint, batch = JointStack(parts), data(50)
    outputs = joint.climb(Batch(batch.x), 0.0, torch.Generator().manual_seed(0))
    for output in outputs:
        assert 0.3 < float(output.corruption_mask.mean()) < 0.5
        assert torch.equal(output.seen.x, output.batch.x * (1 - output.corruption_mask))
    before = weights(Stack(parts))
    learn(Stack(parts), [Phase("joint", joint, training_config())])
    assert differ(before, weights(Stack(parts)))


def test_joint_training_without_regularisation_equals_training_the_stack():
    parts, others = layers(), layers()
    learn(Stack(parts), [Phase("joint", JointStack(parts), training_config())])
    learn(Stack(others), [Phase("whole", Stack(others), training_config())])
    assert same(weights(Stack(parts)), weights(Stack(others)))


class LabelledRows(Memory):
    """Rows with a class label and a weight each."""

    def batch(self, index):
        label = (self.x[index, 0] > 0).long()
        return Batch(self.x[index], rows=index, label=label, weight=1.0 + label)


def test_supervised_layers_learn_the_classes_and_codes_keep_labels_and_weights():
    parts, rows = layers(), LabelledRows(data(400).x)
    heads = [MLP((n, 2), generator=torch.Generator().manual_seed(0)) for n in (6, 5, 3)]
    objectives = [SupervisedLayer(layer, head, CrossEntropy()) for layer, head in zip(parts, heads, strict=True)]
    below = LayerInputs(coders(parts), CPU)
    phases = [
        Phase(f"layer {k + 1}", objective, training_config(max_epochs=30, learning_rate=0.02), below.view(k))
        for k, objective in enumerate(objectives)
    ]
    records = learn(Stack(parts), phases, rows)
    for record in records:
        assert record["epochs"][-1]["terms"]["classification"] < 0.35
    layer_inputs = below.view(2)(rows).batch(torch.arange(5))
    assert torch.equal(layer_inputs.label, rows.batch(torch.arange(5)).label)
    assert torch.equal(layer_inputs.weight, rows.batch(torch.arange(5)).weight)
    codes = parts[1].coder.encode(Batch(parts[0].coder.encode(Batch(rows.x[:5])).code)).code.detach()
    torch.testing.assert_close(layer_inputs.x, codes, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_regularisation_of_a_layer_applies_with_labels_too(weight):
    (layer,) = layers(sizes=(8, 6), rate=0.5, contraction=0.2)
    head = MLP((6, 2), generator=torch.Generator().manual_seed(0))
    objective = SupervisedLayer(layer, head, CrossEntropy(), reconstruction_weight=weight)
    batch = LabelledRows(data(50).x).batch(torch.arange(50))
    terms, _ = objective.terms(batch, 0.0, None)
    alone = {name: mean_over_rows(term, batch.weight) for name, term in layer.terms(batch, 0.0, None)[0].items()}
    torch.testing.assert_close(terms["contraction"].mean(), alone["contraction"])
    assert ("reconstruction" in terms) == (weight > 0)
    if weight:
        torch.testing.assert_close(terms["reconstruction"].mean(), weight * alone["reconstruction"])
    layer_inputs = []
    hook = layer.coder.encoder.register_forward_hook(lambda module, inputs, output: layer_inputs.append(inputs[0]))
    noisy = objective.terms(batch, 0.0, torch.Generator().manual_seed(0))[0]["classification"]
    hook.remove()
    assert ((layer_inputs[0] == 0) | (layer_inputs[0] == batch.x)).all()
    assert 0.4 < (layer_inputs[0] == 0).float().mean() < 0.6
    expected = torch.nn.functional.cross_entropy(
        head(torch.sigmoid(layer.coder.encoder(layer_inputs[0]))), batch.label, reduction="none"
    )
    torch.testing.assert_close(noisy, expected)


@pytest.fixture
def small_memory(monkeypatch):
    monkeypatch.setattr(stacking, "MAX_CODE_BYTES", 2**20)


def wide_layer():
    (layer,) = layers(sizes=(8, 200))
    return layer.coder


@pytest.mark.usefixtures("small_memory")
def test_large_codes_are_memory_mapped_from_a_temporary_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    layer, rows = wide_layer(), data(20000)
    encode_rows(layer, data(100), CPU)  # exclude one-time allocations
    tracemalloc.start()
    mapped = encode_rows(layer, rows, CPU)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20 < mapped.codes.nbytes
    monkeypatch.setattr(stacking, "MAX_CODE_BYTES", 2**30)
    in_memory = encode_rows(layer, rows, CPU)
    assert torch.equal(mapped.codes, in_memory.codes)
    index = torch.tensor([19999, 0, 7])
    assert torch.equal(mapped.batch(index).x, in_memory.codes[index])
    assert list(tmp_path.iterdir()) == []


def test_codes_of_at_most_two_layers_are_cached_at_a_time(monkeypatch):
    parts, rows, validation = layers(), data(), data(40, seed=5)
    below = LayerInputs(coders(parts), CPU)
    calls = []
    monkeypatch.setattr(stacking, "encode_rows", lambda layer, *a: calls.append(layer) or encode_rows(layer, *a))
    for n_below in (0, 1, 2):
        below.view(n_below)(rows)
        below.view(n_below)(validation)
        cached = [codes for _, _, codes in below._cached.values()]
        assert [len(codes) for codes in cached] == [200, 40]
        assert all(isinstance(codes, CodeRows) == (n_below > 0) for codes in cached)
    first, second, _ = coders(parts)
    assert calls == [first, first, second, second]  # once per data set: cached codes are reused
    assert below.view(0)(rows) is rows


@pytest.mark.usefixtures("small_memory")
def test_a_full_disk_raises_a_one_line_error(monkeypatch):
    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(InputError, match=r"codes of a layer need 0.15 GiB, .*; set TMPDIR"):
        stacking.allocate_codes(200000, 200)
