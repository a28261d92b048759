"""Nothing above `metrics/` asks for a metric by class or name; its contract and declaration say it all."""

import ast
from pathlib import Path

import pytest

from pgmetrics.metrics.registry import METRICS, outputs

PACKAGE = Path(__file__).parents[2] / "pgmetrics"
ABOVE = (
    "uncertainty",
    "results",
    "prepared",
    "evaluation",
    "comparison",
    "growth",
    "report",
    "testing",
    "cli",
)
# An option of Inception has this name, too.
NAMES = {*METRICS, *(number.name for number in outputs())} - {"precision"}
CLASSES = {declared.home.partition(":")[2] for declared in METRICS.values()}
HOMES = {declared.home.partition(":")[0] for declared in METRICS.values()}
# What other tools compute is told in the parameters of our metrics.
ALLOWED = {PACKAGE / "evaluation" / "presets.py"}


def asked_for(text):
    """(line, name) of metrics that a module imports the class of, compares with, or keeps a table of."""
    found = []
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.ImportFrom(module=module, names=names):
                found += [(node.lineno, f"{module}.{alias.name}") for alias in names if module in HOMES]
            case ast.Call(func=ast.Name(id="isinstance"), args=[_, kinds]):
                named = {part.id for part in ast.walk(kinds) if isinstance(part, ast.Name)}
                found += [(node.lineno, name) for name in sorted(named & CLASSES)]
            case ast.Compare(left=left, comparators=others):
                found += [(node.lineno, name) for part in (left, *others) for name in _strings(part)]
            case ast.Dict(keys=keys):
                found += [(node.lineno, name) for key in keys if key is not None for name in _strings(key)]
            case ast.Set():
                found += [(node.lineno, name) for name in _strings(node)]
            case ast.Tuple() | ast.List() if len(set(_strings(node))) > 1:
                found += [(node.lineno, name) for name in _strings(node)]
            case ast.MatchValue(value=value):
                found += [(node.lineno, name) for name in _strings(value)]
    return sorted(set(found))


def _strings(node):
    parts = node.elts if isinstance(node, (ast.Tuple, ast.List, ast.Set)) else [node]
    return [part.value for part in parts if isinstance(part, ast.Constant) and part.value in NAMES]


def modules():
    return [path for room in ABOVE for path in sorted((PACKAGE / room).rglob("*.py")) if path not in ALLOWED]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_above_the_metrics_knows_none_by_name(path):
    assert asked_for(path.read_text()) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        # Each stood in the code once.
        (
            "from pgmetrics.metrics.memorisation import Memorisation",
            "pgmetrics.metrics.memorisation.Memorisation",
        ),
        ("any(isinstance(one, Memorisation) for one in chosen)", "Memorisation"),
        ("isinstance(found, (SlicedWasserstein, str))", "SlicedWasserstein"),
        ('title + (", mean" if metric == "swd" else "")', "swd"),
        ('metric in ("fid", "fd")', "fd"),
        ('_UNTESTED = frozenset({"fid-infinity"})', "fid-infinity"),
        ('_MORE_NUMBERS = {"memorisation": ("authpct", "ct")}', "memorisation"),
        ('_HEADLINE = ("swd", "kid")', "kid"),
    ],
)
def test_the_ways_in_which_names_were_asked_for_are_seen(text, found):
    assert found in [name for _, name in asked_for(text)]


def test_a_name_that_is_only_handed_on_is_no_question():
    assert asked_for('evaluate(real, fake, ["swd"]); METRICS["kid"].load()') == []
