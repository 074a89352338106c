import dataclasses

import made_up
from click.testing import CliRunner

from edgepack.base import documents
from edgepack.cli.main import cli
from edgepack.report.entries import make_groups
from edgepack.report.entries.merging import bundles_apart, kept_apart
from edgepack.report.formats.markdown import to_markdown
from edgepack.report.html.page import to_html


def test_nothing_is_said_of_one_build():
    groups = make_groups(*made_up.labelled_build())
    assert kept_apart(groups) == ()
    assert bundles_apart(groups[0]) == ()


def test_one_name_for_two_models_is_said():
    other = made_up.result(source_sha256="f" * 64, bundle_sha256="e" * 64)
    (said,) = kept_apart(make_groups((made_up.result(), other), ()))
    assert said.startswith("2 different models are called resnet20")
    assert "ffffffffffff" in said


def test_two_names_for_one_model_are_said():
    one, other = made_up.result(), made_up.result(bundle_name="renamed", source_sha256=made_up.result().source_sha256)
    (said,) = kept_apart(make_groups((one, other), ()))
    assert said.startswith("renamed and resnet20 were built from one and the same model")


def test_bundles_of_two_builds_of_one_model_are_said():
    one, other = made_up.result(precision="int8"), made_up.result(precision="int8", bundle_sha256="e" * 64)
    (group,) = make_groups((one, other), ())
    (said,) = bundles_apart(group)
    assert said.startswith("host-openvino int8: the rows are of 2 different bundles")
    assert "eeeeeeeeeeee" in said


def test_files_of_other_machines_merge_in_one_folder_and_models_that_differ_are_kept_apart(tmp_path):
    """Two machines measured one bundle, a third another model of the same name."""
    machines = (
        made_up.result(),
        made_up.result(host=made_up.other_host("Other CPU"), median_ms=9.0),
        made_up.result(source_sha256="f" * 64, bundle_sha256="e" * 64, host=made_up.other_host("Third CPU")),
    )
    for i, found in enumerate(machines):
        (tmp_path / f"from-machine-{i}.json").write_text(documents.to_json(found))
    outs = ["report.html", "report.md", "report.csv"]
    words = ["report", str(tmp_path), *(w for out in outs for w in ("--out", str(tmp_path / "out" / out)))]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count('<section class="model') == 2
    assert page.count("2 different models are called resnet20") == 1
    assert "2 different models are called resnet20" in (tmp_path / "out" / "report.md").read_text()
    assert (tmp_path / "out" / "report.csv").read_text().count("resnet20") == 3


def test_pages_say_it(tmp_path):
    one, other = made_up.result(precision="int8"), made_up.result(precision="int8", bundle_sha256="e" * 64)
    for text in (to_html((one, other), ()), to_markdown((one, other), ())):
        assert "the rows are of 2 different bundles" in text.replace("\\", "")


def test_the_metric_of_most_rows_is_compared_and_another_is_said(tmp_path):
    top1 = [made_up.result("a", p, accuracy=made_up.measured(made_up.accuracy())) for p in ("fp32", "int8")]
    f1 = made_up.result("b", "int8", accuracy=made_up.measured(made_up.accuracy(0.5, 0.6, metric="score:f1")))
    (group,) = make_groups((*top1, f1), ())
    assert [e.accuracy and e.accuracy.metric for e in group.entries] == ["top1", "top1", None]
    page = to_html((*top1, f1), ())
    assert "something else was measured (score:f1), which cannot be compared with the others" in page
    assert group.entries[2].other_accuracy.value == 0.5


def test_agreement_with_fp32_is_never_compared_with_accuracy_by_labels(tmp_path):
    by_labels = [made_up.result("a", p, accuracy=made_up.measured(made_up.accuracy())) for p in ("fp32", "int8")]
    own = dataclasses.replace(made_up.accuracy(0.97, 1.0), truth="fp32")
    by_fp32 = made_up.result("b", "int8", accuracy=made_up.measured(own))
    (group,) = make_groups((*by_labels, by_fp32), ())
    assert [e.accuracy and e.accuracy.truth for e in group.entries] == ["labels", "labels", None]
    page = to_html((*by_labels, by_fp32), ())
    assert "something else was measured (agreement with fp32 by top-1 accuracy), which cannot be compared" in page
    assert "Agreement with fp32 by top-1 accuracy" in to_html((by_fp32,), ())
