"""Compare two generated sets, or two results, metric by metric: is B better than A, or is it noise?"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from math import ceil, hypot, log2
from typing import TYPE_CHECKING, Any

from pgmetrics.comparison.result import COLUMNS, Comparison, Gate, Judging
from pgmetrics.comparison.scores import Key, Scores, base_protocol, is_results, name
from pgmetrics.comparison.settings import BY_NAMES, Setting, differing_settings, images_of_source
from pgmetrics.errors import OptionError, StateError
from pgmetrics.evaluation.api import observe
from pgmetrics.evaluation.options import EvaluateOptions, Options, takes_options
from pgmetrics.evaluation.setup import choose_metrics
from pgmetrics.metrics.base import Metric, State
from pgmetrics.metrics.error_kinds import is_over_images
from pgmetrics.metrics.outputs import Aim
from pgmetrics.metrics.registry import DEFAULT, named, output
from pgmetrics.runtime.progress import Progress
from pgmetrics.sources.resolve import open_source
from pgmetrics.uncertainty import intervals, randomization, verdicts
from pgmetrics.uncertainty.intervals import Difference
from pgmetrics.uncertainty.verdicts import Effect, Score, Verdict

if TYPE_CHECKING:
    from typing_extensions import Unpack

_Judged = tuple[dict[str, Any], Effect]  # a row, and its effect on a gate that includes its metric

_NO_ERROR = "the sets differ, and so few images give no error to tell which is better; give more images"
_OPEN = "the sets differ, and noise leaves open which is better; give more images of A, B and the reals"

logger = logging.getLogger("pgmetrics")


@takes_options(EvaluateOptions)
def compare(
    a: object,
    b: object,
    *,
    real: object | None = None,
    metrics: Sequence[str | Metric] | None = None,
    protocol: str | None = None,
    significance: float = 0.01,
    confidence: float = 0.95,
    permutations: int = 9999,
    explain: bool = False,
    progress: Progress | None = None,
    **options: Unpack[EvaluateOptions],
) -> Comparison:
    """Decide whether B is better than A, worse, or within noise of it, for each metric and level.

    Sources of images are compared image by image. If images of equal index come from equal latents or
    inputs, their common noise cancels; independent sets are compared as validly, with less power. The
    p-value is that of an exact test: under the null hypothesis the i-th images of A and B are exchangeable.
    Results hold only numbers and errors, and are compared as independent draws.

    Args:
        a, b: both sources of generated images, as `evaluate` takes them; or both results, as
            `Results` or the path of their file, with `#RUN` behind it where it holds several runs.
        real: the real images, for metrics that compare two sides; refused with results.
        metrics: names, or metrics with parameters of their own; by default "swd" and "ms-ssim", or all that
            both results have. MS-SSIM belongs to the gate, `Comparison.worse`, only if it is named here.
        protocol: compare only rows of this protocol, such as "at-final", if results hold several.
        significance: the probability of a false alarm over all rows together.
        confidence: the confidence level of each interval.
        permutations: number of random swaps of the test; with few images, all swaps are made.
        explain: return the settings that differ instead of refusing to compare.
        progress: called with (what, done, total).
        options: any of `Options`; with results, the seed alone.

    Raises:
        StateError: the results were scored differently; the message names the first setting that differs.
        OptionError: one of A and B is a result and the other a source, or an option has no such value.
        SampleError, SourceError, WeightsError, PgmetricsError: as `evaluate` and `read_results`.
    """
    settings = Options(**options)
    judging = Judging(significance, confidence, permutations, settings.seed)
    kinds = [is_results(given) for given in (a, b)]
    if all(kinds):
        if unused := ["real"] * (real is not None) + [option for option in options if option != "seed"]:
            raise OptionError(f"results are already computed; {', '.join(unused)} is for sources of images")
        scores = [Scores.read(given) for given in (a, b)]
        if protocol is not None:
            scores = [scores_of_set.under(protocol) for scores_of_set in scores]
        return _compare_results(scores[0], scores[1], metrics, judging, explain)
    if protocol is not None:
        raise OptionError("a protocol selects rows of results; leave it out to compare sources of images")
    if any(kinds):
        which = " and ".join(
            f"{name(given)} holds {'results' if kind else 'images'}"
            for given, kind in zip((a, b), kinds, strict=True)
        )
        raise OptionError(f"{which}: compare two results, or two sources with their reals")
    if explain and (unlike := _unlike_sizes(a, b, settings)):
        return Comparison(name(a), name(b), (), (unlike,), judging)
    return _compare_images((a, b), real, metrics, judging, progress, settings)


def _compare_results(
    a: Scores,
    b: Scores,
    metrics: Sequence[str | Metric] | None,
    judging: Judging,
    explain: bool,
) -> Comparison:
    """Compare two results as independent draws."""
    common = [metric for metric in a.metrics if metric in b.metrics]
    notes = [
        f"{scores.name} holds {', '.join(more)}, which the other lacks: left out"
        for scores in (a, b)
        if metrics is None and (more := [metric for metric in scores.metrics if metric not in common])
    ]
    if metrics is not None:
        common = _asked_numbers(metrics, a, b)
    if not common:
        raise StateError(
            f"nothing to compare: {a.name} holds {', '.join(a.metrics)}; "
            f"{b.name} holds {', '.join(b.metrics)}"
        )
    a, b = a.only(common), b.only(common)
    notes += [
        f"{scores.name} does not say how its numbers were made; save results as JSON to keep the provenance"
        for scores in (a, b)
        if not scores.provenance
    ]
    settings = tuple(differing_settings(a, b))
    if any(setting.matters for setting in settings):
        if not explain:
            raise StateError(_unlike(a.name, b.name, settings, _alike_under(a, b)))
        return Comparison(a.name, b.name, (), settings, judging, tuple(notes))
    differences: list[Difference] = []
    protocols: list[str | None] = []
    reals: list[Score | None] = []
    reasons: dict[str, str] = {}
    for key in sorted(a.rows.keys() & b.rows.keys(), key=lambda key: _place(key, common)):
        rows = a.rows[key], b.rows[key]
        differences.append(intervals.independent_difference(*rows, judging.confidence))
        protocols.append(key[2])
        reals.append(_score_of_reals(a, b, key, judging.significance))
        if differences[-1].p_value is None and output(key[0]).is_score:
            reasons[key[0]] = why_undecided(*rows)
    notes += [f"{metric} is undecided: {reason}" for metric, reason in reasons.items()]
    judged = _judged(differences, protocols, judging.significance, reals)
    no_reals = "the reals' own value is not known, or not the same; score both with the same --real SOURCE"
    gate = _gate(judged, reasons, no_reals, named=metrics is not None)
    result = tuple(row for row, _ in judged)
    return _with_logged_notes(Comparison(a.name, b.name, result, settings, judging, _once(notes), gate=gate))


def _asked_numbers(metrics: Sequence[str | Metric], a: Scores, b: Scores) -> list[str]:
    """Return the numbers requested by name, and those of each requested metric that both results hold.

    Raises:
        OptionError: the results do not hold a requested number.
    """
    asked = []
    for metric in metrics:
        wanted = metric if isinstance(metric, str) else metric.name
        numbers = [wanted] if wanted in a.metrics else [*named(wanted)] or [wanted]
        for scores in (a, b):
            held = [number for number in numbers if number in scores.metrics]
            if not held:
                raise OptionError(f"{scores.name} holds {', '.join(scores.metrics)}, not {wanted}")
            numbers = held
        asked += numbers
    return list(dict.fromkeys(asked))


def _score_of_reals(a: Scores, b: Scores, key: Key, significance: float) -> Score | None:
    """Return the reals' own score in both results; None if it is unknown or the reals differ."""
    rows = [scores.reals[key] for scores in (a, b) if key in scores.reals]
    known = [images for scores in (a, b) if (images := _real_images(scores.provenance, key))]
    if not rows or len(set(known)) > 1:
        return None
    scores = [Score.of(row) for row in rows]
    first, last = scores[0], scores[-1]
    if first == last:
        return first
    # With different seeds, the scores come from different pairs and halves of the same reals.
    error = hypot(first.stderr or 0.0, last.stderr or 0.0)
    if abs(first.value - last.value) > verdicts.reach(significance) * error:
        return None
    errors = [score.stderr for score in scores if score.stderr is not None]
    return Score((first.value + last.value) / 2, max(errors) if len(errors) == len(scores) else None)


