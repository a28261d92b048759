"""`python -m pgmetrics` is the `pgmetrics` command."""

from pgmetrics.cli import main

main(prog_name="pgmetrics")
