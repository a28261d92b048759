"""A package, since torch-fidelity installs one of this name, which would be found instead."""
