"""Results of other tools.

``recorded/`` holds what benchmark_app 2026.4.1 and LoadGen 6.0.17 wrote on a busy x86-64 machine (paths taken out, of
LoadGen's detail log six lines kept). trtexec cannot run without NVIDIA's GPU: its file is made here after the fields of
TensorRT's samples (samples/common/sampleReporting.cpp), and no TensorRT was asked.
"""

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from simulated import HOST
from small_bundles import small_bundle

from edgepack.base import documents
from edgepack.benchmark.imported import Of, import_result, unknown_host
from edgepack.bundle.archive import open_bundle
from edgepack.cli.main import cli
from edgepack.errors import ConfigError, StorageError
from edgepack.report.entries import make_groups
from edgepack.report.entries.choice import Limits, choose
from edgepack.specs.result import Result

RECORDED = Path(__file__).parent / "recorded"
OF = Of("net", "board", "fp32", HOST)


def trtexec_times(count=700, every_ms=None):
    """Records as ``--exportTimes`` writes them, in ms: 1.75 ms each; every tenth takes 5 ms more.

    One begins 0.25 ms after the end of the one before, or ``every_ms``.
    """
    items, start = [], 0.0
    for i in range(count):
        compute = 1.5 + 5.0 * (i % 10 == 0)
        items.append(
            {
                "startEnqMs": start, "endEnqMs": start + 0.05, "startH2dMs": start, "endH2dMs": start + 0.1,
                "startComputeMs": start + 0.1, "endComputeMs": start + 0.1 + compute,
                "startD2hMs": start + 0.1 + compute, "endD2hMs": start + 0.25 + compute,
                "h2dMs": 0.1, "computeMs": compute, "d2hMs": 0.15, "latencyMs": 0.25 + compute,
            }
        )  # fmt: skip
        start += 0.5 + compute if every_ms is None else every_ms
    return items


def written(folder, data):
    path = folder / "times.json"
    path.write_text(json.dumps(data))
    return path


# --- benchmark_app ----------------------------------------------------------------------------------------------------


def test_benchmark_app_with_one_request_is_single_stream():
    found = import_result(RECORDED / "benchmark_app_latency.json", OF)
    assert (found.scenario.name, found.engine, found.queries) == ("SingleStream", "openvino", 444)
    assert found.duration_ns == 2_002_290_000
    (median,) = found.percentiles
    assert (median.p, median.value_ns, median.ci95_ns) == (50.0, 790_000, None)
    assert found.samples_per_second == 221.75
    assert found.imported.tool == "benchmark_app"
    assert found.latencies_ns == ()
    assert any("whether the machine was quiet is not known" in note for note in found.notes)


def test_benchmark_app_with_several_requests_is_offline():
    found = import_result(RECORDED / "benchmark_app_throughput.json", OF)
    assert (found.scenario.name, found.options.hint) == ("Offline", "throughput")
    assert found.samples_per_second == 544.27


def test_a_median_of_too_few_iterations_is_left_out(tmp_path):
    data = json.loads((RECORDED / "benchmark_app_latency.json").read_text())
    data["execution_results"]["total number of iterations"] = "8"
    (median,) = import_result(written(tmp_path, data), OF).percentiles
    assert median.value_ns is None
    assert median.queries_needed > 8


def test_another_percentile_is_not_called_the_median(tmp_path):
    data = json.loads((RECORDED / "benchmark_app_latency.json").read_text())
    data["cmd_options"] |= {"-latency_percentile": "90", "-nthreads": "2"}
    found = import_result(written(tmp_path, data), OF)
    assert [p.p for p in found.percentiles] == [90.0]
    assert found.options.threads == 2


