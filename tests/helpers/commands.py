"""The two commands, called as a shell would call them."""

import json

from click.testing import CliRunner

from pgmetrics.cli import main as _pgmetrics
from reference_models.progan.cli import main as _progan


def pgmetrics(*arguments):
    """`pgmetrics ARGUMENTS`: exit code and both streams."""
    return CliRunner().invoke(_pgmetrics, [str(argument) for argument in arguments])


def progan(*arguments):
    """`progan ARGUMENTS`."""
    return CliRunner().invoke(_progan, [str(argument) for argument in arguments])


def call(command, *arguments):
    """One command by itself, on the CPU; its refusal stays an exception."""
    return CliRunner().invoke(command, [str(a) for a in (*arguments, "--device", "cpu")])


def read(result):
    """The rows of the JSON that a command printed, by subject and metric."""
    assert result.exit_code == 0, result.output
    return {(row["subject"], row["metric"]): row for row in json.loads(result.stdout)["results"]}
