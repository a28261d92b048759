"""Results that were computed reach somebody, and nothing is left where they could not be written."""

import pytest

from pgmetrics.cli.delivery import keep
from pgmetrics.errors import PgmetricsError


def test_nothing_is_left_where_no_place_takes_the_results(tmp_path, monkeypatch, capsys):
    # Wrong: an empty directory in the temporary and the current one, and an empty line before the error.
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    tried = []

    def save(path):
        tried.append(path)
        raise PgmetricsError(f"{path} cannot be written: File too large")

    with pytest.raises(PgmetricsError, match=r"^r\.html cannot be written: File too large, nor could any"):
        keep(save, "r.html")
    assert len(tried) == 3
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().err == ""
