"""`python -m reference_models.progan.cli` is the command `progan`, as torchrun starts it."""

from reference_models.progan.cli import main

main(prog_name="progan")