@pytest.mark.slow
def test_what_benchmark_app_writes_here_is_read(tmp_path):
    program = shutil.which("benchmark_app", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("benchmark_app is not installed beside this Python")
    from small_bundles import small_onnx

    model = small_onnx(tmp_path / "model.onnx")
    words = ["-m", str(model), "-d", "CPU", "-hint", "latency", "-t", "1", "-shape", "[1,3,8,8]", "-json_stats"]
    done = subprocess.run(
        [program, *words, "-report_type", "no_counters", "-report_folder", str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = import_result(tmp_path / "benchmark_report.json", OF)
    assert found.scenario.name == "SingleStream"
    assert found.queries > 0
    assert f"{found.samples_per_second:.2f} FPS" in done.stdout


@pytest.mark.parametrize(
    ("words", "api", "hint", "said"),
    [
        ({}, "async", "throughput", "no hint was given, for which benchmark_app takes throughput"),
        ({}, "sync", "latency", "no hint was given, for which benchmark_app takes latency"),
        ({"-hint": "tput"}, "async", "throughput", None),
        ({"-hint": "cumulative_throughput"}, "async", "throughput", "the hint was cumulative_throughput"),
        ({"-hint": "none"}, "async", "latency", "no hint was given to the engine"),
        ({"-hint": "latency"}, "async", "latency", None),
        ({"-load_config": "x.json"}, "async", "throughput", "options from a configuration file were not recorded"),
    ],
)
def test_the_hint_of_benchmark_app_is_the_one_that_it_took(tmp_path, words, api, hint, said):
    data = json.loads((RECORDED / "benchmark_app_throughput.json").read_text())
    data["cmd_options"].pop("-hint")
    data["cmd_options"] |= words
    data["configuration_setup"]["API"] = api
    found = import_result(written(tmp_path, data), OF)
    assert found.options.hint == hint
    hints = [note for note in found.notes if "hint" in note or "configuration" in note]
    assert said in hints if said else hints == []


# --- trtexec ----------------------------------------------------------------------------------------------------------


def test_trtexec_gives_every_latency_and_so_intervals(tmp_path):
    found = import_result(written(tmp_path, trtexec_times()), OF)
    values = {p.p: p for p in found.percentiles}
    assert (values[50.0].value_ns, values[99.0].value_ns) == (1_750_000, 6_750_000)
    assert values[50.0].ci95_ns is not None
    assert values[99.9].value_ns is None
    assert (found.engine, found.queries, len(found.latencies_ns)) == ("tensorrt", 700, 700)
    assert found.scenario.name == "SingleStream"
    assert found.samples_per_second == pytest.approx(700 / 1.74975, rel=1e-6)


@pytest.mark.parametrize(("every_ms", "overlapping"), [(0.5, 699), (1.74, 699), (2.0, 210)])
def test_overlapping_queries_of_trtexec_are_throughput_and_no_latency_of_single_samples(
    tmp_path, every_ms, overlapping
):
    """At 2 ms each, the one of 6.75 ms is still running when the next three begin."""
    found = import_result(written(tmp_path, trtexec_times(every_ms=every_ms)), OF)
    assert (found.scenario.name, found.scenario.batch) == ("Offline", 1)
    assert any(f"{overlapping} of 700 queries began before another had ended" in note for note in found.notes)
    group = make_groups([found], [])[0]
    assert choose(group.entries, Limits()).best is None


def test_queries_that_touch_but_for_rounding_do_not_overlap(tmp_path):
    items = trtexec_times(40, every_ms=1.75)
    for item in items[::10]:
        item |= {"endComputeMs": item["startComputeMs"] + 1.5, "endD2hMs": item["startH2dMs"] + 1.7504}
    assert import_result(written(tmp_path, items), OF).scenario.name == "SingleStream"


def test_records_in_another_order_than_they_began_are_judged_by_time(tmp_path):
    items = trtexec_times(40)
    assert import_result(written(tmp_path, items[::-1]), OF).scenario.name == "SingleStream"


def test_a_batch_of_trtexec_counts_as_that_many_samples(tmp_path):
    path = written(tmp_path, trtexec_times())
    found = import_result(path, Of("net", "board", "fp16", HOST, batch=8))
    assert (found.scenario.name, found.scenario.batch) == ("Offline", 8)
    assert found.samples_per_second == pytest.approx(8 * import_result(path, OF).samples_per_second)


# --- LoadGen ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scenario", "queries", "rate", "known"),
    [
        ("SingleStream", 887, 891.82, {50.0, 90.0, 95.0, 97.0, 99.0}),
        ("MultiStream", 200, 8e9 / 5903525, {50.0, 90.0, 95.0}),
        ("Server", 288, 282.64, {50.0, 90.0, 95.0, 97.0}),
        ("Offline", 1, 2333.46, set()),
    ],
)
def test_loadgens_logs(scenario, queries, rate, known):
    found = import_result(RECORDED / f"loadgen_{scenario}", OF)
    assert (found.scenario.name, found.queries) == (scenario, queries)
    assert found.samples_per_second == pytest.approx(rate)
    assert {p.p for p in found.percentiles if p.value_ns is not None} == known
    assert found.imported.version.startswith("6.0.17")
    assert found.measured_at.startswith("2026-")
    assert any("not an MLPerf result" in note for note in found.notes)


def test_what_loadgen_calls_invalid_is_invalid_with_its_reasons():
    assert import_result(RECORDED / "loadgen_SingleStream", OF).valid
    found = import_result(RECORDED / "loadgen_Server", OF)
    assert found.invalid_reasons == ("LoadGen calls it invalid: not satisfied are Early stopping",)
    assert found.scenario.latency_bound_ns == 20_000_000


def summary(change=lambda text: text):
    return change((RECORDED / "loadgen_SingleStream" / "mlperf_log_summary.txt").read_text())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.replace("No errors", "3 ERRORS"), "LoadGen logged 3 errors: see its detailed log"),
        (lambda t: t.replace("No errors", "1 ERROR"), "LoadGen logged 1 error: see its detailed log"),
        (lambda t: t.replace("Result is : VALID", ""), "the run was stopped"),
        (lambda t: t.replace("duration satisfied : Yes", "duration satisfied : NO"), "not satisfied are Min duration"),
        (lambda t: t.replace("PerformanceOnly", "AccuracyOnly"), "'AccuracyOnly', which is not one of performance"),
    ],
)
def test_a_run_of_loadgen_that_went_wrong_is_invalid_whatever_it_is_called(tmp_path, change, reason):
    path = tmp_path / "mlperf_log_summary.txt"
    path.write_text(summary())
    assert import_result(path, OF).valid
    path.write_text(summary(change))
    found = import_result(path, OF)
    assert not found.valid
    assert any(reason in text for text in found.invalid_reasons), found.invalid_reasons


