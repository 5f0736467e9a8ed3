"""`isthmus info` and `kinds`: contents of a model file, and the kinds of autoencoder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import arguments, options
from isthmus.cli.sources import READ_OPTIONS
from isthmus.cli.terminal import print_json, print_table

if TYPE_CHECKING:
    from isthmus.values.value import ValueArgument


def info(model: options.Model, as_json: options.Json = False) -> None:
    """Print the contents of a model file: configuration, sizes, preprocessing, training, findings, versions."""
    contents = _model_contents(model)
    if as_json:
        from isthmus.estimators.model_files import plain

        configuration = {name: plain(name, value) for name, value in contents["configuration"].items()}
        print_json(contents | {"configuration": configuration})
        return
    from rich.table import Table

    table = Table(title=model, show_header=False, title_justify="left", title_style="bold")
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name in (name for name in _ENTRIES if name in contents):
        table.add_row(_title(name), _shown(contents[name]))
    for section, heading in ((name, heading) for name, heading in _SECTIONS.items() if name in contents):
        table.add_section()
        table.add_row(heading, "", style="bold")
        for name, value in contents[section].items():
            table.add_row(name if section == "configuration" else _title(name), _shown(value))
    table.add_section()
    for finding in contents["findings"]:
        table.add_row("finding", f"{finding['message']}; {finding['advice']}")
    for note in contents["notes"]:
        table.add_row("note", note)
    table.add_row("versions", ", ".join(f"{name} {version}" for name, version in contents["versions"].items()))
    print_table(table)


_ENTRIES = (
    "kind", "written_by", "code_size", "hidden_sizes", "columns", "model_inputs", "rows", "calibration_rows",
    "parts", "offset",
    "weights", "likelihood", "seed",
)  # fmt: skip
"""The first entries, in order; those of an autoencoder or of a detector."""

_SECTIONS = {"preprocessing": "preprocessing", "history": "training", "configuration": "arguments"}
"""Heading of each section, by its key."""


_TITLES = {
    "rows": "training rows", "train": "training loss", "held_out": "validation loss", "stopped": "stop reason",
    "source": "type of input", "dtype": "data type",
}  # fmt: skip
"""Printed names of entries whose key is not their name."""


def _title(key: str) -> str:
    return _TITLES.get(key, key.replace("_", " "))


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{_title(name)} {_shown(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)


def _model_contents(path: str) -> dict[str, Any]:
    """Return the contents of a model file as plain data."""
    import torch

    import isthmus
    from isthmus.files import SCHEMA, read_tensors

    written_by = read_tensors(path)[1].get("version")
    model = isthmus.load(path)
    versions = {"schema": SCHEMA, "isthmus": isthmus.__version__, "torch": torch.__version__}
    if model.kind == "imputer":
        return _imputer_contents(path, model, str(written_by)) | {"versions": versions}
    if model.kind in ("filter-bank", "whitening"):
        return _transformer_contents(path, model, str(written_by)) | {"versions": versions}
    if hasattr(model, "p_value"):
        return _detector_contents(path, model, f"isthmus {written_by}")
    coder = getattr(model, "encoder_", model)  # a classifier is described by its encoder
    preprocessing = coder.preprocessing_
    history: dict[str, Any] = model.history_
    epochs = history["epochs"]
    last = epochs[-1] if epochs else {}
    return {
        "model": path, "kind": model.kind, "written_by": f"isthmus {written_by}", "code_size": coder.code_size_,
        "hidden_sizes": list(getattr(coder, "hidden_sizes_", ())),
        "columns": len(preprocessing.table) or preprocessing.n_columns, "model_inputs": preprocessing.n_columns,
        "rows": model.n_rows_, "weights": sum(weight.numel() for weight in model._parts.parameters()),
        "likelihood": coder.likelihood_["name"], "seed": model.seed_,
        "preprocessing": {
            "source": preprocessing.source, "row_shape": list(preprocessing.row_shape), "dtype": preprocessing.dtype,
            "layout": preprocessing.layout, "taken_for": preprocessing.description,
            "scaling": coder.scaling, "missing": coder.missing, "constant_columns": len(preprocessing.constant),
            **(coder.history_.get(READ_OPTIONS) or {}),
        },
        "history": {
            "epochs": len(epochs), "steps": last.get("steps", 0), "seconds": last.get("seconds", 0.0),
            "train": last.get("train"), "held_out": last.get("held_out"), "best_epoch": history["best_epoch"],
            "stopped": history["stopped"], "precision": history["precision"],
            "pretraining": [
                f"{phase['name']}: {len(phase['epochs'])} epochs in {phase['seconds']:.1f} s"
                for phase in history.get("pretraining", [])
            ],
        },
        "configuration": model.get_params(deep=False) | ({} if coder is model else {"encoder": coder.kind}),
        "findings": history.get("findings", []), "notes": history["notes"],
        "versions": versions,
    }  # fmt: skip


def _imputer_contents(path: str, model: Any, written_by: str) -> dict[str, Any]:
    """Return the contents of the file of an imputer as plain data: those of its denoisers, and the errors by column."""
    known, denoisers = model.preprocessing_, model.model_.denoisers
    return {
        "model": path, "kind": model.kind, "written_by": f"isthmus {written_by}", "code_size": model.code_size,
        "hidden_sizes": list(model.hidden_sizes), "columns": len(known.table) or known.n_columns,
        "model_inputs": known.n_columns, "rows": model.n_rows_,
        "weights": sum(weight.numel() for part in denoisers for weight in part.coder_.parameters()),
        "likelihood": denoisers[0].likelihood_["name"] if denoisers else "gaussian", "seed": model.seed_,
        "preprocessing": {
            "source": known.source, "row_shape": list(known.row_shape), "dtype": known.dtype,
            "constant_columns": len(known.constant), **(model.history_.get(READ_OPTIONS) or {}),
        },
        "history": {
            "denoisers": len(denoisers), "stopped": model.history_["stopped"],
            **{f"error of {entry['column']}": error_text(entry) for entry in model.errors_},
        },
        "configuration": model.get_params(deep=False), "findings": [], "notes": model.history_["notes"],
    }  # fmt: skip


def _transformer_contents(path: str, model: Any, written_by: str) -> dict[str, Any]:
    """Return the contents of the file of a filter bank or of a whitening as plain data."""
    arguments = model.get_params(deep=False)
    if hasattr(arguments.get("filters"), "shape"):
        arguments["filters"] = f"array of shape {arguments['filters'].shape}"
    shapes = {name: list(getattr(model, f"{name}_", ())) for name in ("row_shape", "image_shape", "output_shape")}
    return {
        "model": path, "kind": model.kind, "written_by": f"isthmus {written_by}", "columns": model.n_features_in_,
        "preprocessing": {name: shape for name, shape in shapes.items() if shape},
        "configuration": arguments, "findings": [], "notes": model.history_["notes"],
    }  # fmt: skip


def error_text(entry: Mapping[str, Any]) -> str:
    """Return the error of a column, and that of its mean or most frequent level, in words."""
    if entry["error"] is None:
        return "no cell was hidden"
    if entry["measure"] == "wrong":
        return f"{entry['error']:.1%} wrong (most frequent level: {entry['baseline']:.1%})"
    return f"RMSE {entry['error']:.4g} (mean: {entry['baseline']:.4g})"


def _detector_contents(path: str, model: Any, written_by: str) -> dict[str, Any]:
    """Return the contents of the file of a detector of odd rows as plain data."""
    import torch

    import isthmus
    from isthmus.files import SCHEMA

    preprocessing = model.preprocessing_
    return {
        "model": path, "kind": model.kind, "written_by": written_by,
        "columns": len(preprocessing.table) or preprocessing.n_columns, "model_inputs": preprocessing.n_columns,
        "rows": model.n_rows_, "calibration_rows": len(model.calibration_rows_), "seed": model.seed_,
        "parts": list(model.scores_.names), "offset": model.offset_,
        "preprocessing": {
            "source": preprocessing.source, "row_shape": list(preprocessing.row_shape), "dtype": preprocessing.dtype,
        },
        "configuration": model.get_params(deep=False) | {"autoencoder": getattr(model.autoencoder, "kind", None)},
        "findings": [], "notes": model.history_["notes"],
        "versions": {"schema": SCHEMA, "isthmus": isthmus.__version__, "torch": torch.__version__},
    }  # fmt: skip


def kinds(
    kind: Annotated[
        str | None, typer.Argument(metavar="[KIND]", show_default=False, help="Kind whose arguments are printed.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List the kinds of autoencoder for `isthmus fit --kind`, or the arguments of one KIND for `--set`."""
    if kind is not None:
        _print_arguments(kind, as_json)
        return
    from isthmus.estimators.registry import KINDS

    contents = [
        {"kind": name, "estimator": estimator.__name__, **_docstring_summary(estimator.__doc__ or "")}
        for name, estimator in KINDS.items()
    ]
    if as_json:
        print_json({"kinds": contents})
        return
    from rich.table import Table

    table = Table()
    table.add_column("kind", no_wrap=True, style="bold")
    table.add_column("estimator", no_wrap=True)
    table.add_column("summary")
    for row in contents:
        table.add_row(row["kind"], row["estimator"], row["summary"])
    print_table(table)


