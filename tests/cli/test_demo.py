"""`isthmus demo`."""

import pytest

import isthmus

from .commands import run


@pytest.fixture
def few_digits(monkeypatch):
    """Reduce the data sets to 150 digits."""
    import isthmus.data

    whole = isthmus.data.open

    def few(source, **options):
        data = whole(source, **options)
        return isthmus.data.Dataset(data.X[:150], data.labels[:150], data.name)

    monkeypatch.setattr("isthmus.data.open", few)


def test_the_demo_prints_a_table_and_writes_a_model_and_a_report(few_digits, tmp_path, monkeypatch, succeed):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # a second run overwrites the output of the first
        result = succeed("demo", "--epochs", 1)
        for message in (
            "squared error per digit",
            "baseline: PCA",
            "accuracy of a linear probe",
            "784 pixels",
            "training time",
        ):
            assert message in result.stdout
        assert "next: open demo/report.html" in result.stderr
        assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == ["digits.isthmus", "report.html"]
    model = isthmus.load("demo/digits.isthmus")
    assert (model.code_size_, model.preprocessing_.row_shape) == (32, (28, 28))


def test_an_interrupted_demo_exits_with_130(few_digits, tmp_path, monkeypatch):
    def interrupted(self, X):
        self.history_ = {"stopped": "interrupted"}

    monkeypatch.setattr("isthmus.Autoencoder.fit", interrupted)
    result = run("demo", "--folder", tmp_path / "demo", "--quiet")
    assert (result.exit_code, result.stderr) == (130, "isthmus: error: interrupted\n")
    assert list((tmp_path / "demo").iterdir()) == []
