"""Every metric and every number of it, declared once.

Tables, pages, plots, verdicts, comparisons, help texts, benchmarks and documents read here what they say
about a number. The metrics' classes do not hold the declarations, because they load torch: a table of stored
results and `--help` must not wait for it. docs/architecture.md lists the steps that add a metric.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pgmetrics.errors import OptionError
from pgmetrics.metrics.outputs import Aim, Direction, Output

if TYPE_CHECKING:
    from pgmetrics.metrics.base import Metric

DEFAULT = ("swd", "ms-ssim")
"""The metrics computed by default: those of the paper."""

ERRORS = ("images", "directions", "both")
"""The sources of standard errors that can be asked for; "both" means images and directions."""


@dataclass(frozen=True)
class Declaration:
    """The declaration of a metric: its name, its class and its numbers.

    Attributes:
        name: its name in data and on the command line, equal to the class's `name`.
        home: "module:class" of the metric.
        summary: the first line of the help of its command, if it has a command of its own.
        outputs: its numbers, in the order of tables.
    """

    name: str
    home: str
    summary: str
    outputs: tuple[Output, ...]

    def load(self) -> type[Metric]:
        """Import and return the class of the metric."""
        module, _, name = self.home.partition(":")
        return cast("type[Metric]", getattr(importlib.import_module(module), name))


_AT_EQUAL_COUNTS = "the number of images: compare values at equal counts only"
_OF_REALS = "the number of images and the reals: more than other reals score is no improvement"
_COPIES = "copies of the training images, which improve it"
_JACKKNIFE = ("images (jackknife)", "fake images (jackknife)")
_SHARE = Direction(Aim.HIGHER, up_to_reals=True, least=0.0, most=1.0)
_DISTANCE = Direction(Aim.LOWER, least=0.0)
_NO_SCORE = Direction(Aim.NONE)

_DECLARATIONS = (
    Declaration(
        name="swd",
        home="pgmetrics.metrics.swd:SlicedWasserstein",
        summary="Sliced Wasserstein distance per pyramid level.",
        outputs=(
            Output(
                name="swd",
                title="SWD",
                meaning="measures how far patches are from those of the reals, at each scale of a Laplacian "
                "pyramid",
                use="during training, without a network, and to see at which scale images differ: the finest "
                "level sees texture and noise, the coarsest sees layout",
                better=_DISTANCE,
                misses="brightness and contrast, since each set is standardized by itself",
                depends_on="the number of images: compare it with the floor and at equal counts only",
                needs="sides of at least 16 pixels",
                errors=("directions", "images", "images and directions"),
                scale=1e3,
                digits=2,
                by_level=True,
                logarithmic=True,
                source="Karras et al. 2018, section 5",
            ),
        ),
    ),
    Declaration(
        name="ms-ssim",
        home="pgmetrics.metrics.ms_ssim:MultiScaleSSIM",
        summary="MS-SSIM among pairs: how alike the images of a set are.",
        outputs=(
            Output(
                name="ms-ssim",
                title="MS-SSIM",
                meaning="measures how alike the images of a set are: above the reals' own value variety was "
                "lost, below it the images are more varied than real ones, as noise is",
                use="to find mode collapse",
                better=Direction(Aim.REALS, least=0.0, most=1.0),
                misses="whether an image looks real, and small losses of color and texture",
                depends_on="the reals",
                needs="sides divisible by 16",
                errors=("pairs",),
                of_one_set=True,
                images_per_term=2,
                source="Odena et al. 2017; Karras et al. 2018, section 5",
            ),
        ),
    ),
    Declaration(
        name="fid",
        home="pgmetrics.metrics.frechet:FrechetInceptionDistance",
        summary="Fréchet Inception distance.",
        outputs=(
            Output(
                name="fid",
                title="FID",
                meaning="measures how far the mean and covariance of Inception's features are from those of "
                "the reals",
                use="to compare with published tables, at the same number of images",
                better=_DISTANCE,
                misses=_COPIES,
                depends_on=_AT_EQUAL_COUNTS,
                errors=_JACKKNIFE,
                digits=2,
                logarithmic=True,
                source="Heusel et al. 2017",
            ),
            Output(
                name="fid-bias",
                title="FID bias",
                meaning="estimates how much of FID comes from the finite number of images",
                better=_NO_SCORE,
                needs="more than 2,048 images of each side besides the largest of ten groups",
                digits=2,
                source="jackknife, Busing et al. 1999",
            ),
        ),
    ),
    Declaration(
        name="fid-infinity",
        home="pgmetrics.metrics.fid_infinity:FIDInfinity",
        summary="FID extrapolated to infinitely many generated images.",
        outputs=(
            Output(
                name="fid-infinity",
                title="FID∞",
                meaning="extrapolates FID to infinitely many generated images",
                use="to compare sets of unlike size",
                better=Direction(Aim.LOWER),
                misses=f"its own error, so that no test decides it, and {_COPIES}",
                depends_on="the number of reals",
                digits=2,
                logarithmic=True,
                source="Chong and Forsyth 2020",
            ),
        ),
    ),
    Declaration(
        name="fd",
        home="pgmetrics.metrics.frechet:FrechetDistance",
        summary="Fréchet distance in the features of a custom network.",
        outputs=(
            Output(
                name="fd",
                title="FD",
                meaning="measures how far the mean and covariance of a custom network's features are from "
                "those of the reals",
                use="for images unlike photographs",
                better=_DISTANCE,
                misses=f"what the network does not see, and {_COPIES}",
                depends_on=_AT_EQUAL_COUNTS,
                errors=_JACKKNIFE,
                significant=True,
                logarithmic=True,
                source="Dowson and Landau 1982",
            ),
            Output(
                name="fd-bias",
                title="FD bias",
                meaning="estimates how much of FD comes from the finite number of images",
                better=_NO_SCORE,
                needs="more images of each side than features, besides the largest of ten groups",
                significant=True,
                source="jackknife, Busing et al. 1999",
            ),
        ),
    ),
    Declaration(
        name="is",
        home="pgmetrics.metrics.inception_score:InceptionScore",
        summary="Inception score.",
        outputs=(
            Output(
                name="is",
                title="IS",
                meaning="rewards images that a classifier is sure of and that differ in class",
                use="only for tables that have it",
                # Images that please the classifier can exceed the reals' score, unlike them
                # (Barratt & Sharma 2018).
                better=Direction(Aim.HIGHER, up_to_reals=True, least=1.0),
                misses="variety within a class, and whether the images resemble the reals",
                depends_on="the number of images and the reals: more than their own score is no improvement",
                errors=("splits (sd)", "images"),
                digits=2,
                of_one_set=True,
                source="Salimans et al. 2016, section 4",
            ),
        ),
    ),
    Declaration(
        name="kid",
        home="pgmetrics.metrics.kid:KernelInceptionDistance",
        summary="Kernel Inception distance.",
        outputs=(
            Output(
                name="kid",
                title="KID",
                meaning="measures the squared distance between the distributions of Inception's features",
                use="with few images, since it is unbiased: values below 0 are right for sets that are alike",
                better=Direction(Aim.LOWER),
                misses="copies of the training images",
                errors=("images", "subsets (sd)"),
                scale=1e3,
                digits=3,
                source="Bińkowski et al. 2018, section 4",
            ),
        ),
    ),
    Declaration(
        name="prdc",
        home="pgmetrics.metrics.prdc:PRDC",
        summary="Precision, recall, density and coverage.",
        outputs=(
            # Other reals do not reach 1. A set that exceeds them keeps to the common images, or has a few
            # outliers whose large balls hold many reals (Naeem et al. 2020).
            Output(
                name="precision",
                title="Precision",
                meaning="is the share of generated images that lie among the neighbors of a real image: "
                "whether samples look real",
                use="to tell bad quality from missing variety",
                better=_SHARE,
                misses="lost variety, and is improved by copies of the training images",
                depends_on=_OF_REALS,
                errors=("fakes given the reals", "images"),
                source="Kynkäänniemi et al. 2019",
            ),
            Output(
                name="recall",
                title="Recall",
                meaning="is the share of real images that lie among the neighbors of a generated image: "
                "whether the reals are covered",
                use="to tell missing variety from bad quality",
                better=_SHARE,
                misses="bad images among good ones, and is improved by copies of the training images",
                depends_on=_OF_REALS,
                errors=("reals given the fakes", "images"),
                source="Kynkäänniemi et al. 2019",
            ),
            # Unbounded above (Naeem et al. 2020). 1 is its expectation between equal distributions at any
            # number of images: of n reals and one fake, each real has the fake among its k nearest with
            # probability k / n.
            Output(
                name="density",
                title="Density",
                meaning="counts the neighborhoods of real images that hold a generated image, averaged over "
                "the generated images: whether samples look real",
                use="in place of precision, which outliers among the reals improve",
                better=Direction(Aim.HIGHER, limit=1.0, least=0.0),
                misses="lost variety",
                errors=("fakes given the reals", "images"),
                source="Naeem et al. 2020",
            ),
            Output(
                name="coverage",
                title="Coverage",
                meaning="is the share of real images whose neighborhood holds a generated image: whether the "
                "reals are covered",
                use="in place of recall, which outliers among the generated images improve",
                better=_SHARE,
                misses="bad images among good ones, and is improved by copies of the training images",
                depends_on=_OF_REALS,
                errors=("none", "images"),
                source="Naeem et al. 2020",
            ),
        ),
    ),
    Declaration(
        name="memorisation",
        home="pgmetrics.metrics.memorisation:Memorisation",
        summary="Whether training images were copied.",
        outputs=(
            # Low means copies. Independent images of the right distribution have about a half, and what is
            # far from all reals has 1, so that a high value is no merit.
            Output(
                name="authpct",
                title="AuthPct",
                meaning="is the share of generated images that are no closer to a training image than that "
                "image's own nearest neighbor: it is low where training images were copied",
                use="to find copies of training images",
                better=Direction(Aim.HIGHER, limit=0.5, up_to_reals=True, least=0.0, most=1.0),
                misses="whether images look real: those far from every real count as authentic",
                depends_on="the reals: about a half or more is usual where nothing was copied, and more than "
                "other reals score is no improvement",
                errors=("fakes given the reals",),
                source="Alaa et al. 2022, section 3",
            ),
            # Its deviation is that of the null hypothesis.
            Output(
                name="ct",
                title="C_T",
                meaning="compares how near generated images and held-out reals are to the training images: "
                "far below 0 means copies, far above 0 means underfitting",
                use="to find copies of training images, where other reals were held out",
                better=_NO_SCORE,
                misses="whether images look real",
                needs="held-out reals",
                errors=("generators that copy nothing (sd)",),
                digits=2,
                source="Meehan et al. 2020, sections 3 and 4",
            ),
        ),
    ),
)

_SPELLINGS = {"memorization": "memorisation"}
"""Other spellings that are taken; data have ours."""

METRICS: dict[str, Declaration] = {declaration.name: declaration for declaration in _DECLARATIONS}
"""The declarations by name, in the order of tables."""


def outputs() -> Iterator[Output]:
    """Yield every declared number, in the order of tables."""
    for declaration in METRICS.values():
        yield from declaration.outputs


def output(name: str) -> Output:
    """Return the declaration of a number; an undeclared number is printed raw and is no score."""
    for declared in outputs():
        if declared.name == name:
            return declared
    return Output(name, name.upper(), "", _NO_SCORE, errors=("unknown",), significant=True)


def names_of_outputs(metric: str) -> tuple[str, ...]:
    """Return the names of a metric's numbers; an undeclared metric has none."""
    return tuple(declared.name for declared in METRICS[metric].outputs) if metric in METRICS else ()


