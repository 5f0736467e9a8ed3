"""Values and the arguments that take them: properties of every value, every argument and every kind."""

import copy
import inspect
import json
import pickle
import re
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import isthmus
from isthmus import (
    CD,
    L1,
    MLP,
    PCD,
    SGD,
    AdamW,
    Autoencoder,
    BatchTopK,
    BernoulliPosterior,
    CategoricalPosterior,
    CodeClassifier,
    Contraction,
    ContractiveAutoencoder,
    Convolutional,
    Convolutional1d,
    DenoisingScoreMatching,
    FineTuning,
    Gated,
    GaussianNoise,
    GroupMasking,
    InputError,
    JumpReLU,
    KLRate,
    Layer,
    LogPenalty,
    Masking,
    MinimalLoss,
    MissingMask,
    Pretraining,
    RBMLayer,
    RestrictedBoltzmannMachine,
    SaltAndPepper,
    SparseAutoencoder,
    StackedAutoencoder,
    StudentT,
    TopK,
)
from isthmus.estimators.model_files import _argument, plain
from isthmus.estimators.registry import KINDS as REGISTERED
from isthmus.estimators.registry import PREDICTORS
from isthmus.estimators.value_arguments import SUCCESSORS
from isthmus.values.terms import STRINGS
from isthmus.values.value import ARGUMENTS, Value, fully_expanded, value_class
from tests.estimators.kinds import KINDS

X = np.random.default_rng(0).normal(size=(40, 5))
QUICK = {"max_epochs": 1, "random_state": 0}
PUBLIC = {name: getattr(isthmus, name) for name in isthmus.__all__}
CLASSES = [found for found in PUBLIC.values() if isinstance(found, type) and issubclass(found, Value)]
CONSTRUCTORS = [*REGISTERED.values(), *PREDICTORS.values()]

VALUES = [
    *(kind() for kind in CLASSES),
    AdamW(weight_decay=1e-4, clip_norm=1.0, averaging=0.9),
    SGD(momentum=0.5, averaging=0.0),
    Masking(rate=0.5, corrupted_weight=1, clean_weight=0),
    GaussianNoise(scale=0.1),
    GaussianNoise(scale=(0, 0.5)),
    SaltAndPepper(rate=0.1, clean_weight=0.5),
    GroupMasking(rate=0.5, groups=[[0, 1], [2, 3]]),
    MissingMask(groups=[[4]]),
    L1(0.5, unit_columns=False),
    StudentT(degrees=3, scale=0.5),
    LogPenalty(weight=1, scale=0.5),
    KLRate(rate=0.1),
    TopK(k=32, prefixes=[8, 16]),
    BatchTopK(rate=0.01, unit_columns=True),
    JumpReLU(threshold=0.2, bandwidth=0.3),
    Gated(0.05),
    Contraction(0.2, order=2, of="reconstruction", method="hutchinson", n_probes=3),
    MLP((500, 250), activation="tanh", tied=True, normalization="batch", dropout=0.1),
    Convolutional((8, 16), dense_sizes=(), kernel_size=5),
    Convolutional1d((8,), kernel_size=3),
    PCD(n_steps=(1, 25), n_chains=7, centred=False),
    CD(n_steps=5),
    DenoisingScoreMatching(noise_scale=0.1),
    BernoulliPosterior(straight_through=True),
    CategoricalPosterior(temperature=2.0, n_levels=10),
    Layer(corruption=Masking(rate=0.5), sparsity="l1", contraction=Contraction(order=2), tied=False),
    RBMLayer(method=PCD(n_chains=7)),
    Pretraining("supervised", epochs=3, learning_rate=0.1, reconstruction_weight=0.5),
    FineTuning(epochs=50, learning_rate=1e-3),
    MinimalLoss(rho=3, lam=0.5, weight=2.0, margin=0.2, repair=0.0),
]
every_value = pytest.mark.parametrize("value", VALUES, ids=repr)
every_argument = pytest.mark.parametrize("argument", ARGUMENTS.values(), ids=ARGUMENTS)
every_kind = pytest.mark.parametrize("name", KINDS)


def in_one_line(error):
    return "\n" not in str(error.value)


# Values


def test_every_class_of_values_is_public_and_has_a_shorthand():
    strings = [*STRINGS.values(), *(value for argument in ARGUMENTS.values() for value in argument.values.values())]
    of_strings = set(map(type, strings))
    assert of_strings == set(CLASSES)
    assert all(value_class(kind.__name__) is kind for kind in CLASSES)