def test_errors_in_loadgens_detail_log_count_too(tmp_path):
    shutil.copytree(RECORDED / "loadgen_SingleStream", tmp_path / "run")
    record = {"key": "error_runtime", "value": "no sample", "metadata": {"is_error": True, "is_warning": False}}
    with (tmp_path / "run" / "mlperf_log_detail.txt").open("a") as log:
        log.write(f":::MLLOG {json.dumps(record)}\n" * 2)
    assert import_result(tmp_path / "run", OF).invalid_reasons == ("LoadGen logged 2 errors: see its detailed log",)


def test_the_scenario_as_older_versions_spell_it(tmp_path):
    path = tmp_path / "mlperf_log_summary.txt"
    path.write_text(summary(lambda text: text.replace(": SingleStream", ": Single Stream")))
    assert import_result(path, OF).scenario.name == "SingleStream"


def test_a_summary_alone_is_enough(tmp_path):
    shutil.copy(RECORDED / "loadgen_SingleStream" / "mlperf_log_summary.txt", tmp_path)
    found = import_result(tmp_path / "mlperf_log_summary.txt", OF)
    assert (found.queries, found.imported.version) == (887, "not recorded")


# --- what is wrong ----------------------------------------------------------------------------------------------------


def app(**changes):
    data = json.loads((RECORDED / "benchmark_app_latency.json").read_text())
    data["execution_results"] |= changes
    return data


def times(**changes):
    items = copy.deepcopy(trtexec_times(3))
    items[1] |= changes
    return items


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (app(**{"latency (ms)": "-1"}), "which is not valid"),
        (app(**{"latency (ms)": "fast"}), "which is not valid"),
        (app(throughput="inf"), "which is not valid"),
        (app(**{"total number of iterations": None}), "which is not valid"),
        (app(**{"total execution time (ms)": "1e300"}), "which is not valid"),
        (app(**{"latency (ms)": "1e10"}), "which is not valid"),
        (times(latencyMs=1e13), "which is not valid"),  # no int64 in ns: it became a negative latency
        (times(endD2hMs=1e14), "which is not valid"),
        (times(latencyMs="x"), "latencyMs is 'x'"),
        (times(latencyMs=True), "which is not valid"),
        (times(endD2hMs=None), "endD2hMs"),
        ([], "not a measurement"),
        ({"execution_results": 5}, "not a measurement"),
        ([{"latencyMs": 1}, {}], "not a measurement"),
        ([{"latencyMs": 1.0, "startComputeMs": 5, "endComputeMs": 5}], "end before they begin"),
        ({"bundle_sha256": "x"}, "not a measurement"),
    ],
)
def test_numbers_that_are_none_are_refused(tmp_path, data, words):
    with pytest.raises(ConfigError, match=words) as caught:
        import_result(written(tmp_path, data), OF)
    assert "benchmark_app" in caught.value.hint


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 100_000, b"\xff\xfe\x00", b'{"a": NaN}', b"MLPerf Results Summary"])
def test_files_that_are_none_are_refused(tmp_path, text):
    path = tmp_path / "file"
    path.write_bytes(text)
    with pytest.raises(ConfigError):
        import_result(path, OF)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("99.00 percentile latency (ns)", "9.9.9 percentile latency (ns)"),
        ("Mean latency (ns)", "Mean latency (ns) : 0\nmean"),
        ("QPS w/o loadgen overhead", "QPS w/o loadgen overhead : e+e\nqps"),
        ("Min latency (ns)", "processed " + "9" * 5000 + " queries\nmin"),
        ("Min latency (ns)", " " * 100_000 + "\n" * 100_000 + "x" * 100_000 + "\nmin"),
    ],
    ids=["no percentile", "no mean", "no rate", "no count", "blanks"],
)
@pytest.mark.timeout(20)
def test_lines_of_a_summary_that_say_nothing_are_passed_over(tmp_path, old, new):
    path = tmp_path / "mlperf_log_summary.txt"
    assert old in summary()
    path.write_text(summary(lambda text: text.replace(old, new)))
    assert import_result(path, OF).scenario.name == "SingleStream"


