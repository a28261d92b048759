"""Alarms of a run that diverges."""

from __future__ import annotations

from dataclasses import replace

from reference_models.progan.model.schedule import stage
from reference_models.progan.training.progress import Alarms, TrainingStatus
from tests.helpers.configs import TO_16 as CONFIG


def test_alarms_are_raised_once_each():
    now = stage(0, CONFIG)
    fine = TrainingStatus(images_shown=8, stage=now, skipped=0, real=1.0, fake=-1.0, penalty=0.0, norm=9.9)
    alarms = Alarms(CONFIG)
    assert alarms.raised_by(fine) == []
    (told,) = alarms.raised_by(replace(fine, norm=10.1))
    assert told.startswith("at 8 images the discriminator's gradient has a norm of 10.1, where 1 is wanted")
    (told,) = alarms.raised_by(replace(fine, norm=99.0, fake=-1001.0))
    assert "scores have come to 1 for reals and -1,001 for fakes" in told
    assert alarms.raised_by(replace(fine, norm=99.0, real=2e3)) == []
    # A target of 750 makes 7,000 no alarm, and what is no number is one.
    steep = Alarms(replace(CONFIG, gp_gamma=750.0))
    assert steep.raised_by(replace(fine, norm=7000.0)) == []
    nan = float("nan")
    assert len(steep.raised_by(replace(fine, norm=nan))) == 1
    assert len(steep.raised_by(replace(fine, fake=nan))) == 1
