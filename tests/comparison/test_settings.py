"""Which settings of two evaluations differ, and which of them forbid a comparison."""

from dataclasses import replace

import pytest

import pgmetrics
from pgmetrics.comparison.compare import compare
from pgmetrics.comparison.scores import Scores
from pgmetrics.comparison.settings import differing_settings
from pgmetrics.errors import StateError
from pgmetrics.results import Results
from tests.helpers.compared import FAST, blotches, results, row, settings_of


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"parameters__metrics__swd__patches_per_image": 64}, "swd patches_per_image: 128 in A, 64 in B"),
        ({"parameters__mirror": True}, "mirror: False in A, True in B"),
        ({"parameters__resize": "box"}, "resize: - in A, box in B"),
        ({"parameters__preset": "clean-fid"}, "preset: - in A, clean-fid in B"),
        ({"sources__real__fingerprint": "others"}, "real images: reals in A, others in B"),
        ({"sources__fake__height": 64}, "fake resolution: 32x32 in A, 64x32 in B"),
    ],
)
def test_unlike_provenance_is_refused_in_one_line_that_names_it(change, fact):
    a, b = Results((row("swd"),), settings_of()), Results((row("swd"),), settings_of(**change))
    with pytest.raises(StateError, match=fact) as refused:
        compare(a, b)
    assert "\n" not in str(refused.value)
    found = compare(a, b, explain=True)
    assert not found.comparable
    assert found.rows == ()
    assert fact.partition(":")[0] in found.explanation()


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        ({"protocol": "at-final"}, "swd protocol: native in A, at-final in B"),
        ({"n_fake": 90}, "swd generated images: 100 in A, 90 in B"),
        ({"n_real": 90}, "swd real images: 100 in A, 90 in B"),
        ({"level": 16}, "swd levels: - in A, 16 in B"),
    ],
)
def test_unlike_rows_are_refused_even_without_provenance(change, fact):
    with pytest.raises(StateError, match=fact):
        compare(results(row("swd")), results(row("swd", **change)))


@pytest.mark.parametrize(
    "change",
    [
        {"sources__fake__fingerprint": "other fakes"},
        {"versions__torch": "2.7"},
        {"device": "cuda"},
        {"parameters__block": 128},
        {"parameters__metrics__swd__num_images": 16384},
        {"sources__real__fingerprint": "reals"},
    ],
)
def test_what_moves_no_number_is_no_reason_to_refuse(change):
    found = compare(Results((row("swd"),), settings_of()), Results((row("swd"),), settings_of(**change)))
    assert len(found.rows) == 1
    assert all(not setting.matters for setting in found.settings)


def test_other_coins_of_the_same_mirroring_are_the_same_reals():
    a, b = (
        Results((row("swd"),), settings_of(sources__real__fingerprint=f"v2:reals+mirror:{coins}"))
        for coins in ("0f", "1e")
    )
    assert compare(a, b).settings == ()


def test_the_reals_of_a_metric_are_compared_and_not_those_of_others():
    # Wrong: A was scored by fid, too, which takes more reals than swd, and swd is called scored differently.
    both = settings_of(
        parameters__metrics={"swd": {"patches_per_image": 128}, "fid": {"network": "inception"}},
        sources__real__fingerprint="v2:files:all",
        sources__real__metrics={"swd": "v2:files:first"},
    )
    alone = settings_of(sources__real__fingerprint="v2:files:first")
    a, b = Results((row("swd"), row("fid", 9.0)), both), Results((row("swd"),), alone)
    assert compare(a, b).settings == ()
    others = settings_of(sources__real__fingerprint="v2:files:all")
    with pytest.raises(StateError, match="real images: v2:files:first in A, v2:files:all in B"):
        compare(a, Results((row("swd"),), others))


def test_a_result_that_an_older_version_wrote_is_to_be_scored_again(tmp_path, monkeypatch):
    old, new = "zip:c36ef8e5", "v2:files:77"
    for name, images, mirror in (("old", old, False), ("new", new, False), ("other", new, True)):
        settings = settings_of(sources__real__fingerprint=images, parameters__mirror=mirror)
        Results((row("swd"),), settings).save(tmp_path / f"{name}.json")
    monkeypatch.chdir(tmp_path)
    fix = (
        "old.json identifies its images by names and times as earlier versions did; "
        "score it again to compare it with new.json"
    )
    for pair in (("old.json", "new.json"), ("new.json", "old.json")):
        with pytest.raises(StateError) as refused:
            compare(*pair)
        assert str(refused.value) == fix
        explained = compare(*pair, explain=True).explanation()
        assert old not in explained
        assert new not in explained
    with pytest.raises(StateError, match=r"^old\.json .* other\.json; they differ in other settings, too"):
        compare("old.json", "other.json")


def test_settings_of_metrics_that_are_not_compared_do_not_matter():
    # IS on other weights says nothing about MS-SSIM; another real set does not move MS-SSIM either.
    a = Results((row(), row("is", 3.0)), settings_of(parameters__metrics__is={"network": "inception"}))
    b = Results((row(),), settings_of(sources__real__fingerprint="others"))
    found = compare(a, b)
    assert found.settings == ()
    assert found.notes == ("r holds is, which the other lacks: left out",)


def test_the_weights_of_a_network_are_a_setting():
    made = [
        settings_of(
            parameters__metrics={"fid": {"network": "inception"}}, networks={"inception": {"weights": digest}}
        )
        for digest in ("abc", "def")
    ]
    a, b = (Results((row("fid"),), provenance) for provenance in made)
    with pytest.raises(StateError, match="inception weights: abc in A, def in B"):
        compare(a, b)
    # The numbers of prdc have other names than the metric.
    a, b = (
        Scores.of(
            Results(
                (row("recall"),),
                {**one, "parameters": {"metrics": {"prdc": {"network": "inception", "names": ["recall"]}}}},
            ),
            "x",
        )
        for one in made
    )
    assert [setting.name for setting in differing_settings(a, b)] == ["inception weights"]


def test_real_evaluations_explain_themselves():
    # The names of settings are those that evaluate() writes.
    def scored(seed=0, **options):
        return pgmetrics.evaluate(blotches(40, 3), blotches(40, 1), [FAST], seed=seed, **options)

    found = compare(scored(), scored(seed=1, num_images=30, mirror=True), explain=True)
    assert [setting.name for setting in found.settings if setting.matters] == [
        "swd real images",
        "swd generated images",
        "mirror",
        "real images",
    ]
    assert [setting.name for setting in found.settings if not setting.matters] == ["seed"]
    other = pgmetrics.evaluate(blotches(40, 3), blotches(40, 1), [replace(FAST, patches_per_image=9)])
    with pytest.raises(StateError, match="swd patches_per_image: 8 in A, 9 in B"):
        compare(scored(), other)