@every_value
def test_a_value_is_frozen(value):
    for name in (*(field.name for field in fields(value)), "other"):
        with pytest.raises(FrozenInstanceError):
            setattr(value, name, None)


@every_value
def test_a_copy_is_equal_and_has_the_same_hash(value):
    for other in (copy.deepcopy(value), pickle.loads(pickle.dumps(value)), type(value)(**value.get_params(deep=False))):
        assert other == value
        assert hash(other) == hash(value)
    assert clone(value) is value
    assert [each for each in VALUES if each == value] == [value]


@every_value
def test_the_repr_evaluates_to_the_value_and_names_no_defaults(value):
    assert eval(repr(value), dict(PUBLIC)) == value
    assert repr(type(value)()) == f"{type(value).__name__}()"


@every_value
def test_a_value_survives_json(value):
    assert _argument(json.loads(json.dumps(plain("name", value)))) == value


def test_a_value_of_another_version_is_refused():
    with pytest.raises(InputError, match="unknown value 'TopM'; the file was written by another version of isthmus"):
        _argument({"value": "TopM", "arguments": {}})


@pytest.mark.parametrize(
    ("build", "listed", "expected"),
    [
        (lambda given: MLP(given), [4, 3], (4, 3)),
        (lambda given: Convolutional(given), [4, 3], (4, 3)),
        (lambda given: TopK(prefixes=given), [4, 8], (4, 8)),
        (lambda given: PCD(n_steps=given), [1, 25], (1, 25)),
        (lambda given: GroupMasking(groups=given), [[0, 1], [2, 3]], ((0, 1), (2, 3))),
    ],
)
def test_lists_and_arrays_are_tuples_and_numbers_of_numpy_are_those_of_python(build, listed, expected):
    for given in (listed, np.array(listed), expected):
        assert build(given) == build(expected)
        assert hash(build(given)) == hash(build(expected))
    assert type(TopK(k=np.int64(3)).k) is int
    assert type(L1(np.float32(0.5)).weight) is float


@every_value
def test_a_change_replaces_fields_of_a_copy(value):
    before = repr(value)
    assert value.changed() == value
    assert type(value)().changed(**value.get_params(deep=False)) == value
    assert value.changed(**{name: given for name, given in value.get_params().items() if "__" not in name}) == value
    assert repr(value) == before


@every_value
@pytest.mark.parametrize("name", ["other", "other__rate"])
def test_an_unknown_field_is_refused_in_one_line(value, name):
    with pytest.raises(InputError, match=f"^{re.escape(repr(value))} has no argument 'other'; it has ") as error:
        value.changed(**{name: 1})
    assert in_one_line(error)


def test_fields_of_values_in_fields_are_named_and_changed():
    layer = Layer(corruption=Masking(rate=0.5), sparsity="topk")
    params = layer.get_params()
    assert (params["corruption__rate"], params["sparsity__k"], params["sparsity__rate"]) == (0.5, None, 0.05)
    assert not any("__" in name for name in layer.get_params(deep=False))
    assert layer.changed(sparsity__k=3) == Layer(corruption=Masking(rate=0.5), sparsity=TopK(k=3))
    assert layer.changed(corruption__rate=0.1, tied=False) == Layer(Masking(0.1), "topk", tied=False)
    assert layer.changed(sparsity="l1", sparsity__weight=0.3) == Layer(Masking(0.5), L1(0.3))
    assert RBMLayer().changed(method__n_steps=3) == RBMLayer(method=CD(n_steps=3))
    with pytest.raises(InputError, match="sparsity='topk', that is TopK.., has no argument 'weight'; set sparsity="):
        layer.changed(sparsity__weight=0.3)
    with pytest.raises(InputError, match="activation takes no values, so it has no arguments of its own; set act"):
        layer.changed(activation__slope=0.3)


@pytest.mark.parametrize("value", [Contraction(method="exact"), Pretraining("joint")], ids=repr)
def test_a_field_with_the_name_of_an_argument_takes_no_values(value):
    assert value.get_params() == value.get_params(deep=False)
    with pytest.raises(InputError, match="method takes no values, so it has no arguments of its own; set method"):
        value.changed(method__n_steps=3)


