"""Arguments and options that several commands share, each written once."""

from __future__ import annotations

from typing import Annotated

import typer

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        show_default=False,
        help="A file (.npy .npz .csv .parquet .jsonl IDX), a folder of images, or a named set: mnist-sample:test.",
    ),
]
Model = Annotated[
    str, typer.Argument(metavar="MODEL", show_default=False, help="A model file that `isthmus fit` wrote.")
]
Rows = Annotated[
    str,
    typer.Option(
        "-o",
        "--output",
        metavar="ROWS",
        show_default=False,
        help="Where to: .npy, .csv, .parquet, or a folder for images.",
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN|FILE.npy", help="The class of each row; without it those that the data bring along, if any."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace what exists.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Say nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else on stdout.")]