@pytest.mark.parametrize(
    "line", ["90.00 percentile latency (ns)   : 9" + "0" * 17, "QPS w/o loadgen overhead        : 9e99"]
)
def test_numbers_of_a_summary_that_nothing_has_are_refused(tmp_path, line):
    path = tmp_path / "mlperf_log_summary.txt"
    path.write_text(f"{summary()}\n{line}\n")
    with pytest.raises(ConfigError, match="which is not valid"):
        import_result(path, OF)


@pytest.mark.timeout(20)
def test_a_detailed_log_that_is_no_file_or_says_what_it_must_not(tmp_path):
    shutil.copy(RECORDED / "loadgen_SingleStream" / "mlperf_log_summary.txt", tmp_path)
    detail = tmp_path / "mlperf_log_detail.txt"
    os.mkfifo(detail)
    assert any("mlperf_log_detail.txt was not read" in note for note in import_result(tmp_path, OF).notes)
    detail.unlink()
    detail.write_text(':::MLLOG {"key": "errors that were logged", "value": "none", "metadata": {"is_error": true}}\n')
    assert import_result(tmp_path, OF).invalid_reasons == ("LoadGen logged 1 error: see its detailed log",)


@pytest.mark.parametrize("p", ["99.9999999999999999", "100", "1e-300", "99.99999999999"])
def test_a_percentile_that_no_number_of_queries_supports_is_left_out(tmp_path, p):
    data = app()
    data["cmd_options"]["-latency_percentile"] = p
    assert all(found.value_ns is None for found in import_result(written(tmp_path, data), OF).percentiles)


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(StorageError, match="cannot be read"):
        import_result(tmp_path / "absent.json", OF)
    with pytest.raises(StorageError, match="mlperf_log_summary"):
        import_result(tmp_path, OF)


def test_text_that_would_act_on_a_terminal_is_not_kept(tmp_path):
    data = app()
    data["configuration_setup"]["target device"] = "GPU\x1b[31m"
    assert import_result(written(tmp_path, data), OF).engine == "openvino GPU?[31m"


# --- the command ------------------------------------------------------------------------------------------------------


def test_an_imported_result_is_reported_beside_others(tmp_path):
    bundle = small_bundle(tmp_path)
    words = ["import", str(RECORDED / "benchmark_app_latency.json"), "--bundle", str(bundle), "--cpu", "Some Board"]
    done = CliRunner().invoke(cli, [*words, "-o", str(tmp_path / "results" / "app.json")])
    assert done.exit_code == 0, done.stderr
    found = documents.from_json(Result, (tmp_path / "results" / "app.json").read_text(), "x")
    assert found.bundle_sha256 == open_bundle(bundle).sha256
    assert (found.bundle_name, found.target, found.host) == ("small", "test-board", unknown_host("Some Board"))
    done = CliRunner().invoke(cli, ["report", str(tmp_path / "results"), "--out", str(tmp_path / "report.md")])
    assert done.exit_code == 0, done.stderr
    assert "test-board" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "target and precision of the measurement are unknown"),
        (["--target", "board"], "target and precision of the measurement are unknown"),
        (["--target", "b", "--precision", "fp32", "--here", "--cpu", "x"], "--here and --cpu cannot be used together"),
        (["--bundle", "x.edgepack", "--target", "b"], "--bundle cannot be used with --name"),
    ],
)
def test_what_is_not_said_is_asked_for(words, said, tmp_path):
    out = tmp_path / "r.json"
    done = CliRunner().invoke(cli, ["import", str(RECORDED / "benchmark_app_latency.json"), *words, "-o", str(out)])
    assert done.exit_code == 2
    assert said in done.stderr
    assert not out.exists()
