"""Training in phases: order, views of the rows, time limit and resuming."""

from dataclasses import replace

import pytest
import torch

from isthmus.learning.phases import Phase, run_phases
from isthmus.learning.rows import evenly_spaced, mean_row
from isthmus.learning.trainer import Trainer
from isthmus.parts.forward import Batch

from .test_trainer import Killed, Memory, _copied, data, equal, pair, training_config


class ScaledRows(Memory):
    """View of rows times two."""


def doubled(rows):
    return ScaledRows(rows.x * 2)


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
    monkeypatch.setattr(Trainer, "_end_epoch", lambda trainer, *_: vars(trainer.state).update(epoch=1))
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
