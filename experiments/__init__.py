"""Published experiments, run again: `experiments.run("linear-is-pca")`.

Each experiment is one file: the claim, the protocol, the published figures in a table of their own (compared
with what came out, and used for nothing else), and the cells of work. A finished cell is kept at once, so a
stopped run goes on where it was stopped.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from experiments import (
    bottleneck_mnist,
    capacity,
    cd_is_reconstruction,
    contraction,
    dae_is_rbm,
    dbm_mnist,
    dbn_mnist,
    deep_ae_mnist,
    deep_ae_rbm,
    denoise_score,
    depth,
    dictionary_recovery,
    few_labels,
    identity_crossing,
    layerwise_or_joint,
    linear_is_pca,
    online,
    pretraining_gain,
    rbm_mnist,
    recirculation,
    recurrent,
    reuters_topics,
    small_noise,
    sparsity_limits,
    variations,
)
from experiments.experiment import Cell, Experiment, Published, Row
from experiments.running import FOLDER, named, result_folder, run_experiment

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = ["EXPERIMENTS", "Cell", "Experiment", "Published", "Row", "has_result", "listing", "run"]

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        linear_is_pca.EXPERIMENT,
        deep_ae_mnist.EXPERIMENT,
        deep_ae_mnist.LONG_EXPERIMENT,
        bottleneck_mnist.EXPERIMENT,
        capacity.EXPERIMENT,
        depth.EXPERIMENT,
        denoise_score.EXPERIMENT,
        small_noise.EXPERIMENT,
        identity_crossing.EXPERIMENT,
        contraction.EXPERIMENT,
        layerwise_or_joint.EXPERIMENT,
        online.EXPERIMENT,
        cd_is_reconstruction.EXPERIMENT,
        dae_is_rbm.EXPERIMENT,
        rbm_mnist.EXPERIMENT,
        dbn_mnist.EXPERIMENT,
        dbm_mnist.EXPERIMENT,
        deep_ae_rbm.EXPERIMENT,
        pretraining_gain.EXPERIMENT,
        few_labels.EXPERIMENT,
        dictionary_recovery.EXPERIMENT,
        sparsity_limits.EXPERIMENT,
        recirculation.EXPERIMENT,
        recurrent.EXPERIMENT,
        reuters_topics.EXPERIMENT,
        variations.EXPERIMENT,
    )
}
"""The experiments by name."""


def run(
    name: str,
    *,
    quick: bool = False,
    folder: str | os.PathLike[str] = FOLDER,
    force: bool = False,
    out: Console | None = None,
) -> bool:
    """Run an experiment; kept cells of the same settings and version are not run again.

    Args:
        name: of the experiment.
        quick: a form of seconds on data that the package ships; its figures are not comparable.
        folder: where folder/NAME (or folder/NAME/quick) gets table.md, result.json, pictures and kept cells.
        force: run every cell anew.
        out: where the table is printed; None is stdout.

    Returns:
        Whether every published figure was met; a missed one is marked MISS in the table.

    Raises:
        InputError: no such experiment, data that is not at hand, or a folder that cannot be written to.
        KeyboardInterrupt: somebody pressed Ctrl-C; finished cells are kept and stderr says how to go on.
    """
    return run_experiment(named(EXPERIMENTS, name), quick=quick, folder=folder, force=force, out=out)


def has_result(name: str, folder: str | os.PathLike[str] = FOLDER) -> bool:
    """Whether the full result of an experiment is in the folder.

    Example:
        >>> has_result("linear-is-pca", "no/such/folder")
        False
    """
    return (result_folder(named(EXPERIMENTS, name).name, folder=folder) / "result.json").is_file()


def listing(folder: str | os.PathLike[str] = FOLDER) -> Table:
    """The experiments as a rich table: name, claim, minutes on two cores, and whether a result is in the folder."""
    from rich.table import Table

    table = Table()
    for head in ("experiment", "claim", "minutes", "result"):
        table.add_column(head, overflow="fold", no_wrap=head == "experiment")
    for name, experiment in EXPERIMENTS.items():
        table.add_row(name, experiment.claim, f"{experiment.minutes:g}", _verdict(name, folder))
    return table


def _verdict(name: str, folder: str | os.PathLike[str]) -> str:
    """What is known of an experiment's full result."""
    if not has_result(name, folder):
        return "not run yet"
    place = result_folder(name, folder=folder)
    passed = json.loads((place / "result.json").read_text(encoding="utf-8")).get("passed")
    return f"{'pass' if passed else 'MISS'}, in {place}"