def _real_images(provenance: Mapping[str, Any], key: Key) -> str | None:
    """Return the identity of the real images of a row; None if the provenance does not hold it."""
    sources = provenance.get("sources", {})
    source = sources.get("real") or sources.get(f"real {base_protocol(key[2])}") or {}
    return images_of_source(source, provenance.get("parameters", {}), [key[0]]) or None


def why_undecided(a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    """Say why the difference of two rows of results cannot be tested, and the fix."""
    kinds = list(dict.fromkeys(row["stderr_kind"] if row["stderr"] is not None else None for row in (a, b)))
    if all(map(is_over_images, kinds)) and a["seed"] != b["seed"]:
        return (
            f"its error holds for the directions of one seed, and the seeds are {a['seed']} and {b['seed']}; "
            "score with one --seed, or with pgmetrics evaluate ... --error both"
        )
    declared = output(a["metric"])
    if not declared.errors:
        return f"there is no test of it; leave {a['metric']} out of the metrics"
    what = " and ".join(f"one over {kind}" if kind else "none" for kind in kinds)
    fix = " score with pgmetrics evaluate ... --error images, or" if declared.has_choice_of_images else ""
    return f"it takes errors over images, and the results hold {what};{fix} compare the images themselves"


def _no_test_of_images(metric: str) -> str:
    """Say why a metric is undecided in a comparison of images, and the fix."""
    fix = f"leave {metric} out of the metrics"
    if output(metric).errors:
        fix += ", or compare results of pgmetrics evaluate, which hold its error"
    return f"there is no test of it image by image; {fix}"


def _unlike_sizes(a: object, b: object, options: Options) -> Setting | None:
    """Return the size as a setting if the images of two sources differ in it."""
    sizes = ["{}x{}".format(*open_source(one, **options.reading).resolution) for one in (a, b)]
    return Setting("resolution", sizes[0], sizes[1], True) if sizes[0] != sizes[1] else None


def _compare_images(
    fakes: tuple[object, object],
    real: object | None,
    metrics: Sequence[str | Metric] | None,
    judging: Judging,
    progress: Progress | None,
    options: Options,
) -> Comparison:
    """Compare two generated sets image by image."""
    # Fréchet distances store sums by default; here they need the rows of every image.
    chosen = [metric.keeping_rows() for metric in choose_metrics(metrics or DEFAULT, options)]
    observed = observe(real, fakes, chosen, names=("A", "B"), progress=progress, **vars(options))
    differences: list[Difference] = []
    protocols: list[str | None] = []
    reals: list[Score | None] = []
    reasons: dict[str, str] = {}
    total = len(observed.observations)
    for index, observation in enumerate(observed.observations):
        if progress is not None:
            progress(f"comparing {observation.metric.name}", index, total)
        paired = randomization.paired_differences(
            observation.metric,
            observation.real if observation.metric.two_sided else None,
            *observation.fakes,
            seed=judging.seed,
            permutations=judging.permutations,
            confidence=judging.confidence,
        )
        differences += paired
        protocols += [observation.protocol] * len(paired)
        of_reals = (
            {}
            if observation.metric.two_sided or observation.real is None
            else _scores_of_set(observation.metric, observation.real)
        )
        reals += [of_reals.get((difference.metric, difference.level)) for difference in paired]
        reasons |= {
            difference.metric: _no_test_of_images(difference.metric)
            for difference in paired
            if difference.p_value is None and output(difference.metric).is_score
        }
    if progress is not None:
        progress("comparing", total, total)
    notes = [*observed.notes, *(f"{metric} is undecided: {reason}" for metric, reason in reasons.items())]
    notes += _too_few(differences, judging)
    provenance = {**observed.provenance, "permutations": judging.permutations}
    judged = _judged(differences, protocols, judging.significance, reals)
    no_reals = "the reals' own value is not known; --real SOURCE gives it"
    gate = _gate(judged, reasons, no_reals, _powerless(differences, judging), named=metrics is not None)
    rows = tuple(row for row, _ in judged)
    return _with_logged_notes(
        Comparison(name(fakes[0]), name(fakes[1]), rows, (), judging, _once(notes), provenance, gate)
    )


def _scores_of_set(metric: Metric, reals: State) -> dict[tuple[str, int | None], Score]:
    """Return the scores of the reals by a metric of one set, with errors over images."""
    errors = {
        (influence.metric, influence.level): intervals.stderr(influence)
        for influence in metric.influences(real=reals, fake=None)
    }
    estimates, _ = metric.compute(real=reals, fake=None)
    keyed = {(estimate.metric, estimate.level): estimate for estimate in estimates}
    return {key: Score(estimate.value, errors.get(key)) for key, estimate in keyed.items()}


def _too_few(differences: Sequence[Difference], judging: Judging) -> list[str]:
    """Return a note if no difference, however large, could have been significant."""
    tested = [one for one in differences if one.p_value is not None]
    least = max((_least_p_value(one, judging) for one in tested), default=0.0)
    if least * len(tested) <= judging.significance:
        return []
    return [
        "no difference can be told from noise here: with so few images or permutations p is at least "
        f"{least:.2g}, and Holm's correction for {len(tested)} rows multiplies it by as much"
    ]


def _powerless(differences: Sequence[Difference], judging: Judging) -> dict[str, str]:
    """Return the metrics whose test could not have found any difference, each with the fix."""
    tested = [one for one in differences if one.p_value is not None]
    found = {}
    for one in tested:
        if _least_p_value(one, judging) * len(tested) > judging.significance:
            odds = len(tested) / judging.significance
            images = _swapped_together(one) * (1 + ceil(log2(odds)))
            found[one.metric] = (
                "no difference could be told from noise with so few images or permutations; "
                f"give at least {images} images of each and --permutations {ceil(odds) - 1}"
            )
    return found


def _least_p_value(one: Difference, judging: Judging) -> float:
    """Return the smallest p-value that the swap test can reach with so many images."""
    # Swapping all images changes only the sign, so that at least two of 2^n swaps reach the maximum.
    swapped = (one.n_fake or 0) // _swapped_together(one)
    return max(1 / (1 + judging.permutations), 2.0 ** (1 - swapped))


def _swapped_together(one: Difference) -> int:
    """Return how many images are swapped together: MS-SSIM swaps its pairs."""
    return output(one.metric).images_per_term


def _judged(
    differences: Sequence[Difference],
    protocols: Sequence[str | None],
    significance: float,
    reals: Sequence[Score | None] | None = None,
) -> list[_Judged]:
    """Return a row with its verdict for each difference, and its effect on a gate.

    Numbers that are no score, such as fid-bias, are left out unless they were tested.

    Args:
        differences: the differences of B and A.
        protocols: the protocol of each difference.
        significance: significance level of all tests together.
        reals: the reals' own score for each difference; None where it is unknown.
    """
    known = reals or [None] * len(differences)
    kept = [
        each
        for each in zip(differences, protocols, known, strict=True)
        if each[0].p_value is not None or output(each[0].metric).is_score
    ]
    p_values = _corrected([one.p_value for one, _, _ in kept])
    p_differences = _corrected([one.p_difference for one, _, _ in kept])
    rows: list[_Judged] = []
    for (one, protocol, own), p_holm, p_difference in zip(kept, p_values, p_differences, strict=True):
        adjusted = {"p_holm": p_holm, "p_difference": p_difference}
        row = {**dataclasses.asdict(one), "protocol": protocol, **adjusted}
        row["verdict"] = found = verdicts.verdict(
            one.metric,
            *one.scores,
            p_value=p_holm,
            # Without an error, nothing shows that a number is better.
            p_difference=1.0 if p_difference is None else p_difference,
            reals=own,
            significance=significance,
        )
        row |= _beside_reals(one, found, verdicts.limit(one.metric, own), significance)
        rows.append(({column: row[column] for column in COLUMNS}, _effect(one, row, own, significance)))
    return rows


def _corrected(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct the p-values by Holm's method; None stays None."""
    adjusted = iter(randomization.holm([p for p in p_values if p is not None]))
    return [None if p is None else next(adjusted) for p in p_values]


def _beside_reals(
    one: Difference, found: Verdict, reals: Score | None, significance: float
) -> dict[str, Any]:
    """Return the columns about the reals' own value; None where the verdict does not depend on it."""
    a, b = one.scores
    near = None
    if reals is not None and found in ("less varied", "more varied"):
        near = verdicts.nearer(a, b, reals, significance)
    return {
        "reals": None if reals is None else reals.value,
        "reals_stderr": None if reals is None else reals.stderr,
        "a_beside_reals": verdicts.variety(one.metric, a, reals, significance),
        "b_beside_reals": verdicts.variety(one.metric, b, reals, significance),
        "nearer": near,
    }


def _gate(
    judged: Sequence[_Judged],
    reasons: Mapping[str, str],
    no_reals: str,
    powerless: Mapping[str, str] | None = None,
    *,
    named: bool,
) -> Gate:
    """Return the gate that `--fail-if-worse` applies to the rows.

    Args:
        judged: rows with their verdicts, and the effects of these on a gate.
        reasons: by metric, why rows are undecided, and the fix.
        no_reals: the reason, and the fix, for numbers whose goal is the reals' own value, if it is unknown.
        powerless: by metric, the reason and the fix if no test could have decided it.
        named: whether the user named the metrics.
    """
    metrics = list(dict.fromkeys(row["metric"] for row, _ in judged))
    asked = [metric for metric in metrics if verdicts.is_asked(metric, named)]
    worse, undecided = [], {}
    for metric in asked:
        rows = [(row, effect) for row, effect in judged if row["metric"] == metric]
        effects = {effect for _, effect in rows}
        if "worse" in effects:
            worse.append(metric)
        elif "undecided" in effects and "better" not in effects:
            row = next(row for row, effect in rows if effect == "undecided")
            undecided[metric] = reasons.get(metric) or _why_open(row, no_reals)
        elif powerless and metric in powerless:
            undecided[metric] = powerless[metric]
    others = tuple(metric for metric in metrics if metric not in asked and output(metric).is_score)
    return Gate(tuple(asked), others, tuple(worse), undecided)


def _effect(one: Difference, row: Mapping[str, Any], reals: Score | None, significance: float) -> Effect:
    """Return the effect of a row on a gate that includes its metric."""
    if row["verdict"] == "different":
        # The test of images found a difference; without an error, nothing shows which set is better.
        p = row["p_difference"]
        if p is None or verdicts.is_open(
            one.metric, *one.scores, p_difference=p, reals=reals, significance=significance
        ):
            return "undecided"
    return verdicts.effect(one.metric, row["verdict"], reals, row["nearer"])


def _why_open(row: Mapping[str, Any], no_reals: str) -> str:
    """Say why a tested number decides nothing, and the fix."""
    if row["reals"] is None and output(row["metric"]).better.aim is Aim.REALS:
        return no_reals
    return _NO_ERROR if row["p_difference"] is None else _OPEN


def _alike_under(a: Scores, b: Scores) -> str | None:
    """Return a protocol under which all settings that matter are equal, if there are several protocols."""
    of_a, of_b = (dict.fromkeys(base_protocol(key[2]) for key in scores.rows) for scores in (a, b))
    if len(of_a) == len(of_b) == 1:
        return None
    for protocol in of_a:
        if protocol is not None and protocol in of_b:
            settings = differing_settings(a.under(protocol), b.under(protocol))
            if not any(setting.matters for setting in settings):
                return protocol
    return None


def _unlike(a: str, b: str, settings: Sequence[Setting], alike_under: str | None = None) -> str:
    """Return the refusal: the first setting that matters, and the number of others."""
    matter = [setting for setting in settings if setting.matters]
    old = next((one for one in matter if BY_NAMES in (one.a, one.b)), None)
    if old is not None:
        earlier, later = (a, b) if old.a == BY_NAMES else (b, a)
        unlike = any(BY_NAMES not in (one.a, one.b) for one in matter)
        too = "; they differ in other settings, too (--explain lists all)" if unlike else ""
        return (
            f"{earlier} identifies its images by names and times as earlier versions did; "
            f"score it again to compare it with {later}{too}"
        )
    first = matter[0]
    others = f", and {len(matter) - 1} more (--explain lists all)" if len(matter) > 1 else ""
    fix = f"--protocol {alike_under} takes what was scored alike" if alike_under else "score both alike"
    return (
        f"{a} and {b} were scored differently: {first.name}: {first.a} in A, {first.b} in B{others}; "
        f"{fix}, or compare their images: pgmetrics compare FAKES FAKES --real SOURCE"
    )


def _with_logged_notes(comparison: Comparison) -> Comparison:
    """Log the notes of a comparison and return it."""
    for note in comparison.notes:
        logger.warning(note)
    return comparison


def _place(key: Key, metrics: Sequence[str]) -> tuple[Any, ...]:
    """Sort key: metrics in the order given, levels from the finest to the coarsest, then the mean."""
    metric, level, protocol = key
    return metrics.index(metric), protocol or "", -(level or 0)


def _once(notes: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(notes))
