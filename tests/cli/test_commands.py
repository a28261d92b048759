"""What every command does: options given twice are refused or add up, refusals are one printable line."""

import re
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pgmetrics.cli import compare, growth
from pgmetrics.cli import main as pgmetrics
from pgmetrics.cli.commands import INTERRUPTED
from pgmetrics.runtime import streams
from reference_models.progan.cli import main as progan

ADDING_UP = {
    "--metrics": {"evaluate", "growth", "compare", "stats"},
    "--protocol": {"growth"},
    "--weights": {"fid", "fd", "is", "kid", "prdc", "memorisation", "evaluate", "growth", "compare", "stats"},
    "--option": {"train", "bench"},
    "--resolution": {"bench"},
    "--label": {"sample"},
}


def commands(group, names=()):
    """Every command below a group, with the names that lead to it."""
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*names, name))
        else:
            yield (*names, name), command


def options():
    """Every option of every command."""
    for group in (pgmetrics, progan):
        for names, command in commands(group):
            for param in command.params:
                if isinstance(param, click.Option):
                    yield group, names, param


def given(param):
    """The option as it may be written, with a value that click takes."""
    if param.is_flag:
        return [param.opts[0]]
    if isinstance(param.type, click.Choice):
        return [param.opts[0], str(param.type.choices[0])]
    return [param.opts[0], "8"]


@pytest.mark.parametrize(("group", "names", "param"), list(options()), ids=str)
def test_each_option_of_each_command_adds_up_or_is_refused(group, names, param):
    # Catches click's own rule, by which the last one counts and the others are dropped without a word.
    if names[-1] in ADDING_UP.get(param.opts[0], ()):
        assert param.multiple
        return
    assert not param.multiple
    done = CliRunner().invoke(group, [*names, *given(param), *given(param)])
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1] == f"Error: {param.opts[0]} is given twice; give it once"


def test_both_signs_of_a_switch_are_one_option_given_twice():
    done = CliRunner().invoke(progan, ["data", "x", "--out", "y", "--mirror", "--no-mirror", "--mirror"])
    assert done.exit_code == 2
    assert "--mirror is given 3 times; give it once" in done.stderr


def test_help_can_be_asked_for_twice():
    assert CliRunner().invoke(pgmetrics, ["swd", "--help", "--help"]).exit_code == 0


def test_metrics_given_one_by_one_are_all_computed():
    source = "synthetic:leaves,resolution=32,n=16"
    sides = ["--real", source, "--fake", f"{source},seed=1", "--workers", "0", "--format", "csv"]
    apart = CliRunner().invoke(pgmetrics, ["evaluate", *sides, "--metrics", "swd", "--metrics", "ms-ssim"])
    together = CliRunner().invoke(pgmetrics, ["evaluate", *sides, "--metrics", "swd,ms-ssim"])
    assert apart.exit_code == 0, apart.stderr
    assert apart.stdout == together.stdout
    assert {line.split(",")[2] for line in apart.stdout.splitlines()[1:]} == {"swd", "ms-ssim"}


@pytest.mark.parametrize(
    ("group", "arguments", "code", "line"),
    [
        (pgmetrics, ["check", "a\x1b[31m\nb"], 1, r"a\x1b[31m\nb does not exist"),
        (pgmetrics, ["a\x1b]0;x\x07"], 2, r"No such command 'a\x1b]0;x\x07'."),
        (progan, ["inspect", "a\x1b[31m\nb"], 1, r"a\x1b[31m\nb"),
        (progan, ["sample", "x", "--out", "y", "--at", "\x9bm"], 2, r"'\x9bm' is not one of"),
    ],
)
def test_a_refusal_is_one_printable_line(group, arguments, code, line):
    done = CliRunner().invoke(group, arguments)
    assert done.exit_code == code
    last = done.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert line in last
    assert done.stderr.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ("check", "{set}", "--resize", "box", "--resolution", "100000000000"),
            "resolution in pixels is a whole",
        ),
        (("swd", "--resize", "box", "--resolution", "1" + "0" * 11), "resolution in pixels is a whole"),
        (("swd", "--workers", "100000000"), "workers is a whole number at least 0 and at most 1,024"),
        (("swd", "--patches", "100000000000"), "patches_per_image of swd is a whole number"),
        (("swd", "--directions", "100000000000"), "directions of swd is a whole number"),
        (
            ("swd", "--real", "synthetic:leaves,n=" + "9" * 30),
            "needs n from 1 to 4,294,967,296",
        ),
        (("swd", "--real", "synthetic:leaves,n=" + "9" * 200), "n is a whole number"),
        (("swd", "--real", "synthetic:leaves,resolution=100000000000"), "synthetic:leaves has resolutions"),
    ],
)
def test_numbers_that_size_an_allocation_are_bounded(tmp_path, arguments, line):
    # Wrong: a traceback of an allocation, an overflow, or as many processes as were asked for.
    images = tmp_path / "set"
    images.mkdir()
    for k in range(4):
        Image.fromarray(np.full((32, 32, 3), k, np.uint8)).save(images / f"{k}.png")
    arguments = [one.format(set=images) for one in arguments]
    if arguments[0] == "swd":
        given = [] if "--real" in arguments else ["--real", str(images)]
        arguments += [*given, "--fake", str(images)]
    result = CliRunner().invoke(pgmetrics, arguments)
    assert result.exit_code in (1, 2)
    assert isinstance(result.exception, SystemExit)
    assert line in result.stderr.splitlines()[-1]
    assert result.stderr.splitlines()[-1].startswith("Error: ")


def test_too_little_memory_is_one_line(monkeypatch):
    def allocate(*_, **__):
        raise MemoryError("Unable to allocate 12.0 GiB")

    monkeypatch.setattr("pgmetrics.sources.audit.audit", allocate)
    result = CliRunner().invoke(pgmetrics, ["check", "synthetic:leaves"])
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "Error: there is not enough memory: Unable to allocate 12.0 GiB; ask for fewer or smaller images"
    ]


def test_the_exit_codes_are_documented_alike_wherever_they_are_listed():
    # Those of interrupts and of closed pipes were in neither list.
    document = (Path(__file__).parents[2] / "docs" / "scoring.md").read_text()
    own = {compare.WORSE, growth.SKIPPED, compare.UNDECIDED, INTERRUPTED, streams.READER_GONE}
    for text in (document, CliRunner().invoke(pgmetrics, ["--help"]).stdout):
        listed = text.partition("Exit codes:")[2].partition("\n\n")[0]
        codes = [int(code) for code in re.findall(r"(?:^|, |,\s)\s*(\d+)\b", listed)]
        assert codes == sorted({0, 1, 2} | own)


def test_an_interrupt_is_no_refusal(monkeypatch):
    # It ended with 1, but of growth and progan train.
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pgmetrics.sources.audit.audit", interrupt)
    done = CliRunner().invoke(pgmetrics, ["check", "synthetic:leaves"])
    assert done.exit_code == INTERRUPTED
    assert done.stderr == "Interrupted.\n"