def canonical(name: str) -> str:
    """Return the name used in data for a spelling such as `FID`, `ms_ssim` or `memorization`."""
    plain = name.strip().lower().replace("_", "-")
    return _SPELLINGS.get(plain, plain)


def named(name: str) -> tuple[str, ...]:
    """Return the numbers that a name stands for: one, or all of a metric; empty for an unknown name."""
    plain = canonical(name)
    return (plain,) if is_declared(plain) else names_of_outputs(plain)


def is_declared(name: str) -> bool:
    """Whether a number of that name is declared."""
    return any(declared.name == name for declared in outputs())


def in_order(names: Sequence[str]) -> list[str]:
    """Return the names of numbers without repeats, in the order of tables; undeclared ones come last."""
    known = [declared.name for declared in outputs()]
    return sorted(dict.fromkeys(names), key=lambda name: known.index(name) if name in known else len(known))


def metric(name_or_metric: str | Metric) -> Metric:
    """Return the metric of that name with its published parameters; a metric is returned unchanged.

    Raises:
        OptionError: as `find_metrics`.
    """
    return find_metrics([name_or_metric])[0]


def find_metrics(
    asked: Sequence[str | Metric], usual: Callable[[str | Metric], Metric] | None = None
) -> list[Metric]:
    """Return the metrics that are asked for, in that order.

    The name of a number of prdc asks for that number, and several such names for one metric that gives
    these; beside `prdc` itself they add nothing.

    Args:
        asked: names of metrics or of numbers in any spelling that `canonical` knows, or metrics.
        usual: makes the metric of a name; with its published parameters if left out.

    Raises:
        OptionError: nothing has the name, and the message suggests one; or it is the name of a number that
            comes with others alone, and the message names the metric.
    """
    from pgmetrics.metrics.base import Metric

    wholes = {canonical(one) for one in asked if isinstance(one, str)}
    parts: dict[str, list[str]] = {}
    found: list[str | Metric] = []
    for one in asked:
        if isinstance(one, Metric) or canonical(one) in METRICS:
            found.append(one if isinstance(one, Metric) else canonical(one))
            continue
        home = _metric_that_gives(one)
        if home in wholes:
            continue
        if home not in parts:
            found.append(home)
        parts.setdefault(home, []).append(canonical(one))
    make = _published if usual is None else usual
    return [
        make(one).giving(parts[one]) if isinstance(one, str) and one in parts else make(one) for one in found
    ]


