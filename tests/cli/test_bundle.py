"""``benchmark`` and ``compare`` as commands, on a small bundle and real engines."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from small_bundles import small_bundle

from edgepack.cli.main import cli
from edgepack.specs.run import Verification

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("device"))


def run(*words):
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert done.exit_code == 0, done.stderr
    return done


def test_loadgen_drives_the_same_runner(bundle):
    pytest.importorskip("mlperf_loadgen", reason="mlcommons-loadgen is not installed")
    words = ["--duration", "200ms", "--warmup", "20ms", "--threads", "1", "--loadgen", "--json"]
    found = json.loads(run("benchmark", bundle, *words).stdout)
    assert any("driven by MLCommons' LoadGen" in note for note in found["notes"])
    assert found["percentiles"][0]["value_ns"] > 0
    assert found["percentiles"][0]["ci95_ns"] is None


def test_several_are_each_compared_with_the_first(bundle, tmp_path):
    other = small_bundle(tmp_path, name="other")
    words = ["--duration", "1s", "--threads", "1", "--json"]
    done = run("compare", bundle, other, bundle, *words)
    found = json.loads(done.stdout)
    assert [(one["a"]["bundle"], one["b"]["bundle"]) for one in found] == [
        ("small.edgepack", "other.edgepack"),
        ("small.edgepack", "small.edgepack"),
    ]
    assert all(one["ci95"][0] <= one["ratio"] <= one["ci95"][1] for one in found)
    assert "both are the same bundle" in done.stderr
    for one in found:
        assert ("undecided at this level of noise" in done.stderr) or one["verdict"] != "undecided"


def test_every_document_has_a_schema():
    from edgepack.cli.json_schema import DOCUMENTS
    from edgepack.cli.tools import _DOCUMENTS

    assert set(_DOCUMENTS) == set(DOCUMENTS)
    schema = json.loads(run("schema", "tuning").stdout)
    assert "payload_sha256" in json.dumps(schema)


def test_verify_that_fails_ends_with_5(bundle, monkeypatch):
    import edgepack.runtime.limited as module
    from edgepack.runtime.verify import verify

    good = verify(bundle)
    bad = Verification(False, good.outputs, 2, "x", {"x": "1"}, (), "why")
    monkeypatch.setattr(module, "verify_within", lambda *_: bad)
    done = CliRunner().invoke(cli, ["verify", str(bundle), "--json"])
    assert done.exit_code == 5
    assert json.loads(done.stdout)["passed"] is False
    assert "not verified" in done.stderr
    assert "why" in done.stderr


def test_several_results_are_not_written_to_a_file(bundle, tmp_path):
    other = small_bundle(tmp_path, name="other")
    (tmp_path / "file").write_text("")
    words = ["--duration", "100ms", "--warmup", "10ms", "--launches", "1", "--no-limit", "--out", tmp_path / "file"]
    done = CliRunner().invoke(cli, [str(word) for word in ("benchmark", bundle, other, *words)])
    assert done.exit_code == 2
    assert "is a file, and there are 2 results" in done.stderr
