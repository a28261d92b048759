"""What the reals score themselves beside a row about generated images."""

from pgmetrics.results import Results
from tests.helpers.result_rows import row


def test_tables_say_how_varied_sets_are_beside_the_reals():
    # Nothing told a reader that 0.0767 is as varied as the reals' 0.0737, and that 0.2436 is not.
    values = {"reals-32x32": 0.0737, "untrained": 0.0750, "4x4": 0.2436, "32x32": 0.0767}
    rows = [
        row(
            "ms-ssim", value=value, stderr=0.004, stderr_kind="pairs", run=run,
            subject="real" if run.startswith("reals") else "fake",
        )
        for run, value in values.items()
    ]  # fmt: skip
    line = "MS-SSIM: as varied as the reals: untrained, 32x32; less varied than the reals: 4x4"
    assert line in Results(tuple(rows)).to_table().splitlines()
    assert line in Results(tuple(rows)).to_markdown()
    assert f"% {line}" in Results(tuple(rows)).to_latex()
    assert "varied" not in Results(tuple(rows[1:])).to_table()
    alone = [{**one, "run": "r"} for one in (rows[0], rows[2])]
    assert "MS-SSIM: less varied than the reals: fake" in Results(tuple(alone)).to_table()
