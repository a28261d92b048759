"""Keyword options: declared once, spelled out in help(), and refused by name where there is no such one."""

import inspect
import os
import pydoc
from collections.abc import Mapping
from dataclasses import fields
from typing import get_type_hints

import pytest

import pgmetrics
from pgmetrics.errors import OptionError
from pgmetrics.evaluation.api import observe
from pgmetrics.evaluation.options import (
    CollectOptions,
    EvaluateOptions,
    Options,
    SharedOptions,
    takes_options,
)
from pgmetrics.features.base import FeatureExtractor
from pgmetrics.prepared.cache import Cache

TAKEN = {
    pgmetrics.evaluate: EvaluateOptions,
    observe: EvaluateOptions,
    pgmetrics.compare: EvaluateOptions,
    pgmetrics.collect: CollectOptions,
    pgmetrics.score_run: SharedOptions,
}
FUNCTIONS = pytest.mark.parametrize("function", TAKEN, ids=lambda function: function.__name__)


def test_type_checkers_see_the_options_that_there_are():
    # The list exists twice, for the interpreter and for type checkers.
    names = {"FeatureExtractor": FeatureExtractor, "Cache": Cache, "Mapping": Mapping, "os": os}
    seen = get_type_hints(EvaluateOptions, localns=names)
    assert seen == get_type_hints(Options, localns=names)


@FUNCTIONS
def test_help_spells_out_every_option_with_its_default_and_meaning(function):
    taken = TAKEN[function].__optional_keys__
    parameters = inspect.signature(function).parameters
    text = pydoc.render_doc(function, renderer=pydoc.plaintext)
    words = " ".join(text.split())
    for option in fields(Options):
        if option.name in taken:
            assert parameters[option.name].default == option.default
            assert f"{option.name}: {option.metadata['meaning']}" in words
    assert not any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    assert "options:" not in text
    assert max(map(len, text.partition("Args:")[2].splitlines())) <= 112


@FUNCTIONS
@pytest.mark.parametrize(
    ("wrong", "fact"),
    [("num_image", "did you mean num_images?"), ("qqq", "there are .*workers, .*, networks")],
)
def test_an_option_that_there_is_not_is_refused_with_the_nearest(function, wrong, fact):
    # Before anything else is looked at: the positional arguments are no sources.
    with pytest.raises(OptionError, match=rf"^{function.__name__} has no option {wrong}; {fact}"):
        function(None, None, **{wrong: 1})


def test_statistics_are_no_place_for_a_cache():
    with pytest.raises(OptionError, match="collect has no option cache"):
        pgmetrics.collect(None, ["swd"], cache="anywhere")


def test_what_a_function_means_by_a_name_of_its_own_stays():
    # A run takes several devices and a cache that may be "off".
    parameters = inspect.signature(pgmetrics.score_run).parameters
    assert list(parameters).index("device") < list(parameters).index("seed")
    assert "several, separated by commas" in pgmetrics.score_run.__doc__


def test_a_docstring_that_python_left_out_stays_out():
    @takes_options(SharedOptions)
    def bare(**options):
        return options

    assert bare.__doc__ is None
    assert bare(seed=3) == {"seed": 3}
