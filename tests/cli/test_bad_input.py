"""Invalid input gives one line and exit code 2, and writes nothing."""

import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from .commands import SMALL, run


def make_nothing(folder: Path) -> None:
    pass


def make_empty_file(folder: Path) -> None:
    (folder / "rows.csv").touch()


def make_folder_without_images(folder: Path) -> None:
    (folder / "pictures").mkdir()
    (folder / "pictures" / "notes.txt").write_text("none here")


def make_corrupt_image(folder: Path) -> None:
    (folder / "pictures").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((9, 9), 7, np.uint8)).save(folder / "pictures" / name)
    whole = (folder / "pictures" / "b.png").read_bytes()
    (folder / "pictures" / "b.png").write_bytes(whole[: len(whole) // 2])


def make_images_of_several_sizes(folder: Path) -> None:
    (folder / "pictures").mkdir()
    for i, side in enumerate((8, 8, 9)):
        Image.fromarray(np.full((side, 8), 7, np.uint8)).save(folder / "pictures" / f"{i}.png")


def write_csv(text: str):
    def make(folder: Path) -> None:
        (folder / "rows.csv").write_text(text)

    return make


def write_npy(array: np.ndarray):
    def make(folder: Path) -> None:
        np.save(folder / "rows.npy", array)

    return make


TEXT = "a,remark\n" + "\n".join(f"{i},this is remark number {i}" for i in range(99))
NUMBERS = np.random.default_rng(0).normal(size=(30, 3))

BAD_DATA = {
    "no such file": (make_nothing, "rows.csv", ["rows.csv: no such file"]),
    "no such named set": (make_nothing, "mnist-simple", ["did you mean 'mnist-sample'?"]),
    "an empty file": (make_empty_file, "rows.csv", ["an empty file"]),
    "a folder without images": (make_folder_without_images, "pictures", ["no images in this folder", "notes.txt"]),
    "a corrupt image": (make_corrupt_image, "pictures", ["b.png"]),
    "images of several sizes": (make_images_of_several_sizes, "pictures", ["2.png 9x8", "--resize 8x8"]),
    "ragged rows": (write_csv("a,b\n1,2\n3,4,5\n"), "rows.csv", ["rows.csv", "line 3"]),
    "a column of text": (write_csv(TEXT), "rows.csv", ["'remark'", "(--exclude remark)", "--dtype remark=id"]),
    "a missing value": (write_csv("a,b\n1,2\n3,\n4,5\n"), "rows.csv", ["row 1, column 'b'", "--missing"]),
    "an infinite value": (write_npy(np.array([[1.0, 2], [np.inf, 3], [4, 5]])), "rows.npy", ["infinity at row 1"]),
    "one row": (write_csv("a,b\n1,2\n"), "rows.csv", ["training needs at least two rows"]),
    "no rows": (write_csv("a,b\n"), "rows.csv", ["no rows"]),
    "one dimension": (write_npy(np.arange(9.0)), "rows.npy", ["rows.npy"]),
    "an unknown format": (lambda f: (f / "rows.xyz").write_text("1"), "rows.xyz", ["unknown file format .xyz"]),
    "a single image file": (make_corrupt_image, "pictures/a.png", ["name the folder that contains the images"]),
}


@pytest.mark.parametrize(("make", "name", "message"), BAD_DATA.values(), ids=BAD_DATA)
def test_fit_refuses_unusable_data(make, name, message, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    refused(("fit", name, "-o", "m.isthmus", "--epochs", "1"), *message)


BAD_OPTIONS = {
    "unknown kind": (["--kind", "depp"], ["unknown kind 'depp'", "did you mean 'deep'?"]),
    "unknown setting": (["--set", "hiden_sizes=3"], ["no setting 'hiden_sizes'; did you mean 'hidden_sizes'?"]),
    "setting of another type": (["--set", "network.tied=perhaps"], ["tied must be true or false"]),
    "setting without value": (["--set", "tied"], ["write NAME=VALUE"]),
    "unknown activation": (["--set", "network.activation=rellu"], ["rellu", "relu"]),
    "unknown likelihood": (["--set", "likelihood=gausian"], ["gausian", "gaussian"]),
    "empty layer": (["--set", "hidden_sizes=0"], ["hidden_sizes=(0,)", "at least 1"]),
    "twice": (["--epochs", "3", "--set", "max_epochs=4"], ["max_epochs is set by an option and by --set"]),
    "time": (["--time-limit", "soon"], ["'soon' is not a time"]),
    "no checkpoint time": (["--checkpoint-every", "never"], ["'never' is not a time"]),
    "size": (["--resize", "big"], ["--resize big"]),
    "resize of numbers": (["--resize", "4x4"], ["only images of bytes"]),
    "fraction": (["--validation", "1.5"], ["--validation 1.5"]),
    "missing validation data": (["--validation", "other.csv"], ["other.csv: no such file"]),
    "validation data of another width": (
        ["--validation", "digits:test"],
        ["digits:test and rows differ: images of 8x8 and rows of 3 columns"],
    ),
    "scaling": (["--scaling", "log"], ["scaling='log' is not one of auto, none, standard, minmax"]),
    "missing": (["--missing", "guess"], ["missing='guess' is not one of"]),
    "device": (["--device", "abacus"], ["device='abacus'"]),
    "no such device": (["--device", "cuda:99"], ["cuda:99"]),
    "precision": (["--precision", "fp3"], ["precision='fp3'", "auto, fp32, bf16"]),
    "code size": (["--code-size", "0"], ["code_size=0"]),
    "epochs": (["--epochs", "0"], ["max_epochs=0"]),
    "epochs in words": (["--epochs", "many"], ["--epochs", "isthmus fit --help"]),
    "unknown option": (["--epoch-number", "3"], ["No such option"]),
    "excluded from an array": (["--exclude", "a"], ["'a' cannot be excluded"]),
    "values outside the domain": (
        ["--seed", "0", "--set", "likelihood=bernoulli"], ["values in [0, 1]", "row 0, column"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS.values(), ids=BAD_OPTIONS)
def test_fit_refuses_invalid_options(options, message, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    np.save("rows.npy", NUMBERS * 3)
    refused(("fit", "rows.npy", "-o", "m.isthmus", *options), *message)


def test_an_unknown_column_is_refused_with_a_suggestion(inputs, tmp_path, refused):
    arguments = ("fit", inputs / "table.csv", "-o", tmp_path / "m.isthmus", "--exclude", "lenght")
    refused(arguments, "no column 'lenght'; did you mean 'length'?")


BAD_ROWS = {
    "another width": (write_npy(np.ones((3, 4))), "rows.npy", "array", ["rows of 4 columns", "rows of 5 columns"]),
    "images for rows": (write_npy(np.ones((3, 5, 5))), "rows.npy", "array", ["images of 5x5", "rows of 5 columns"]),
    "images of another size": (write_npy(np.ones((3, 5, 5))), "rows.npy", "images", ["5x5", "6x5", "--resize"]),
    "a table for images": (
        write_csv("a,b\n1,2\n"), "rows.csv", "images",
        ["rows of 2 columns, but the model was fitted on images of 6x5; give data of this shape"],
    ),
    "an array for a table": (write_npy(np.ones((3, 4))), "rows.npy", "table", ["was fitted on a table"]),
    "a missing column": (
        write_csv("length,width,city\n1,2,Oslo\n"), "rows.csv", "table", ["missing column 'height'", "fitted on"],
    ),
    "other columns": (
        write_csv("length,width,hight,city\n1,2,3,Oslo\n"), "rows.csv", "table", ["missing column 'height'", "'hight'"],
    ),
    "a table of other width for an array": (
        write_csv("a,b\n1,2\n"), "rows.csv", "array", ["rows of 2 columns", "rows of 5 columns"],
    ),
    "a table of text for an array": (
        write_csv("a,b,c,d,e\n1,2,3,4,x\n"), "rows.csv", "array", ["column 'e' is not numeric"],
    ),
    "NaN": (write_npy(np.full((3, 5), np.nan)), "rows.npy", "array", ["NaN (a missing value) at row 0"]),
    "text for a number": (
        write_csv("length,width,height,city\n1,2,tall,Oslo\n"), "rows.csv", "table", ["height"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "name", "model", "message"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_rows_that_do_not_fit_the_model_are_refused(make, name, model, message, inputs, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    make(tmp_path)
    refused(("encode", inputs / f"{model}.isthmus", name, "-o", "codes.csv"), *message)


def truncated(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


def edited(whole: bytes) -> bytes:
    return whole[:-3] + bytes([whole[-3] ^ 255]) + whole[-2:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncated, "is not a complete isthmus model file"),
        (edited, "was changed after it was written"),
        (lambda whole: b"", "is not a complete isthmus model file"),
        (lambda whole: b"\x89PNG\r\n" + bytes(200), "is not an isthmus model file; name a file that"),
        (lambda whole: whole.replace(b'\\"schema\\": 2', b'\\"schema\\": 9'), "was written by a newer isthmus"),
    ],
    ids=["truncated", "edited", "empty", "foreign", "newer"],
)
def test_a_damaged_model_is_refused_by_every_command(damage, message, inputs, tmp_path, refused):
    model, rows = tmp_path / "m.isthmus", inputs / "array.npy"
    whole = (inputs / "array.isthmus").read_bytes()
    assert damage(whole) != whole
    model.write_bytes(damage(whole))
    for arguments in (
        ("info", model),
        ("encode", model, rows, "-o", tmp_path / "codes.npy"),
        ("decode", model, rows, "-o", tmp_path / "rows.npy"),
        ("reconstruct", model, rows, "-o", tmp_path / "rows.npy"),
        ("sample", model, "-o", tmp_path / "rows.npy"),
        ("traverse", model, rows, "-o", tmp_path / "rows.npy"),
        ("interpolate", model, rows, "-o", tmp_path / "rows.npy"),
        ("evaluate", model, rows, "--json"),
        ("report", model, rows, "-o", tmp_path / "r.html"),
    ):
        refused(arguments, message)


def test_a_safetensors_file_of_another_program_is_refused(tmp_path, refused):
    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "m.safetensors")
    refused(("info", tmp_path / "m.safetensors"), "is a safetensors file of another program")


def test_swapped_arguments_are_refused_with_their_order(inputs, tmp_path, refused):
    arguments = ("encode", inputs / "array.npy", inputs / "array.isthmus", "-o", tmp_path / "codes.npy")
    refused(arguments, "array.npy is not an isthmus model file", "commands expect MODEL before DATA")


def test_a_missing_model_file_is_refused(tmp_path, refused):
    refused(("info", tmp_path / "m.isthmus"), "m.isthmus: no such file; check the path")
    refused(("info", tmp_path), "is a folder, not a model file")


@contextmanager
def unwritable_folder() -> Iterator[Path]:
    """Create a folder to which this process cannot write, even as root."""
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        folder = Path(name) / "locked"
        folder.mkdir(mode=0o555)
        if root:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)


def test_a_folder_that_cannot_be_written_is_refused_before_any_work(inputs):
    run("kinds")  # imports need the permissions that are dropped below
    with unwritable_folder() as folder:
        for command in (
            ("fit", "mnist-sample", "-o", folder / "m.isthmus"),
            ("encode", inputs / "array.isthmus", inputs / "array.npy", "-o", folder / "codes.npy"),
            ("reconstruct", inputs / "images.isthmus", inputs / "images", "-o", folder / "pictures"),
            ("traverse", inputs / "images.isthmus", inputs / "images", "-o", folder / "units.png"),
            ("report", inputs / "array.isthmus", inputs / "array.npy", "-o", folder / "r.html"),
            ("demo", "--folder", folder / "demo"),
        ):
            result = run(*command)
            assert result.exit_code == 2, result.stderr
            assert "cannot write to this folder (Permission denied)" in result.stderr
            assert result.stderr.count("\n") == 1
            assert list(folder.iterdir()) == []


@contextmanager
def full_disk(limit: int) -> Iterator[None]:
    """Limit the size of files to `limit` bytes, so that writing fails as on a full disk (Python ignores the signal)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("command", "output"),
    [
        (("fit", "{inputs}/array.npy", *SMALL), "m.isthmus"),
        (("fit", "{inputs}/array.npy", *SMALL, "--checkpoint-every", "0.001s"), "m.isthmus"),
        (("encode", "{inputs}/array.isthmus", "{inputs}/array.npy"), "codes.npy"),
        (("encode", "{inputs}/array.isthmus", "{inputs}/array.npy"), "codes.csv"),
        (("encode", "{inputs}/array.isthmus", "{inputs}/array.npy"), "codes.parquet"),
        (("reconstruct", "{inputs}/images.isthmus", "{inputs}/images"), "pictures"),
        (("traverse", "{inputs}/images.isthmus", "{inputs}/images"), "units.png"),
        (("interpolate", "{inputs}/table.isthmus", "{inputs}/table.csv"), "path.csv"),
        (("report", "{inputs}/array.isthmus", "{inputs}/array.npy"), "report.html"),
    ],
    ids=["fit", "checkpoint", "npy", "csv", "parquet", "pictures", "grid", "path", "report"],
)
def test_a_full_disk_gives_one_line_and_leaves_no_file(command, output, inputs, tmp_path, refused):
    arguments = (*(part.format(inputs=inputs) for part in command), "-o", tmp_path / output)
    with full_disk(64):
        refused(arguments, str(tmp_path / output), "File too large")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ((), None),
        (("fitt",), "No such command 'fitt'. Did you mean 'fit'?"),
        (("--wrong",), "No such option: --wrong"),
        (("fit",), "Missing argument 'DATA'"),
        (("fit", "mnist-sample"), "Missing option '-o' / '--output'"),
    ],
)
def test_wrong_usage_is_one_line(command, message, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    if message is None:
        result = run(*command)
        assert result.exit_code == 0
        assert "Commands" in result.stdout
    else:
        refused(command, message)
