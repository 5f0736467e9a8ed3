"""Training in phases: order, views of the rows, time limit and resuming."""

import pytest
import torch

from isthmus.learning.phases import Phase, run_phases
from isthmus.learning.rows import evenly_spaced, mean_row
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
