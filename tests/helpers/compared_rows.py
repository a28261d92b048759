"""Rows whose difference is asked for."""


def row(**given):
    found = {"metric": "swd", "level": 32, "value": 1.0, "stderr": 0.3, "stderr_kind": "images", "seed": 0}
    return {**found, "n_real": 9, "n_fake": 8, **given}
