import dataclasses
import json
import re
from html.parser import HTMLParser

import made_up
import pytest

from edgepack.report.html.page import to_html, write_report

pytestmark = pytest.mark.slow

VOID = {"meta", "link", "br", "input", "circle", "polygon", "path"}
SCRIPT = "<script>alert(1)</script>"


class Checker(HTMLParser):
    """Checks that elements nest, and collects what a test asks about."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.wrong, self.tags, self.attributes = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def checked(page):
    checker = Checker()
    checker.feed(page)
    assert checker.wrong == []
    assert checker.open == []
    return checker


@pytest.fixture(scope="module")
def labelled():
    return to_html(*made_up.labelled_build())


def fragment(page, start, end):
    return page[page.index(start) : page.index(end, page.index(start)) + len(end)] + "\n"


def test_the_table_is_as_it_was(golden, labelled):
    golden("labelled_build.table.html", fragment(labelled, '<table class="rows', "</table>"))


def test_the_answer_is_as_it_was(golden, labelled):
    golden("labelled_build.answer.html", fragment(labelled, '<div class="pick"', "</form>"))
    page = to_html(*made_up.unlabelled_build())
    golden("unlabelled_build.answer.html", fragment(page, '<div class="pick"', "</form>"))


def test_the_plot_is_as_it_was(golden, labelled):
    golden("labelled_build.svg", fragment(labelled, '<svg viewBox="0 0 520', "</svg>").replace("><", ">\n<"))


@pytest.mark.parametrize("build", ["labelled_build", "unlabelled_build", "full_build", "many"])
def test_elements_nest(build):
    checked(to_html(*getattr(made_up, build)()))


def test_the_same_results_give_the_same_bytes(labelled):
    assert to_html(*made_up.labelled_build()) == labelled


def test_nothing_is_asked_from_the_network(labelled):
    checker = checked(labelled)
    links = [
        (tag, name, value) for tag, name, value in checker.attributes if name in ("href", "src", "action", "srcset")
    ]
    ids = {value for _, name, value in checker.attributes if name == "id"}
    assert {value for _, _, value in links} == {"data:,", "#main", "#row-1-4", "#row-1-5"}
    assert {value[1:] for _, _, value in links if value.startswith("#")} <= ids
    assert "url(" not in labelled
    assert "@import" not in labelled
    assert "default-src 'none'" in labelled
    assert not re.search(r"https?://", labelled)


def test_only_the_pages_own_script_may_run(labelled):
    import base64
    import hashlib

    script = labelled[labelled.rindex("<script>") + 8 : labelled.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in labelled


def hostile_build():
    results, rows = made_up.labelled_build()
    text = f"{SCRIPT}\"'&lt;</style></svg>--><!--]]>"
    host = dataclasses.replace(made_up.HOST, cpu=text, isa=(text,))
    names = {"bundle_name": text, "target": text, "engine": text, "versions": {text: text}, "host": host}
    words = {"notes": (text,), "invalid_reasons": (text,), "valid": False, "energy_source": text}
    results = tuple(dataclasses.replace(r, **names, **words) for r in results)
    row = {"target": text, "bundle": text, "notes": {text: text}, "model": text}
    rows = tuple(
        dataclasses.replace(
            r,
            **row,
            reason=text if r.status != "ok" else None,
            accuracy=dataclasses.replace(r.accuracy, metric=text) if r.accuracy else None,
        )
        for r in rows
    )
    return results, rows


def test_hostile_names_are_text():
    page = to_html(*hostile_build())
    checker = checked(page)
    assert checker.tags.count("script") == 2
    assert checker.tags.count("style") == 1
    assert SCRIPT not in page
    assert "<!--" not in page
    assert not [1 for _, name, _ in checker.attributes if name.startswith("on")]


def test_the_data_of_the_script_is_json_that_cannot_end_its_element():
    page = to_html(*hostile_build())
    data = page[page.index('class="data">') + 13 :]
    data = data[: data.index("</script>")]
    assert "<" not in data
    assert SCRIPT in json.loads(data)["entries"][0]["name"]


def test_hostile_layers_are_text():
    text = f"{SCRIPT}\"'&lt;</svg>--><!--"
    results, rows = made_up.full_build()
    limits = [
        r.limit
        and dataclasses.replace(
            r.limit,
            layers=tuple(dataclasses.replace(x, name=text, operator=text, reason=text) for x in r.limit.layers),
            costliest=(text,),
            roof=dataclasses.replace(
                r.limit.roof, peaks=tuple(dataclasses.replace(p, kernel=text) for p in r.limit.roof.peaks)
            ),
        )
        for r in results
    ]
    page = to_html(tuple(dataclasses.replace(r, limit=x) for r, x in zip(results, limits, strict=True)), rows)
    assert checked(page).tags.count("script") == 2
    assert SCRIPT not in page
    assert "<!--" not in page


def test_five_hundred_results_stay_below_two_megabytes():
    results, rows = made_up.many()
    assert (len(results), len({r.target for r in results})) == (500, 40)
    assert len(to_html(results, rows).encode()) < 2_000_000


def test_rows_alone_make_sense():
    _, rows = made_up.labelled_build()
    plain = tuple(
        dataclasses.replace(
            r, latency_ns=None, speedup_over_fp32=None, speedup_ci95=None, notes={"latency": "not asked"}
        )
        for r in rows
    )
    page = to_html((), plain)
    checked(page)
    assert "None of the 3 devices was measured, so none can be recommended." in page
    assert "Latency: not asked" in page


def test_without_labels_the_page_says_that_accuracy_was_not_measured():
    page = to_html(*made_up.unlabelled_build())
    assert "Accuracy was not measured: no labels." in page
    assert "(n = 200)" in page


def test_nothing_makes_a_page_that_says_so():
    page = to_html((), ())
    checked(page)
    assert "Nothing to report" in page


def test_several_models_have_a_section_each():
    page = to_html((made_up.result(), made_up.result(bundle_name="lite0")), ())
    assert page.count('<section class="model') == 2
    assert "<h1>2 models</h1>" in page
    overview = fragment(page, '<section class="block wide overview"', "</section>")
    assert overview.count("<tr data-model=") == 2
    assert '<a href="#model-2">resnet20</a>' in overview


def test_the_overview_counts_the_rows_that_were_built():
    results, rows = made_up.labelled_build()
    page = to_html((*results, made_up.result(bundle_name="lite0")), rows)
    overview = fragment(page, '<section class="block wide overview"', "</section>")
    assert re.findall(r"(\d+) of (\d+)</td>", overview) == [("5", "5"), ("1", "1")]


def test_the_page_is_written_whole(tmp_path):
    out = tmp_path / "new" / "report.html"
    write_report(*made_up.labelled_build(), out)
    assert out.read_text().startswith("<!doctype html>")
    assert [p.name for p in out.parent.iterdir()] == ["report.html"]


def test_names_do_not_turn_the_page_around():
    """Characters that turn the direction of text stand as their numbers, in the page and in its script's data."""
    results = (made_up.result(target="safe\u202eexe", bundle_name="\u2066net"),)
    page = to_html(results, ())
    assert not set(page) & set("\u202e\u2066")
    assert r"safe\u202eexe" in page
    assert '"name":"safe\\\\u202eexe fp32"' in page, "what the script reads has the number, too"
