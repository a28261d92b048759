"""The list of metrics as the command prints it."""

from click.testing import CliRunner

from pgmetrics.cli import main


def printed(*arguments):
    """Standard output of `pgmetrics metrics ARGUMENTS`."""
    done = CliRunner().invoke(main, ["metrics", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout
