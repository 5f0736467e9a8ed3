"""Experiments on published claims: `experiments.run("linear-is-pca")`.

Each experiment is one file: the claim, the protocol, the published figures, our targets, two tables of settings
(FULL and QUICK), and the cells of work. Published figures and targets are compared with the results and used for
nothing else. A completed cell is stored at once, so that an interrupted run can resume.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from experiments import (
    anomalies,
    bottleneck_mnist,
    capacity,
    cd_is_reconstruction,
    colorization,
    completion,
    contraction,
    conv_psd,
    dae_is_rbm,
    dbm_mnist,
    dbn_mnist,
    deep_ae_mnist,
    deep_ae_rbm,
    denoise_score,
    depth,
    dictionary_recovery,
    explaining_away,
    few_labels,
    identity_crossing,
    image_hashing,
    latent_space,
    layerwise_or_joint,
    linear_is_pca,
    natural_patches,
    noise_removal,
    online,
    pretraining_gain,
    psd,
    random_codes,
    rbm_mnist,
    recirculation,
    recurrent,
    reuters_topics,
    semantic_hashing,
    small_noise,
    smile,
    sparse_bench,
    sparsity_limits,
    synthetic_tables,
    vae_mnist,
    variations,
)
from experiments.experiment import Cell, Experiment, Published, Row, Setup, Target
from experiments.running import FOLDER, named, result_folder, run_experiment

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = [
    "EXPERIMENTS", "Cell", "Experiment", "Published", "Row", "Setup", "Target", "has_result", "listing", "run",
]  # fmt: skip

EXPERIMENTS: dict[str, Experiment[Any]] = {
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
        vae_mnist.EXPERIMENT,
        deep_ae_rbm.EXPERIMENT,
        pretraining_gain.EXPERIMENT,
        few_labels.EXPERIMENT,
        dictionary_recovery.EXPERIMENT,
        sparse_bench.EXPERIMENT,
        sparsity_limits.EXPERIMENT,
        recirculation.EXPERIMENT,
        recurrent.EXPERIMENT,
        reuters_topics.EXPERIMENT,
        semantic_hashing.EXPERIMENT,
        image_hashing.EXPERIMENT,
        variations.EXPERIMENT,
        random_codes.EXPERIMENT,
        latent_space.EXPERIMENT,
        synthetic_tables.EXPERIMENT,
        completion.EXPERIMENT,
        smile.EXPERIMENT,
        colorization.EXPERIMENT,
        anomalies.EXPERIMENT,
        noise_removal.EXPERIMENT,
        natural_patches.EXPERIMENT,
        psd.EXPERIMENT,
        explaining_away.EXPERIMENT,
        conv_psd.EXPERIMENT,
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
    """Run an experiment. Stored cells of the same settings and version are not run again.

    Args:
        name: of the experiment.
        quick: run a reduced form of a few seconds on data that the package ships; its figures are not comparable.
        folder: the result goes to folder/NAME (or folder/NAME/quick): table.md, result.json, pictures, stored cells.
        force: run every cell again.
        out: the console of the table; None is stdout.

    Returns:
        Whether no published figure and no target was missed; a missed one is marked MISS in the table.

    Raises:
        InputError: no such experiment, data that is not available, or a folder that cannot be written to.
        KeyboardInterrupt: Ctrl-C; completed cells are stored, and stderr shows the command that resumes the run.
    """
    return run_experiment(named(EXPERIMENTS, name), quick=quick, folder=folder, force=force, out=out)


def has_result(name: str, folder: str | os.PathLike[str] = FOLDER) -> bool:
    """Return whether the full result of an experiment is in the folder.

    Example:
        >>> has_result("linear-is-pca", "no/such/folder")
        False
    """
    return (result_folder(named(EXPERIMENTS, name).name, folder=folder) / "result.json").is_file()


def listing(folder: str | os.PathLike[str] = FOLDER) -> Table:
    """Return the experiments as a rich table: name, claim, minutes on two cores, and the result in the folder."""
    from rich.table import Table

    table = Table()
    for head in ("experiment", "claim", "minutes", "result"):
        table.add_column(head, overflow="fold", no_wrap=head == "experiment")
    for name, experiment in EXPERIMENTS.items():
        table.add_row(name, experiment.claim, f"{experiment.minutes:g}", _verdict(name, folder))
    return table


def _verdict(name: str, folder: str | os.PathLike[str]) -> str:
    """Return the verdict of an experiment's full result and its folder."""
    if not has_result(name, folder):
        return "not run yet"
    path = result_folder(name, folder=folder)
    passed = json.loads((path / "result.json").read_text(encoding="utf-8")).get("passed")
    return f"{'pass' if passed else 'MISS'}, in {path}"