def _print_arguments(kind: str, as_json: bool) -> None:
    """Print every argument of a kind with its default, and its strings; those of values with their fields."""
    from isthmus.estimators.model_files import plain
    from isthmus.estimators.registry import choices_of, kind_named
    from isthmus.values.value import ARGUMENTS

    estimator = kind_named(kind)
    contents: dict[str, dict[str, Any]] = {}
    for name, default in estimator().get_params(deep=False).items():
        values = _values(ARGUMENTS[name]) if name in ARGUMENTS else {}
        accepted = estimator.accepted_strings.get(name, tuple(values))
        contents[name] = {
            "default": default,
            "values": {each: values[each] for each in accepted},
            "choices": choices_of(estimator, name) if arguments.takes_text(estimator, name) else (),
        }
    if as_json:
        print_json({"kind": kind, "arguments": plain("arguments", contents)})
        return
    from rich.table import Table

    table = Table()
    table.add_column("--set", no_wrap=True, style="bold")
    table.add_column("default", no_wrap=True)
    table.add_column("values, and their arguments after a dot; choices")
    for name, entry in contents.items():
        lines = [
            f"{shorthand}: " + ", ".join(f"{field}={_shown(each)}" for field, each in fields.items())
            if fields
            else shorthand
            for shorthand, fields in entry["values"].items()
        ]
        lines += [", ".join(entry["choices"])] if entry["choices"] else []
        table.add_row(name, _shown(entry["default"]), "\n".join(lines))
    print_table(table)


def _values(argument: ValueArgument) -> dict[str, dict[str, Any]]:
    """Return the fields of the value of each string."""
    return {name: value.get_params(deep=False) for name, value in argument.values.items()}


def _docstring_summary(docstring: str) -> dict[str, str]:
    """Return the first line and the source of the docstring of a kind.

    Example:
        >>> _docstring_summary("The kind: a line.\\n\\n    Source: A book,\\n    section 1.\\n\\n    Example:")
        {'summary': 'The kind: a line.', 'source': 'A book, section 1.'}
    """
    source = re.search(r"^\s*Source:\s*(.+?)(?:\n\s*\n|\Z)", docstring, re.DOTALL | re.MULTILINE)
    return {
        "summary": docstring.strip().split("\n", 1)[0].strip(),
        "source": " ".join(source[1].split()) if source else "",
    }