REFUSED = [
    (lambda: AdamW(weight_decay=-1), "AdamW: weight_decay.* -1 is invalid"),
    (lambda: AdamW(clip_norm=0), "clip_norm=0: it must be a finite number above 0"),
    (lambda: AdamW(averaging=1), "averaging=1: it must be a fraction, at least 0 and below 1"),
    (lambda: SGD(momentum=1.5), "momentum=1.5: it must be a fraction, at least 0 and below 1"),
    (lambda: StudentT(degrees=0), "degrees=0: it must be a finite number above 0"),
    (lambda: LogPenalty(scale=-1), "scale=-1: it must be a finite number above 0"),
    (lambda: JumpReLU(weight=-1), "JumpReLU: weight -1 is invalid"),
    (lambda: JumpReLU(threshold=0), "threshold=0: it must be a finite number above 0"),
    (lambda: Gated("a"), "Gated: weight 'a' is invalid"),
    (lambda: TopK(prefixes=3), "prefixes=3: give a list"),
    (lambda: MLP((8, 0)), r"hidden_sizes: size 0 at position 1 of \(8, 0\) is not a whole number of at least 1"),
    (lambda: MLP(3), "hidden_sizes.*3"),
    (lambda: MLP(activation="rleu"), "activation 'rleu' is unknown; did you mean 'relu'"),
    (lambda: MLP(tied="no"), "tied='no'"),
    (lambda: MLP(normalization="bach"), "normalization 'bach' is unknown; did you mean 'batch'"),
    (lambda: MLP(dropout=1.0), r"dropout 1.0 is outside \[0, 1\)"),
    (lambda: MLP(dropout="a"), "dropout.*'a'"),
    (lambda: Convolutional((0,)), r"channels: size 0 at position 0 of \(0,\)"),
    (lambda: Convolutional(5), "channels.*5"),
    (lambda: Convolutional(dense_sizes=(0,)), "dense_sizes: size 0"),
    (lambda: Convolutional(kernel_size=4), "kernel_size.*4"),
    (lambda: PCD(n_steps=(5, 0)), r"n_steps=\(5, 0\): it must be a whole number of at least 1, or a pair"),
    (lambda: CD(centred=1), "centred=1: it must be True or False"),
    (
        lambda: BernoulliPosterior(temperature=0),
        "BernoulliPosterior: temperature=0: it must be a finite number above 0",
    ),
    (lambda: BernoulliPosterior(straight_through=1), "straight_through=1: it must be True or False"),
    (lambda: CategoricalPosterior(final_temperature="a"), "final_temperature='a'"),
    (lambda: CategoricalPosterior(n_levels=1), "n_levels=1: it must be a whole number, 2 or more"),
    (lambda: Layer(sparsity=3), "sparsity=3: give one of 'l1', 'student-t'"),
    (lambda: Layer(contraction="code"), "contraction='code' is unknown"),
    (lambda: Layer(tied="no"), "tied='no'"),
    (lambda: TopK(unit_columns="no"), "unit_columns='no'"),
]


@pytest.mark.parametrize(("build", "text"), REFUSED, ids=[text for _, text in REFUSED])
def test_invalid_fields_are_refused_in_one_line(build, text):
    with pytest.raises(InputError, match=text) as error:
        build()
    assert in_one_line(error)


# Arguments


@every_argument
def test_a_string_stands_for_a_value_and_values_are_left_as_they_are(argument):
    for name, value in argument.values.items():
        assert argument.expanded(name) == value
        assert argument.expanded(value) is value
    assert argument.expanded(None) is None


@every_argument
def test_an_unknown_string_is_refused_with_the_nearest(argument):
    for name in argument.values:
        suggestion = f"did you mean '{name}'" if argument.name != "network" else f"known: {', '.join(argument.values)}"
        with pytest.raises(InputError, match=re.escape(suggestion)) as error:
            argument.expanded(f"{name}_")
        assert f"{name}_" in str(error.value)
        assert in_one_line(error)


@every_argument
@pytest.mark.parametrize("given", [3, 0.5, True, {}, ["l1"]], ids=repr)
def test_other_objects_are_refused_with_what_is_accepted(argument, given):
    example = next(iter(argument.values.values()))
    with pytest.raises(InputError) as error:
        argument.expanded(given)
    assert str(error.value).startswith(f"{argument.name}={given!r}: give one of {next(iter(argument.values))!r}")
    assert f"a value such as {example!r}" in str(error.value)
    assert in_one_line(error)


@every_argument
def test_a_class_is_refused_with_its_call(argument):
    for kind in {type(value) for value in argument.values.values()}:
        call = f"{argument.name}={kind.__name__}"
        with pytest.raises(InputError, match=rf"^{call} is a class; give {call}\(\.\.\.\)$"):
            argument.expanded(kind)


