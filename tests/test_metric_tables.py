"""The documents' tables of metrics are what `pgmetrics metrics` prints.

`python -m tests.test_metric_tables` writes them anew, between `<!-- metrics -->` and `<!-- /metrics -->`.
"""

import re
from pathlib import Path

import pytest

from tests.helpers.metric_list import printed

ROOT = Path(__file__).parents[1]
TABLES = {
    "README.md": "title,meaning,better,use,misses",
    "docs/metrics.md": "name,title,needs,errors,source",
    "docs/uncertainty.md": "title,better,errors",
}
PLACE = re.compile(r"(?<=<!-- metrics -->\n\n).*(?=\n<!-- /metrics -->)", re.DOTALL)


def table(columns):
    return printed("--format", "markdown", "--columns", columns)


@pytest.mark.parametrize("name", TABLES)
def test_the_table_of_a_document_is_the_commands(name):
    # Wrong: a number, a direction or a meaning that changed in the code alone.
    (found,) = PLACE.findall((ROOT / name).read_text())
    assert found == table(TABLES[name]), "python -m tests.test_metric_tables writes it anew"


if __name__ == "__main__":
    for name, columns in TABLES.items():
        text = (ROOT / name).read_text()
        (ROOT / name).write_text(PLACE.sub(lambda _, columns=columns: table(columns), text))
