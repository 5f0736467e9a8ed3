"""Training in phases: order, views of the rows, time limit and resuming."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from isthmus.learning.phases import Phase, run_phases
from isthmus.learning.rows import evenly_spaced, mean_row
from isthmus.learning.trainer import Trainer
from isthmus.parts.forward import Batch

from .test_trainer import Killed, Memory, _copied, data, equal, pair, training_config


class ScaledRows:
    """View of rows times two."""

    def __init__(self, rows):
        self.rows, self.n_columns = rows, rows.n_columns

    def __len__(self):
        return len(self.rows)

    def batch(self, index):
        batch = self.rows.batch(index)
        return replace(batch, x=batch.x * 2)


def doubled(rows):
    return ScaledRows(rows)


def phases(whole, n=3, **changes):
    """The whole model on doubled rows, its decoder alone on the rows themselves, then the whole model again."""
    how = training_config(max_epochs=2, **changes)
    each = [
        Phase("first", whole, how, view=doubled),
        Phase("second", whole, how, initialize=False),
        Phase("third", whole, how, initialize=False),
    ]
    return each[:n]


def train_phases(whole, *, n=3, save_state=None, resumed=None, on_progress=None, validation=None, **changes):
    generator = torch.Generator().manual_seed(2)
    return run_phases(
        whole, phases(whole, n, **changes), data(), validation, generator,
        save_state=save_state, resumed=resumed, on_progress=on_progress,
    )  # fmt: skip


def test_every_phase_has_its_record_in_order():
    records = train_phases(pair(), validation=data(40, seed=5))
    assert [record["name"] for record in records] == ["first", "second", "third"]
    for record in records:
        assert [line["epoch"] for line in record["epochs"]] == [0, 1]
        assert record["stopped"] == "max_epochs"
        assert record["nan_epoch"] is None


def test_a_phase_uses_its_own_view_and_a_later_one_is_not_reinitialized():
    viewed_rows = []

    def view(rows):
        viewed_rows.append(rows)
        return doubled(rows)

    objective, rows = pair(), data()
    prepared = []
    objective.prepare = lambda prepared_rows: prepared.append(prepared_rows)
    how = training_config(max_epochs=1)
    run_phases(
        objective, [Phase("a", objective, how, view=view), Phase("b", objective, how, initialize=False)], rows, None,
        torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert viewed_rows == [rows]
    assert [type(prepared_rows) for prepared_rows in prepared] == [ScaledRows]


def test_interrupt_while_a_later_phase_prepares_keeps_the_earlier_phases():
    def interrupted(rows):
        raise KeyboardInterrupt

    objective, how = pair(), training_config(max_epochs=1)
    steps = [Phase("first", objective, how), Phase("second", objective, how, view=interrupted)]
    (record,) = run_phases(objective, steps, data(), None, torch.Generator().manual_seed(0))
    assert record["name"] == "first"
    assert record["stopped"] == "interrupted"
    with pytest.raises(KeyboardInterrupt):
        run_phases(objective, steps[1:], data(), None, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("after", [1, 13, 14, 20, 35])
def test_a_run_interrupted_in_any_phase_and_resumed_ends_with_equal_weights(after):
    uncut = pair(dropout=0.1)
    train_phases(uncut)
    saved = []

    def save_state(tensors, state):
        trainer_data = {k: _copied(v) for k, v in state["learning"].items()}
        data_copy = {**state, "records": list(state["records"]), "learning": trainer_data}
        saved.append(({k: v.clone() for k, v in tensors.items()}, data_copy))
        if len(saved) == after:
            raise Killed

    with pytest.raises(Killed):
        train_phases(pair(dropout=0.1), save_state=save_state, checkpoint_every=0.0)
    again = pair(dropout=0.1)
    records = train_phases(again, resumed=saved[-1])
    assert saved[-1][1]["phase"] == (after - 1) // 14
    assert [record["name"] for record in records] == ["first", "second", "third"]
    assert equal(again, uncut)


def test_the_checkpoint_of_a_phase_contains_the_whole_model():
    """The state of a layer alone would lose the weights of earlier layers."""
    whole, part = pair(), pair()
    saved = []
    generator = torch.Generator().manual_seed(0)
    run_phases(
        whole, [Phase("part", part, training_config(max_epochs=1, checkpoint_every=0.0))], data(), None, generator,
        save_state=lambda tensors, state: saved.append(tensors),
    )  # fmt: skip
    names = {name.removeprefix("whole.") for name in saved[0] if name.startswith("whole.")}
    assert names == set(whole.state_dict())


def test_all_phases_share_one_time_limit():
    records = train_phases(pair(), time_limit=1e-9)
    assert [record["stopped"] for record in records] == ["time_limit"] * 3
    assert [record["epochs"][-1]["steps"] for record in records] == [1, 1, 1]


@pytest.fixture
def clock(monkeypatch):
    """A clock of seconds a step, by the name of the objective, and a row evaluated; training is slower by a factor."""
    clock = SimpleNamespace(now=0.0, step={"first": 1.0, "second": 3.0, "third": 1.0}, row=0.0, slowdown=1.0)
    step, evaluate, measure = Trainer._step, Trainer._evaluate, Trainer.measure

    def timed_step(trainer, *bounds):
        clock.now += clock.step[trainer.objective.name] * (1.0 if clock.measuring else clock.slowdown)
        step(trainer, *bounds)

    def timed_evaluation(trainer, rows, index):
        clock.now += clock.row * len(index)
        return evaluate(trainer, rows, index)

    def timed_measure(trainer, seconds):
        clock.measuring, before = True, clock.now
        found = measure(trainer, seconds)
        clock.measuring, clock.now = False, before  # as if measuring took no time
        return found

    clock.measuring = False
    monkeypatch.setattr(Trainer, "_step", timed_step)
    monkeypatch.setattr(Trainer, "_evaluate", timed_evaluation)
    monkeypatch.setattr(Trainer, "measure", timed_measure)
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)
    return clock


def named(name, how, **changes):
    """A phase of its own objective, whose steps take the time of its name on the clock."""
    objective = pair(dropout=0.1)
    objective.name = name
    return Phase(name, objective, replace(how, **changes))


def run_limited(time_limit, names=("first",), *, max_steps=None, resumed=None, save_state=None, **changes):
    """Phases of 10 epochs of 7 steps, under a limit; the records, and the objectives of the phases."""
    how = training_config(max_epochs=10, time_limit=time_limit, **changes)
    numbers = max_steps or [None] * len(names)
    steps = [named(name, how, max_steps=n) for name, n in zip(names, numbers, strict=True)]
    whole = torch.nn.ModuleList(phase.objective for phase in steps)
    generator = torch.Generator().manual_seed(2)
    records = run_phases(whole, steps, data(), data(40, seed=5), generator, save_state=save_state, resumed=resumed)
    return records, whole, generator


def planned(records):
    return [record["planned_steps"] for record in records]


def made(records):
    return [record["n_steps"] for record in records]


def test_a_limit_that_does_not_bind_leaves_every_number_as_it_is(clock):
    with_limit, whole, generator = run_limited(1e6, ("first", "second"), averaging=0.9)
    without_limit, plain, other_generator = run_limited(None, ("first", "second"), averaging=0.9)
    assert equal(whole, plain)
    assert torch.equal(generator.get_state(), other_generator.get_state())
    assert planned(with_limit) == planned(without_limit) == [70, 70]
    assert [record["stopped"] for record in with_limit] == ["max_epochs"] * 2


def test_the_schedule_ends_within_a_limit_that_binds(clock):
    (record,), _, _ = run_limited(40.0)
    assert record["planned_steps"] == record["n_steps"] == 38, "95% of 40 s, at 1 s a step"
    assert record["stopped"] == "time_limit"
    assert clock.now <= 40
    rates = [line["learning_rate"] for line in record["epochs"]]
    assert [line["steps"] for line in record["epochs"]] == [7, 14, 21, 28, 35, 38]
    assert rates[-1] < 0.01 * max(rates)


def test_the_plan_counts_evaluations_and_ends_with_one(clock):
    clock.row = 0.0125  # 3 s for 200 training rows and 40 validation rows
    (record,), _, _ = run_limited(40.0)
    assert record["planned_steps"] == 7 * 3 + 5, "38 s: three epochs of 7 + 3 s, five steps and an evaluation"
    (record,), _, _ = run_limited(8.0)
    assert [line["steps"] for line in record["epochs"]] == [4], "an epoch is cut, and there is one evaluation"
    assert record["epochs"][0]["held_out"] is not None


def test_phases_divide_the_time_in_proportion_to_their_costs(clock):
    records, _, _ = run_limited(140.0, ("first", "second", "third"))
    assert planned(records)[0] == 26, "95% of a fifth of 140 s, at 1 s a step"
    assert planned(records)[1] == 27, "95% of three quarters of 114 s, at 3 s a step"
    assert made(records) == planned(records)
    assert clock.now <= 140


def test_the_steps_of_a_plan_give_the_same_weights_without_a_clock(clock):
    records, whole, _ = run_limited(140.0, ("first", "second"))
    again, other, _ = run_limited(None, ("first", "second"), max_steps=planned(records))
    assert equal(whole, other)
    assert [record["stopped"] for record in again] == ["max_steps"] * 2
    assert made(again) == planned(again) == planned(records)


def test_the_clock_ends_a_phase_that_is_slower_than_measured_and_leaves_the_others_their_share(clock):
    clock.slowdown = 2.0
    records, _, _ = run_limited(100.0, ("first", "third"))
    assert [record["stopped"] for record in records] == ["time_limit"] * 2
    assert planned(records)[0] == 47
    assert made(records)[0] == 26, "the first step after 50 s, at 2 s a step"
    assert clock.now < 104


@pytest.mark.parametrize("after", [3, 20, 40])
def test_a_resumed_run_keeps_its_plan(clock, after):
    names, limit = ("first", "third"), 100.0
    uncut, whole, _ = run_limited(limit, names)
    saved = []

    def save_state(tensors, state):
        saved.append(({k: v.clone() for k, v in tensors.items()}, json.loads(json.dumps(state))))
        if len(saved) == after:
            raise Killed

    with pytest.raises(Killed):
        run_limited(limit, names, save_state=save_state, checkpoint_every=0.0)
    clock.step = dict.fromkeys(clock.step, 0.9)  # another speed would give another plan
    resumed, other, _ = run_limited(limit, names, resumed=saved[-1])
    assert planned(resumed)[0] == planned(uncut)[0]
    if saved[-1][1]["phase"] == 1:
        assert planned(resumed) == planned(uncut)
        assert equal(whole, other)


def test_training_ends_after_a_phase_with_nan():
    records = train_phases(pair(), learning_rate=1e30)
    assert [record["stopped"] for record in records] == ["nan"]
    assert records[0]["nan_epoch"] == 0


def test_progress_names_the_phase_if_there_are_several():
    events = []
    train_phases(pair(), on_progress=events.append)
    assert {progress.phase for progress in events} == {"first", "second", "third"}
    events.clear()
    train_phases(pair(), n=1, on_progress=events.append)
    assert {progress.phase for progress in events} == {""}


def recorded_hooks(events, objective, names=("first", "second", "third"), **views):
    """Phases of the objective whose hooks, views and steps add their name to the events."""

    def hook(event):
        return lambda whole: events.append((event, whole))

    def view(name):
        return lambda rows: events.append((f"view of {name}", rows)) or rows

    objective.prepare = lambda rows: events.append(("prepare", rows))
    return [
        Phase(
            name, objective, training_config(max_epochs=1), view=view(name) if views.get(name) else None,
            on_start=hook(f"start of {name}"), on_end=hook(f"end of {name}"),
        )
        for name in names
    ]  # fmt: skip


def run_recorded(monkeypatch, *, interrupt_at=None, failed=None, **views):
    """Run three phases of which one is interrupted or fails, and return the events and the records."""
    events, objective, whole, rows = [], pair(), torch.nn.ModuleDict({"unused": torch.nn.Linear(1, 1)}), data()
    steps = iter(range(10**6))

    def step(trainer, *bounds):
        number = next(steps)
        if number % 7 == 0:
            events.append(("training", None))
        if number == interrupt_at:
            raise KeyboardInterrupt
        if number == failed:
            trainer.failed.fill_(1.0)

    monkeypatch.setattr(Trainer, "_step", step)
    monkeypatch.setattr(Trainer, "_end_epoch", lambda trainer, *_: vars(trainer.state).update(epoch=1, position=0))
    phases = recorded_hooks(events, objective, **views)
    records = run_phases(whole, phases, rows, None, torch.Generator().manual_seed(0))
    for event, argument in events:
        expected = whole if event.startswith(("start", "end")) else None if event == "training" else rows
        assert argument is expected, event
    return [event for event, _ in events], [(record["name"], record["stopped"]) for record in records]


def whole_phase(name, *, view=False, trained=True, prepared=True):
    """The events of a phase that is not interrupted, or that is not reached."""
    return [
        *([f"view of {name}"] if view and trained else []), f"start of {name}", *(["prepare"] if prepared else []),
        *(["training"] if trained else []), f"end of {name}",
    ]  # fmt: skip


def test_hooks_of_phases_run_in_order_around_preparation_and_training(monkeypatch):
    events, records = run_recorded(monkeypatch, second=True)
    assert events == [*whole_phase("first"), *whole_phase("second", view=True), *whole_phase("third")]
    assert records == [(name, "max_epochs") for name in ("first", "second", "third")]


@pytest.mark.parametrize("stop", [{"interrupt_at": 3}, {"failed": 3}], ids=["interrupted", "nan"])
def test_hooks_of_the_phases_that_are_not_reached_run_once_in_order(stop, monkeypatch):
    events, records = run_recorded(monkeypatch, second=True, **stop)
    assert records == [("first", "interrupted" if "interrupt_at" in stop else "nan")]
    assert events == [
        *whole_phase("first"),
        *whole_phase("second", view=True, trained=False, prepared=False),
        *whole_phase("third", trained=False),
    ]


def test_hooks_run_where_a_phase_is_interrupted_before_its_first_step(monkeypatch):
    """The third phase is interrupted while its trainer is built: its start runs again, which changes nothing."""
    init, trainers = Trainer.__init__, []

    def build(trainer, *arguments, **options):
        trainers.append(trainer)
        if len(trainers) == 3:
            raise KeyboardInterrupt
        init(trainer, *arguments, **options)

    monkeypatch.setattr(Trainer, "__init__", build)
    events, records = run_recorded(monkeypatch)
    assert records == [("first", "max_epochs"), ("second", "interrupted")]
    assert events == [
        *whole_phase("first"), *whole_phase("second"), "start of third", "prepare",
        *whole_phase("third", trained=False),
    ]  # fmt: skip


def test_hooks_of_completed_phases_do_not_run_again_in_a_resumed_run():
    saved, events, objective = [], [], pair()
    phases = recorded_hooks(events, objective)
    phases = [replace(phase, training_config=training_config(max_epochs=1, checkpoint_every=0.0)) for phase in phases]

    def save_state(tensors, state):
        saved.append(({k: v.clone() for k, v in tensors.items()}, _copied(state)))
        if len(saved) == 10:
            raise Killed

    with pytest.raises(Killed):
        run_phases(objective, phases, data(), None, torch.Generator().manual_seed(0), save_state=save_state)
    assert saved[-1][1]["phase"] == 1
    events.clear()
    run_phases(objective, phases, data(), None, torch.Generator().manual_seed(0), resumed=saved[-1])
    assert [event for event, _ in events] == ["end of second", "start of third", "prepare", "end of third"]


def test_sampled_rows_are_evenly_spaced():
    assert evenly_spaced(5).tolist() == [0, 1, 2, 3, 4]
    assert evenly_spaced(100, 3).tolist() == [0, 33, 66]
    x = torch.randn(9000, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mean_row(Memory(x)), x[evenly_spaced(9000)].mean(0))


def test_the_mean_row_uses_observed_entries():
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    holes = x.clone()
    holes[::3, 1] = holes[:, 2] = torch.nan
    rows = Memory(x)
    rows.batch = lambda index: Batch(holes[index].nan_to_num(99.0), mask=holes[index].isfinite().float())
    torch.testing.assert_close(mean_row(rows), holes.nanmean(0).nan_to_num(0.0))
