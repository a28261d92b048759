"""Rows of results, as an evaluation gives them, and files of them that somebody wrote."""

import json


def row(metric="swd", level=None, value=0.005, **others):
    one_set = metric == "ms-ssim"
    defaults = {
        "run": "run-a",
        "subject": "fake",
        "metric": metric,
        "level": level,
        "value": value,
        "stderr": 0.0001,
        "stderr_kind": "pairs" if one_set else "directions",
        "n_real": None if one_set else 2048,
        "n_fake": 2048,
        "seed": 0,
        "protocol": "karras2018",
    }
    return {**defaults, **others}


def scored(scale=1.0, **others):
    """Two levels, their mean and MS-SSIM, as an evaluation gives them."""
    return (
        row(level=32, value=0.004 * scale, **others),
        row(level=16, value=0.002 * scale, **others),
        row(value=0.003 * scale, **others),
        row("ms-ssim", value=0.25, stderr=None, stderr_kind=None, **others),
    )


def cells(line):
    """The columns of a printed line: they stand at least two spaces apart."""
    return [cell.strip() for cell in line.split("  ") if cell.strip()]


def file_of(path, provenance, **changes):
    content = {"results": [{**row(), **changes}], "provenance": provenance}
    path.write_text(json.dumps(content))
    return path
