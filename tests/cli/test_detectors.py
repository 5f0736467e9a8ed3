"""Files of detectors of odd rows on the command line."""

import json

from tests.estimators.fixture_files import path_of


def test_a_detector_is_described_by_info_and_refused_by_commands_for_autoencoders(tmp_path, refused, succeed):
    path = path_of("anomalies")
    printed = " ".join(succeed("info", path).stdout.split())
    assert "gaussian, mixture, neighbours" in printed
    assert "p-values come from 19 calibration rows" in printed
    facts = json.loads(succeed("info", path_of("anomalies, codes"), "--json").stdout)
    assert (facts["kind"], facts["configuration"]["autoencoder"]) == ("anomalies", "linear")
    refused(("sample", path, "-o", tmp_path / "rows.csv"), "contains a detector of odd rows, not an autoencoder")
