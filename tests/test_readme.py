"""What the documents show works: Python runs, commands and options exist, links lead somewhere.

Python blocks of a document run top to bottom in one namespace, in an empty directory. One that cannot run (it
needs a GPU, or the reader's own files) has `<!-- not run: REASON -->` on the line before it.
"""

import importlib
import importlib.util
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import click
import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = {"pgmetrics": "pgmetrics.cli", "progan": "reference_models.progan.cli"}
# Commands of others, which the tests take on trust.
FOREIGN = {"cd", "git", "pip", "pytest", "source", ".", "torchrun"}
DOCUMENTS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")])
}
README = DOCUMENTS["README.md"]
WIDTH = 110


class Fence(NamedTuple):
    language: str
    line: int
    text: str
    not_run: bool


def fences(markdown):
    """The fenced blocks of a text."""
    pattern = r"^(?P<skip><!-- not run: \S.*-->\n+)?```(?P<language>\w+)\n(?P<text>.*?)^```$"
    return [
        Fence(
            match["language"],
            markdown.count("\n", 0, match.start("text")) + 1,
            match["text"],
            match["skip"] is not None,
        )
        for match in re.finditer(pattern, markdown, re.MULTILINE | re.DOTALL)
    ]


def commands(markdown):
    """(line, command) of every `$ ` line in console blocks; a backslash continues a line."""
    for fence in fences(markdown):
        if fence.language == "console":
            joined = fence.text.replace("\\\n", " ")
            for text in re.findall(r"^\$ (.*)$", joined, re.MULTILINE):
                yield fence.line, text


def prose(markdown):
    """(line number, line) of what is wrapped: all but fenced blocks, tables, headings and HTML."""
    fenced = html = False
    for number, line in enumerate(markdown.splitlines(), 1):
        fenced ^= line.lstrip().startswith("```")
        html |= line.startswith("<picture>")
        if not (fenced or html or line.lstrip().startswith(("|", "#", "<", "![", "```"))):
            yield number, line
        html &= not line.startswith("</picture>")


def check_command(text):
    """Refuse a command that does not exist, or an option that it does not take."""
    program, *arguments = shlex.split(text, comments=True)
    if program in SCRIPTS:
        _check_click(importlib.import_module(SCRIPTS[program]).main, arguments, text)
    elif program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {argument for argument in arguments if "=" not in argument} <= set(targets), text
    elif program.startswith("python"):
        assert arguments[0] == "-m", text
        assert importlib.util.find_spec(arguments[1]), text
    else:
        assert program in FOREIGN, f"{text}: is {program!r} a command the reader has?"


def _check_click(command, arguments, text):
    context = click.Context(command)
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        name, *arguments = arguments
        try:
            command = command.get_command(context, name)
        except click.UsageError as error:  # which suggests the nearest
            raise AssertionError(f"{text}: {error.message}") from error
        assert command is not None, f"{text}: there is no command {name!r}"
        context = click.Context(command, parent=context)
    known = {option for parameter in command.get_params(context) for option in parameter.opts}
    known |= {option for parameter in command.get_params(context) for option in parameter.secondary_opts}
    for argument in arguments:
        if re.match(r"--?[a-z]", argument):
            assert argument.partition("=")[0] in known, f"{text}: {command.name} has no {argument}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["README.md", "docs/scoring.md"])
def test_the_python_of_a_document_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "readme"}
    blocks = [fence for fence in fences(DOCUMENTS[name]) if fence.language == "python" and not fence.not_run]
    assert blocks
    for fence in blocks:
        # The empty lines make a traceback name the document's own line.
        code = compile("\n" * (fence.line - 1) + fence.text, name, "exec")
        exec(code, namespace)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(text, id=f"{name}-line{line}-{text[:40]}")
        for name, markdown in DOCUMENTS.items()
        for line, text in commands(markdown)
    ],
)
def test_the_commands_of_the_documents_exist(text):
    check_command(text)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_fence_of_a_document_was_understood(name):
    # A block opened with `~~~`, indented, or never closed would silently not be tested.
    marks = re.findall(r"^\s*(?:```|~~~)", DOCUMENTS[name], re.MULTILINE)
    assert len(marks) == 2 * len(fences(DOCUMENTS[name]))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_links_of_a_document_lead_to_files_and_headings(name):
    places = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset)=\"([^\"]+)\"", DOCUMENTS[name])
    for place in (linked or shown for linked, shown in places):
        path, _, heading = place.partition("#")
        if path.startswith(("http:", "https:")):
            continue
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), f"{name} leads to {place}"
        if heading:
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            # As GitHub makes anchors: lower case, spaces to hyphens, punctuation dropped.
            anchors = [re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in titles]
            assert heading in anchors, f"{name} leads to {place}"


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name != "CHANGELOG.md"])
def test_documents_are_wrapped_at_one_width(name):
    # Code that is longer than a line has a line of its own.
    long = [
        (number, line)
        for number, line in prose(DOCUMENTS[name])
        if len(line) > WIDTH and re.sub(r"`[^`]*`", "", line).strip(" .,:-")
    ]
    assert not long


def test_the_readme_compares_speeds_as_the_committed_run_did():
    # A table that is typed by hand goes on claiming what an older run said.
    ratios = {}
    for row in re.findall(
        r"^\| (\S+) \S+ \|(.*)\|$", (ROOT / "benchmarks/results/peers.md").read_text(), re.M
    ):
        ratios[row[0]] = float(row[1].split("|")[1])
    (tools,) = re.findall(r"^\| \| (pgmetrics .*) \|$", README, re.MULTILINE)
    (times,) = re.findall(r"^\| FID beside other work, time \| (.*) \|$", README, re.MULTILINE)
    shown = dict(zip(tools.split(" | "), map(float, times.split(" | ")), strict=True))
    assert shown == {tool: pytest.approx(ratio, abs=0.051) for tool, ratio in ratios.items()}


def test_the_readme_fits_on_a_few_screens():
    assert README.count("\n") <= 150


# The checks themselves.


def test_fences_are_found_with_their_place():
    text = "a\n```python\nx = 1\n```\n<!-- not run: needs a GPU -->\n```python\ny\n```\n```text\nz\n```\n"
    assert fences(text) == [
        Fence("python", 3, "x = 1\n", False),
        Fence("python", 7, "y\n", True),
        Fence("text", 10, "z\n", False),
    ]


def test_a_command_over_two_lines_is_one():
    text = "```console\n$ make demo\nsome output\n$ make \\\n    test  # all of it\n```\n"
    assert [command.split() for _, command in commands(text)] == [
        ["make", "demo"],
        ["make", "test", "#", "all", "of", "it"],
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        "make tests",
        "conda install pgmetrics",
        "python -m benchmarks.no_such_benchmark",
        "pgmetrics sdw --real a --fake b",
        "pgmetrics swd --reals a --fake b",
        "progan sample run.safetensors --number 3",
    ],
)
def test_a_wrong_command_is_noticed(wrong):
    with pytest.raises(AssertionError, match=re.escape(wrong)):
        check_command(wrong)


@pytest.mark.parametrize(
    "right",
    [
        "make test PYTHON=python3.12",
        "pgmetrics --version",
        "pgmetrics swd --real a.zip --fake progan:run.safetensors,seed=3 --num-images=64",
    ],
)
def test_a_right_command_passes(right):
    check_command(right)
