"""Arguments and options shared by several commands."""

from __future__ import annotations

from typing import Annotated

import typer

TRAINING, EXECUTION = "Training", "Execution"
"""Panels of options in the help of the commands that train."""

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        show_default=False,
        help="File (.npy, .npz, .csv, .tsv, .parquet, .feather, .xlsx, .jsonl, IDX), folder of images, or named "
        "data set such as mnist-sample; mnist-sample:test is its test split. Texts: .jsonl with a field 'text'.",
    ),
]
Model = Annotated[str, typer.Argument(metavar="MODEL", show_default=False, help="Model file written by `isthmus fit`.")]
Rows = Annotated[
    str,
    typer.Option(
        "-o",
        "--output",
        metavar="ROWS",
        show_default=False,
        help="Output: a .npy, .csv or .parquet file; for images a folder or a .npy file.",
    ),
]
Samples = Annotated[
    str,
    typer.Option(
        "-o",
        "--output",
        metavar="ROWS",
        show_default=False,
        help="Output: a .npy, .csv or .parquet file; for images a .png file (one picture), a folder or a .npy file.",
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN|FILE.npy",
        help="Class of each row: a column of DATA or a .npy file. Default: the labels included in DATA, if any.",
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="COLUMN", show_default=False, help="Column of DATA to leave out. Repeatable."),
]
ExtraColumns = Annotated[
    str,
    typer.Option(
        metavar="ignore|refuse",
        help="Columns of DATA that the model does not know: ignore leaves them out with a note, refuse is an error.",
    ),
]
Unknown = Annotated[
    str | None,
    typer.Option(
        metavar="missing|refuse",
        show_default=False,
        help="Values of a categorical column that training did not have: missing reads them as missing, or as the most "
        "frequent value if the model refuses missing ones; refuse is an error. Default: as the model was fitted.",
    ),
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        metavar="COLUMN",
        show_default=False,
        help="Column of DATA to write to the output unchanged, before the others; it may be excluded from the model. "
        "Repeatable.",
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        rich_help_panel=TRAINING,
        help="Maximum number of epochs in each training phase. Default: about 4,000 steps, between 20 and 250 epochs.",
    ),
]
TimeLimit = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        rich_help_panel=TRAINING,
        help="Maximum training time, such as 90s, 5m or 1h; the schedule is planned for it. It counts the time of a "
        "run that --resume continues. Default: none.",
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        rich_help_panel=TRAINING,
        help="Random seed; the same seed gives the same weights. Default: random.",
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        show_default=False,
        help="Rows that the model decodes in place of DATA, one for each row, such as colour images of grey ones.",
    ),
]
Condition = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        show_default=False,
        help="Condition of a model that was fitted with --condition, such as digit=3. Repeatable.",
    ),
]
Device = Annotated[
    str | None, typer.Option(metavar="auto|cpu|cuda", rich_help_panel=EXECUTION, help="Device. Default: auto.")
]
ReadingDevice = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda", help="Device on which the model runs.")
]
Precision = Annotated[
    str | None,
    typer.Option(
        metavar="auto|fp32|bf16",
        rich_help_panel=EXECUTION,
        help="Floating-point precision. Default: fp32 for rbm, dbn, dbm and recirculation; else auto, that is bf16 "
        "on a GPU that supports it and fp32 on a CPU.",
    ),
]
CheckpointEvery = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        rich_help_panel=EXECUTION,
        help="Interval between checkpoints, such as 1m; they are written to the output path with .checkpoint appended.",
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", rich_help_panel=EXECUTION, help="Resume from the checkpoint if it exists.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing output.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Json = Annotated[bool, typer.Option("--json", help="Print the results as one JSON object on stdout.")]