def _published(name_or_metric: str | Metric) -> Metric:
    return METRICS[name_or_metric].load()() if isinstance(name_or_metric, str) else name_or_metric


def _metric_that_gives(number: str) -> str:
    plain = canonical(number)
    for declaration in METRICS.values():
        if any(declared.name == plain for declared in declaration.outputs):
            return declaration.name
    known = [*METRICS, *(declared.name for declared in outputs())]
    nearest = " or ".join(difflib.get_close_matches(plain, dict.fromkeys(known), n=2))
    suggestion = f" (did you mean {nearest}?)" if nearest else ""
    raise OptionError(f"no metric is called {number!r}{suggestion}; there are {', '.join(METRICS)}")


def with_error(metrics: Sequence[str | Metric], error: str) -> list[Metric]:
    """Return the metrics with another source of their standard errors.

    Metrics that do not have this choice are returned unchanged.

    Args:
        metrics: names, or metrics.
        error: "images" for every metric that has the choice; "both" or "directions" for swd. With "both", the
            others' errors are over images; with "directions", they keep their default.

    Raises:
        OptionError: `error` is none of these.
    """
    if error not in ERRORS:
        raise OptionError(f"errors are over {', '.join(ERRORS[:-1])} or {ERRORS[-1]}, not {error!r}")
    return [metric.with_error(error) for metric in find_metrics(metrics)]