@every_argument
def test_values_of_another_argument_are_refused(argument):
    own = {type(value) for value in argument.values.values()}
    for value in (value for value in VALUES if type(value) not in own):
        with pytest.raises(InputError, match=f"^{argument.name}={re.escape(repr(value))}: give one of"):
            argument.expanded(value)


# Estimators


def expanded(model):
    """The arguments of a model with values in place of strings, at every depth."""
    params = model.get_params(deep=False)
    return {name: fully_expanded(name, given) if name in ARGUMENTS else given for name, given in params.items()}


def test_a_field_is_set_in_a_new_value():
    given = TopK(k=3)
    model = SparseAutoencoder(sparsity=given)
    assert model.set_params(sparsity__k=16, patience=3).sparsity == TopK(k=16)
    assert given == TopK(k=3)
    assert SparseAutoencoder(sparsity="topk").set_params(sparsity__k=16).sparsity == TopK(k=16)
    assert SparseAutoencoder().set_params(sparsity="batch-topk", sparsity__k=16).sparsity == BatchTopK(k=16)
    stack = StackedAutoencoder(layers="sparse").set_params(layers__sparsity__weight=0.3)
    assert stack.layers == Layer(sparsity=L1(0.3))


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (SparseAutoencoder(sparsity="l1"), "sparsity='l1', that is L1(),"),
        (SparseAutoencoder(sparsity=L1(0.3)), "sparsity=L1(weight=0.3)"),
        (SparseAutoencoder(sparsity=None), "sparsity=None"),
    ],
)
def test_a_field_that_a_value_lacks_is_refused_with_the_strings_that_have_it(model, found):
    text = f"{found} has no argument 'k'; set sparsity='topk' or sparsity='batch-topk' with it"
    with pytest.raises(InputError, match=f"^{re.escape(text)}$"):
        model.set_params(sparsity__k=3)


@every_kind
def test_fields_of_every_value_are_parameters(name):
    model = KINDS[name]
    params = model.get_params()
    assert list(model.get_params(deep=False)) == [key for key in params if "__" not in key]
    for argument in (argument for argument in model.get_params(deep=False) if argument in ARGUMENTS):
        value = model.value_of(argument)
        fields = {key.partition("__")[2]: found for key, found in params.items() if key.startswith(f"{argument}__")}
        assert fields == (value.get_params() if isinstance(value, Value) else {})


@every_kind
def test_a_clone_has_equal_arguments_and_setting_all_of_them_changes_none(name):
    model = clone(KINDS[name])
    assert model is not KINDS[name]
    assert model.get_params() == KINDS[name].get_params()
    assert expanded(model.set_params(**model.get_params())) == expanded(KINDS[name])


@every_kind
def test_a_constructor_has_at_most_30_arguments_with_plain_defaults(name):
    parameters = inspect.signature(type(KINDS[name])).parameters.values()
    assert len(parameters) <= 30
    assert all(isinstance(p.default, str | tuple | int | float | bool | None) for p in parameters)


@pytest.mark.parametrize("kind", PREDICTORS.values(), ids=PREDICTORS)
def test_defaults_of_a_predictor_are_plain(kind):
    defaults = [p.default for p in inspect.signature(kind).parameters.values()]
    assert all(isinstance(default, str | tuple | int | float | bool | None) for default in defaults)


@pytest.mark.parametrize("name", SUCCESSORS)
def test_a_removed_argument_names_its_successor(name):
    kinds = [kind for kind in CONSTRUCTORS if kind.successor_of(name) is not None]
    assert any(SUCCESSORS[name] in kind.successor_of(name) for kind in kinds)
    for kind in kinds:
        assert kind.successor_of(name).partition("=")[0] in inspect.signature(kind).parameters
        text = f"{kind.__name__} has no argument '{name}'; give {kind.successor_of(name)}"
        for refused in (lambda kind=kind: kind(**{name: 1}), lambda kind=kind: kind().set_params(**{name: 1})):
            with pytest.raises(InputError, match=f"^{re.escape(text)}$"):
                refused()


@pytest.mark.parametrize("kind", CONSTRUCTORS, ids=lambda kind: kind.kind)
def test_an_argument_of_a_kind_has_no_successor(kind):
    assert [name for name in inspect.signature(kind).parameters if kind.successor_of(name) is not None] == []


