import re

import made_up
import pytest

from edgepack.report.formats.markdown import to_markdown

HOSTILE = "<script>alert(1)</script>|`x`[a](http://b)\n# *c*"


@pytest.mark.parametrize("name", ["labelled_build", "unlabelled_build"])
def test_markdown_is_as_it_was(golden, name):
    golden(f"{name}.md", to_markdown(*getattr(made_up, name)()))


def test_markdown_of_nothing_is_a_heading():
    assert to_markdown((), ()).startswith("# edgepack report\n")


def test_names_cannot_add_markup():
    text = to_markdown((made_up.result(bundle_name=HOSTILE, target=HOSTILE),), ())
    assert "<script" not in text.replace("\\<script", "")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    pipes = {len(re.findall(r"(?<!\\)\|", line)) for line in rows}
    assert len(rows) == 3
    assert len(pipes) == 1
    assert not any(line.startswith("# ") for line in text.splitlines()[1:])


def test_every_row_of_the_table_has_every_cell():
    text = to_markdown(*made_up.labelled_build())
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) == 1
    assert len(rows) == 2 + 6
