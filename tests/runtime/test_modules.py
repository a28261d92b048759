"""Modules that people name, imported from the current directory, and once more in a second copy."""

import sys

import pytest

from pgmetrics.runtime.modules import import_from_here, named_anew
from tests.helpers.global_states import global_states


@pytest.fixture
def named(tmp_path, monkeypatch):
    """Write a module in the current directory and import it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text, name):
        monkeypatch.delitem(sys.modules, name, raising=False)
        (tmp_path / f"{name}.py").write_text(text)
        return import_from_here(name)

    return write


def test_a_module_of_the_current_directory_is_found_and_the_path_is_as_before(named, tmp_path):
    before = list(sys.path)
    assert named("value = 7", "here_one").value == 7
    assert sys.path == before
    with pytest.raises(ZeroDivisionError):
        named("1 / 0", "here_two")
    assert sys.path == before


def test_a_second_copy_shows_what_chance_decides_and_leaves_chance_alone(named, monkeypatch):
    text = "import random\nclass holder:\n    drawn = random.random()\nfixed = 3"
    monkeypatch.syspath_prepend(".")
    module = named(text, "here_drawn")
    before = global_states()
    copy = named_anew("here_drawn:holder.drawn")
    assert copy != module.holder.drawn
    assert global_states() == before
    assert named_anew("here_drawn:fixed") == 3
    assert sys.modules["here_drawn"] is module


@pytest.mark.parametrize(
    ("text", "reason"),
    [("math:pi", "it is no source file"), ("here_once:value", "twice")],
)
def test_what_has_no_second_copy_is_told_once(named, monkeypatch, caplog, text, reason):
    monkeypatch.delattr(sys, "_here_once", raising=False)
    monkeypatch.syspath_prepend(".")
    named(
        "import sys\nassert not hasattr(sys, '_here_once'), 'twice'\nsys._here_once = 1\nvalue = 1",
        "here_once",
    )
    assert named_anew(text) is None
    assert named_anew(text) is None
    assert caplog.text.count(f"cannot be imported twice ({reason})") == 1
    monkeypatch.delattr(sys, "_here_once")
