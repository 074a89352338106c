import dataclasses

import made_up

from edgepack.report.entries import make_groups
from edgepack.report.html.page import to_html
from edgepack.report.text.trials import HEADINGS, tried
from edgepack.specs.build import Trial

TRIALS = (
    Trial((), "top1", 0.8421, 0.0311, 9.1, 0.0, front=True),
    Trial(tuple(f"/layer{i}" for i in range(6)), "top1", 0.8688, 0.0044, 18.2, 0.2, 3_100_000, passed=True, front=True),
)


def build():
    results, rows = made_up.labelled_build()
    return results, (rows[0], dataclasses.replace(rows[1], trials=TRIALS), *rows[2:])


def test_every_trial_has_its_figures_and_verdict():
    (group,) = make_groups(*build())
    (found,) = tried(group.entries)
    assert found.label == "host-openvino int8"
    assert all(len(row) == len(HEADINGS) for row in found.rows)
    assert found.rows[0] == ("nothing", "0.0", "84.21 %", "+3.11", "9.10", "–", "not enough, on the front")  # noqa: RUF001
    assert found.rows[1][0] == "/layer0, /layer1, /layer2, /layer3 and 2 more"
    assert found.rows[1][-2:] == ("3.10 ms", "passed, on the front")


def test_the_page_shows_them_and_only_where_there_are_any():
    assert "What was tried for host-openvino int8" in to_html(*build())
    assert "What was tried" not in to_html(*made_up.labelled_build())


def test_names_of_layers_are_text():
    results, rows = made_up.labelled_build()
    hostile = dataclasses.replace(TRIALS[0], left=("<img src=x onerror=alert(1)>",), metric="<b>")
    page = to_html(results, (dataclasses.replace(rows[0], trials=(hostile,)),))
    assert "<img" not in page
    assert "<b>&" not in page
