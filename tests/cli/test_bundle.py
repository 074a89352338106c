"""``benchmark`` and ``compare`` as commands, on a small bundle and real engines."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from small_bundles import small_bundle

from edgepack.cli.main import cli
from edgepack.execution import child
from edgepack.specs.build import BuildResult
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


def test_a_second_bundle_that_is_not_there_is_missed_before_the_first_is_measured(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(child, "call", lambda *_, **__: pytest.fail("the first one was measured"))
    done = CliRunner().invoke(cli, ["benchmark", str(bundle), str(tmp_path / "minutes")])
    assert done.exit_code == 2
    assert f"there is no file {tmp_path / 'minutes'}" in done.stderr


@pytest.mark.long
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


# --- reports to programs ----------------------------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path):
    """A folder with what a build and its measurements wrote."""
    import made_up

    from edgepack.base.documents import to_json

    measured, rows = made_up.labelled_build()
    folder = tmp_path / "results"
    folder.mkdir()
    for result in measured:
        (folder / f"{result.target}-{result.precision}.json").write_text(to_json(result))
    (folder / "build.json").write_text(to_json(BuildResult("resnet20", rows, (), "out", None, {}, 1, 0)))
    return folder


def test_a_report_goes_to_stdout_whole(results):
    done = run("report", results, "--out", "-")
    assert done.stdout.startswith("# edgepack report\n")
    assert done.stderr == ""
    assert run("report", results, "-o", "-", "--format", "csv").stdout.startswith("model,")
    assert run("report", results, "-o", "-", "--format", "html").stdout.startswith("<!doctype html>")


def test_what_failed_is_said_beside_a_report_on_stdout(results):
    done = CliRunner().invoke(cli, ["report", str(results), "-o", "-", "--fail-if", "p90 > 1us"])
    assert done.exit_code == 5
    assert "p90 > 1us" not in done.stdout
    assert "p90 > 1us" in done.stderr


def test_a_report_as_json(results, tmp_path):
    done = CliRunner().invoke(
        cli, ["report", str(results), "-o", str(tmp_path / "r.html"), "--json", "--fail-if", "p90 > 1us"]
    )
    assert done.exit_code == 5
    found = json.loads(done.stdout)
    assert found["models"][0]["take"] == "host-openvino int8"
    assert len(found["failed"]) == 4
    assert (tmp_path / "r.html").is_file()


def test_annotations_and_the_summary_of_a_step(results, tmp_path, monkeypatch):
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    words = ["report", str(results), "-o", str(tmp_path / "r.md"), "--github", "--fail-if", "p90 > 1us"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 5
    assert done.stdout.count("::error title=a condition of --fail-if holds::") == 4
    assert summary.read_text().startswith("before\n# edgepack report\n")


def test_an_import_as_json_needs_no_file(tmp_path):
    times = [
        {"startEnqMs": 2.0 * i, "endEnqMs": 2 * i + 0.05, "startH2dMs": 2.0 * i, "endH2dMs": 2 * i + 0.1,
         "startComputeMs": 2 * i + 0.1, "endComputeMs": 2 * i + 1, "startD2hMs": 2.0 * i + 1, "endD2hMs": 2 * i + 1.15,
         "h2dMs": 0.1, "computeMs": 0.9, "d2hMs": 0.15, "latencyMs": 1.15, "enqMs": 0.05}
        for i in range(100)
    ]  # fmt: skip
    (tmp_path / "trt.json").write_text(json.dumps(times))
    done = CliRunner().invoke(cli, ["import", str(tmp_path / "trt.json"), "-t", "rpi5", "-p", "int8", "--json"])
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["target"] == "raspberry-pi-5"


def test_a_signed_result_is_attested_in_its_report(edgepack, tmp_path):
    bundle = small_bundle(tmp_path)
    assert edgepack("keygen", "board", "--out", tmp_path / "keys").code == 0
    out = tmp_path / "result.json"
    words = (
        "--duration",
        "50ms",
        "--warmup",
        "1ms",
        "--launches",
        1,
        "--no-limit",
        "--sign",
        tmp_path / "keys/board.key.pem",
    )
    assert edgepack("benchmark", bundle, *words, "-o", out).code == 0
    public = tmp_path / "keys" / "board.pub.pem"
    ran = edgepack("report", out, "--trusted", public, "-o", tmp_path / "report.html")
    assert "1 of 1 measurements are signed by trusted keys" in ran.err + ran.out
    assert "signed by board" in (tmp_path / "report.html").read_text()
    out.write_text(out.read_text().replace('"target": "test-board"', '"target": "other-board"'))
    ran = edgepack("report", out, "--trusted", public, "-o", tmp_path / "report.html")
    assert "0 of 1 measurements are signed" in ran.err + ran.out
    assert "it is not what board signed" in ran.err + ran.out


def test_a_key_that_cannot_sign_is_said_before_anything_is_measured(edgepack, tmp_path, monkeypatch):
    def measure(*_, **__):
        raise AssertionError("it is measured")

    monkeypatch.setattr("edgepack.cli.measure.measure", measure)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    ran = edgepack("benchmark", small_bundle(tmp_path), "--sign", tmp_path / "none.key.pem")
    assert (ran.code, "there is no file" in ran.err) == (2, True)
    assert edgepack("keygen", "device", "--out", tmp_path / "edgepack").code == 0
    (tmp_path / "edgepack" / "device.key.pem").chmod(0o644)
    ran = edgepack("benchmark", tmp_path / "small.edgepack")
    assert (ran.code, "can be read by other users" in ran.err) == (2, True)
