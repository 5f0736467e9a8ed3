"""Model files: atomic writing, and refusal of damaged and foreign files."""

import json

import pytest
import torch
from safetensors.torch import save_file

from isthmus.errors import InputError
from isthmus.files import atomic_write, read_tensors, write_tensors

TENSORS = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3), "f": torch.zeros(2, dtype=torch.float64)}


def test_tensors_and_header_survive_a_round_trip(tmp_path):
    write_tensors(tmp_path / "m", TENSORS, {"kind": "deep", "loss": [0.1, 1e-300]})
    tensors, header = read_tensors(tmp_path / "m")
    assert header == {"schema": 2, "kind": "deep", "loss": [0.1, 1e-300]}
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_a_failed_write_keeps_the_old_file_and_removes_the_temporary_one(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert (tmp_path / "a").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_missing_damaged_or_foreign_file_is_refused_in_one_line(tmp_path):
    good = tmp_path / "m"
    write_tensors(good, TENSORS, {"kind": "deep"})
    content = good.read_bytes()
    cases = {
        "missing": (None, "no such file"),
        "cut": (content[:-5], "not a complete isthmus model file"),
        "empty": (b"", "not a complete isthmus model file"),
        "edited": (content[:-3] + bytes([content[-3] ^ 1]) + content[-2:], "changed after it was written"),
        "text": (b"plain text\n" * 20, "is not an isthmus model file"),
        "header": (content.replace(b"deep", b"doop"), "changed after it was written"),
    }
    for name, (data, text) in cases.items():
        path = tmp_path / name
        if data is not None:
            path.write_bytes(data)
        with pytest.raises(InputError, match=text) as refused:
            read_tensors(path)
        assert "\n" not in str(refused.value)


def test_a_file_of_another_program_and_one_of_a_newer_version_give_different_errors(tmp_path):
    save_file(TENSORS, tmp_path / "foreign")
    with pytest.raises(InputError, match="of another program"):
        read_tensors(tmp_path / "foreign")
    save_file(TENSORS, tmp_path / "newer", {"isthmus": json.dumps({"schema": 99})})
    with pytest.raises(InputError, match="written by a newer isthmus .schema 99.*upgrade"):
        read_tensors(tmp_path / "newer")


@pytest.mark.parametrize(
    ("header", "advice"), [({"kind": "deep"}, "fit the model again"), ({"checkpoint": {}}, "remove it to start afresh")]
)
def test_a_file_of_an_earlier_version_is_refused_in_one_line(header, advice, tmp_path):
    save_file(TENSORS, tmp_path / "older", {"isthmus": json.dumps({"schema": 1, **header})})
    with pytest.raises(InputError) as refused:
        read_tensors(tmp_path / "older")
    assert str(refused.value) == f"{tmp_path / 'older'} was written by an earlier isthmus (schema 1); {advice}"


def test_a_file_gets_the_permissions_of_a_new_file(tmp_path):
    (tmp_path / "new").touch()
    write_tensors(tmp_path / "m", TENSORS, {})
    assert (tmp_path / "m").stat().st_mode == (tmp_path / "new").stat().st_mode


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match="does not exist; create it"):
        write_tensors(tmp_path / "no" / "m", TENSORS, {})
