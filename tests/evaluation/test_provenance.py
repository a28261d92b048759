"""How numbers came about: sets, parameters, versions and device."""

import pgmetrics
from pgmetrics.evaluation.provenance import versions
from tests.helpers.counting import Counting
from tests.helpers.feature_scores import score, sides
from tests.helpers.tables import SWD, rows
from tests.helpers.toy_network import ToyNetwork


def test_a_runs_versions_do_not_depend_on_what_was_loaded_before():
    loaded, installed = versions(), versions(installed=True)
    assert {"torchvision", "torch-fidelity"} <= installed.keys()
    assert loaded.keys() <= installed.keys()
    for name, version in loaded.items():
        # Torch adds the build to its own version: 2.9.0+cpu.
        assert version.partition("+")[0] == installed[name]


def test_rows_are_tidy_and_provenance_says_how():
    real = Counting(8)
    found = pgmetrics.evaluate(real, Counting(8, seed=1), [SWD, "ms-ssim"], seed=7)
    frame = found.to_pandas()
    assert frame.metric.tolist() == ["ms-ssim", "swd", "swd", "swd", "ms-ssim"]
    assert frame.level.tolist()[1:3] == [32, 16]
    assert frame.level.isna().tolist() == [True, False, False, True, True]
    assert set(frame.seed) == {7}
    assert frame.run.nunique() == 1
    provenance = found.provenance
    assert provenance["sources"]["real"]["fingerprint"] == real.fingerprint
    assert provenance["parameters"]["metrics"]["swd"]["patches_per_image"] == 16
    assert provenance["parameters"]["block"] == 256
    assert {"torch", "numpy", "pgmetrics", "python"} <= provenance["versions"].keys()


def test_the_protocol_of_a_row_names_the_network_and_the_provenance_tells_all():
    found = score(*sides(), ["fid", SWD])
    assert rows(found, metric="fid")[0]["protocol"] == "native, inception toy1"
    assert rows(found, metric="swd", level=None)[0]["protocol"] == "native"
    assert found.provenance["networks"] == {"inception": {"network": "inception", "version": 1}}
    other = score(*sides(), ["fid"], ToyNetwork(version=2))
    assert other.rows[0]["run"] != score(*sides(), ["fid"]).rows[0]["run"]
