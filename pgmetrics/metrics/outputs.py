"""The types that declare a number of a metric; `registry` holds the declarations themselves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Aim(Enum):
    """Which values of a number are good."""

    LOWER = "lower"
    HIGHER = "higher"
    REALS = "reals"
    """The reals' own value is the goal; a higher value means that the set is less varied."""
    NONE = "none"
    """No value is good by itself, so that the number is no score."""


@dataclass(frozen=True)
class Direction:
    """Which way a number improves, and where that ends.

    Attributes:
        aim: which values are good.
        limit: the value beyond which a number improves no further; None if there is none, or if the limit is
            the reals' own value.
        up_to_reals: whether the limit is the reals' own value, if that is known.
        least, most: the bounds of any value that can be computed; None if there is no bound. Unbiased KID,
            the extrapolated FID∞, C_T and the biases can fall below 0.
    """

    aim: Aim
    limit: float | None = None
    up_to_reals: bool = False
    least: float | None = None
    most: float | None = None

    @property
    def in_words(self) -> str:
        """The direction of improvement in words; empty if there is none."""
        if self.aim is Aim.REALS:
            return "higher is less varied; the reals are the measure"
        if self.aim is Aim.NONE:
            return ""
        if self.up_to_reals:
            return f"{self.aim.value} is better, up to the reals'"
        end = "" if self.limit is None else f", up to {self.limit:g}"
        return f"{self.aim.value} is better{end}"


@dataclass(frozen=True)
class Output:
    """The declaration of one number, for tables, plots, verdicts, help texts and documents.

    `meaning` continues the title ("FID measures how far ..."); no sentence about a number has a full stop.
    A score has `use`, `misses` and `source`.

    Attributes:
        name: its name in data, such as "fid" or "fid-bias".
        title: its name in tables and plots, without the unit.
        meaning: what it measures, beginning with a verb in lower case.
        better: the direction of improvement, where that ends, and the bounds of any value.
        use: when to use it, as the end of "Use it ..."; empty for a number that only accompanies another.
        misses: what it is blind to, as the object of "It misses ..."; empty for a number that is no score.
        depends_on: what its best value depends on, as the object of "Its best value depends on ..."; empty
            if the best value is a constant.
        needs: its requirements beyond those of its metric; empty if there are none.
        errors: the possible sources of its standard error, as in `stderr_kind` but without numbers of groups
            or directions; the default first, which is "none" if an error is computed on request only. Empty
            if it never has an error.
        scale: the factor by which tables for people multiply it; data stay raw.
        digits: digits in tables, after the decimal point unless `significant`.
        significant: whether `digits` counts significant digits.
        by_level: whether it is a mean over levels of a pyramid, which have numbers of their own.
        of_one_set: whether it scores one set by itself, so that the reals' value is no floor of a distance.
        logarithmic: whether ratios of its values are meaningful, so that a plot may have a logarithmic axis.
            They are not for an unbiased distance, which can fall below 0.
        images_per_term: if it is a mean, the number of images in each term: 2 for a mean over pairs.
        source: the publication that defines it.
    """

    name: str
    title: str
    meaning: str
    better: Direction
    use: str = ""
    misses: str = ""
    depends_on: str = ""
    needs: str = ""
    errors: tuple[str, ...] = ()
    scale: float = 1.0
    digits: int = 4
    significant: bool = False
    by_level: bool = False
    of_one_set: bool = False
    logarithmic: bool = False
    images_per_term: int = 1
    source: str = ""

    @property
    def unit(self) -> str:
        """The factor by which tables multiply it, such as "×10³"; empty if it is 1."""
        if self.scale == 1:
            return ""
        exponent = f"{self.scale:e}".partition("e")[2]
        return "×10" + str(int(exponent)).translate(_SUPERSCRIPTS)

    @property
    def heading(self) -> str:
        """The heading of its column: the title with the unit."""
        return f"{self.title} {self.unit}".rstrip()

    @property
    def format(self) -> str:
        """Python's format specification for the scaled value."""
        return f".{self.digits}{'g' if self.significant else 'f'}"

    @property
    def has_choice_of_images(self) -> bool:
        """Whether `--error images` changes the source of its standard error."""
        return "images" in self.errors[1:]

    @property
    def is_score(self) -> bool:
        """Whether the number says how good a set is; fid-bias, for example, does not."""
        return self.better.aim is not Aim.NONE

    @property
    def description(self) -> str:
        """Sentences on its meaning, use, blind spots and dependences; the first continues the title."""
        parts = [
            self.meaning,
            self.use and f"Use it {self.use}",
            self.misses and f"It misses {self.misses}",
            self.depends_on and f"Its best value depends on {self.depends_on}",
        ]
        return " ".join(f"{part}." for part in parts if part)

    def number(self, value: float, sign: str = "") -> str:
        """Format a value as tables print it, without its unit.

        Args:
            value: the raw value.
            sign: "+" to print the sign of positive values, too.
        """
        return format(value * self.scale, sign + self.format)


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