def test_a_search_sets_fields_of_values():
    model = SparseAutoencoder(code_size=8, sparsity="topk", **QUICK)
    search = GridSearchCV(model, {"sparsity__k": [1, 4], "network__activation": ["relu", "tanh"]}, cv=2).fit(X)
    best = search.best_params_
    assert search.best_estimator_.sparsity == TopK(k=best["sparsity__k"])
    assert search.best_estimator_.network == MLP(activation=best["network__activation"])
    assert (search.best_estimator_.transform(X) != 0).sum(1).max() == best["sparsity__k"]
    assert (model.sparsity, model.network) == ("topk", "mlp")
    deep = GridSearchCV(Autoencoder(code_size=2, **QUICK), {"network__activation": ["relu", "tanh"]}, cv=2).fit(X)
    assert deep.best_estimator_.network == MLP(activation=deep.best_params_["network__activation"])
    whole = GridSearchCV(model, {"sparsity": ["l1", TopK(k=2), None]}, cv=2).fit(X)
    assert whole.best_estimator_.sparsity == whole.best_params_["sparsity"]


def test_fields_are_set_through_pipelines_and_predictors():
    piped = make_pipeline(StandardScaler(), SparseAutoencoder(code_size=8, sparsity="topk", **QUICK))
    assert (piped.set_params(sparseautoencoder__sparsity__k=2).fit_transform(X) != 0).sum(1).max() == 2
    classifier = CodeClassifier(encoder=SparseAutoencoder(sparsity="topk"))
    assert classifier.set_params(encoder__sparsity__k=2, optimizer__clip_norm=1.0).encoder.sparsity == TopK(k=2)
    assert classifier.optimizer == AdamW(clip_norm=1.0)


SAVED = {
    "sparsity": (SparseAutoencoder(code_size=8, sparsity=TopK(k=2, prefixes=[2, 4]), **QUICK), "sparsity"),
    "contraction": (ContractiveAutoencoder(code_size=4, contraction=Contraction(0.2, order=2), **QUICK), "contraction"),
    "network": (Autoencoder(code_size=2, network=MLP([4], activation="tanh"), **QUICK), "network"),
    "optimizer": (Autoencoder(code_size=2, optimizer=SGD(momentum=0.5), **QUICK), "optimizer"),
    "layers": (
        StackedAutoencoder(code_size=2, hidden_sizes=[4], layers=Layer(Masking(rate=0.5), "l1"), **QUICK),
        "layers",
    ),
    "pretraining": (
        StackedAutoencoder(code_size=2, hidden_sizes=(4,), pretraining=Pretraining("joint", epochs=2), **QUICK),
        "pretraining",
    ),
    "method": (RestrictedBoltzmannMachine(code_size=3, method=PCD(n_steps=[1, 3], n_chains=10), **QUICK), "method"),
}


@pytest.mark.parametrize("name", SAVED)
def test_a_file_holds_equal_values(name, tmp_path):
    model, argument = SAVED[name]
    model = clone(model).fit(X)
    model.save(tmp_path / "m")
    again = isthmus.load(tmp_path / "m")
    assert getattr(again, argument) == getattr(model, argument)
    assert type(getattr(again, argument)) is type(getattr(model, argument))
    np.testing.assert_array_equal(again.transform(X), model.transform(X))


@pytest.mark.parametrize("name", ["network", "optimizer", "layers", "method"])
def test_an_argument_that_cannot_be_left_out_is_refused_as_none(name):
    kinds = [kind for kind in REGISTERED.values() if getattr(kind, name, None) is not None]
    assert kinds
    for kind in kinds:
        with pytest.raises(InputError, match=f"{name}=None") as error:
            kind(code_size=2, **{name: None}, **QUICK).fit(X)
        assert in_one_line(error)


def test_a_shorthand_of_the_sizes_is_expanded_before_the_network_is_changed():
    model = Autoencoder(hidden_sizes=(9, 5)).set_params(network__activation="tanh")
    assert (model.hidden_sizes, model.network) == (None, MLP((9, 5), activation="tanh"))
    model = Autoencoder().set_params(hidden_sizes=(9,), network__dropout=0.1)
    assert (model.hidden_sizes, model.network) == (None, MLP((9,), dropout=0.1))
    search = GridSearchCV(Autoencoder(code_size=2, hidden_sizes=(4,), **QUICK), {"network__activation": ["tanh"]}, cv=2)
    assert search.fit(X).best_estimator_.hidden_sizes_ == (4,)
    with pytest.raises(InputError, match="give the sizes in the network"):
        Autoencoder(code_size=2, hidden_sizes=(4,), network=MLP((3,)), **QUICK).fit(X)
