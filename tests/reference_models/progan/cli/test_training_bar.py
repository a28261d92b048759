"""The bar of `progan train`."""

from reference_models.progan.cli.training_bar import TrainingBar
from reference_models.progan.model.schedule import stage
from reference_models.progan.training.progress import TrainingStatus
from tests.helpers.configs import TO_8


def test_a_resumed_run_s_bar_counts_what_was_done_before_as_done(monkeypatch):
    monkeypatch.setattr("reference_models.progan.cli.training_bar.on_terminal", lambda: True)
    bar = TrainingBar(TO_8)
    progress = TrainingStatus(40, stage(32, TO_8), 0, 0.0, 0.0, 0.0, 0.0)
    with bar as report:
        report(progress)
        # Or the time left would be that of a run as fast as its first look seems.
        assert bar._bar.initial == bar._bar.n > 0.5 * bar._bar.total
        assert bar._bar.postfix == "8 x 8, alpha 1.00"
