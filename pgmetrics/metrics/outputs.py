"""What a number of a metric is: the type of its declaration. `registry` holds the declarations themselves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Aim(Enum):
    """What a good value of a number is."""

    LOWER = "lower"
    HIGHER = "higher"
    REALS = "reals"
    """As the reals' own value; a higher one means that the set is less varied."""
    NONE = "none"
    """No value is good by itself: such a number is no score."""


@dataclass(frozen=True)
class Direction:
    """Which way a number improves, and where that ends.

    Attributes:
        aim: what a good value is.
        limit: a value beyond which a further step the good way is no improvement; None if there is none, or
            if only the reals' own value tells it.
        up_to_reals: whether what the reals score, where it is known, is the limit.
        least, most: the bounds of any value that can be computed, None where there is none. KID without bias,
            FID∞, which extrapolates, C_T and the biases fall below 0.
    """

    aim: Aim
    limit: float | None = None
    up_to_reals: bool = False
    least: float | None = None
    most: float | None = None

    @property
    def in_words(self) -> str:
        """Which way is better, for people; empty where neither is."""
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
    """One number of a metric, for tables, plots, verdicts, help texts and documents alike.

    The sentences about it complete its title and have no full stop: "FID measures how far ...".

    Attributes:
        name: in data, such as "fid" or "fid-bias".
        title: for people, without the unit.
        meaning: what the number says, beginning with a verb.
        better: which way it improves, where that ends, and the bounds of any value.
        use: when to use it, as the end of "Use it ..."; empty of what stands beside another number.
        misses: what the number does not see, as the object of "It misses ..."; empty if nothing is said.
        depends_on: what its best value depends on, as the object of "Its best value depends on ..."; empty
            where that is a constant.
        needs: what it needs beyond what every number of its metric does; empty if nothing.
        errors: what its standard error may be over, as `stderr_kind` says without numbers of groups or
            directions; the default first, "none" where it has none unless asked for. Empty if it never has
            one.
        scale: what tables for people multiply it by; data stay raw.
        digits: after the decimal point in tables, or significant ones.
        significant: whether `digits` are significant ones.
        by_level: whether it is a mean over levels of a pyramid, which have numbers of their own.
        of_one_set: whether it scores one set by itself, so that the reals' value is no floor of a distance.
        logarithmic: whether ratios of its values mean something, so that a plot may have a logarithmic axis.
            Those of an unbiased distance, which falls below 0, do not.
        images_per_term: images in each term of the mean that it is: 2 for a mean over pairs.
        source: where it is defined.
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
        """The factor that tables multiply by, such as "×10³"; empty where it is 1."""
        if self.scale == 1:
            return ""
        exponent = f"{self.scale:e}".partition("e")[2]
        return "×10" + str(int(exponent)).translate(_SUPERSCRIPTS)

    @property
    def heading(self) -> str:
        """The title with the unit, above a column."""
        return f"{self.title} {self.unit}".rstrip()

    @property
    def format(self) -> str:
        """How Python formats the scaled value."""
        return f".{self.digits}{'g' if self.significant else 'f'}"

    @property
    def has_choice_of_images(self) -> bool:
        """Whether `--error images` changes what its error is over."""
        return "images" in self.errors[1:]

    @property
    def is_score(self) -> bool:
        """Whether the number says how good a set is: fid-bias, for one, does not."""
        return self.better.aim is not Aim.NONE

    @property
    def description(self) -> str:
        """What it says, is used for, misses and depends on, in sentences; the first completes the title."""
        parts = [
            self.meaning,
            self.use and f"Use it {self.use}",
            self.misses and f"It misses {self.misses}",
            self.depends_on and f"Its best value depends on {self.depends_on}",
        ]
        return " ".join(f"{part}." for part in parts if part)

    def number(self, value: float, sign: str = "") -> str:
        """A value as printed, without its unit.

        Args:
            value: raw.
            sign: "+" to print the sign of positive values, too.
        """
        return format(value * self.scale, sign + self.format)


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
