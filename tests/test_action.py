"""The GitHub action: its script with the environment that a runner sets, on real small builds.

What a runner does is played here: it reads the workflow commands on stdout, and the files for outputs and summary.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from small_bundles import onnx_outputs, small_onnx

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "action" / "run.py"


@dataclass(frozen=True)
class Job:
    """What a runner knows after a step: annotations as (kind, title, text), the outputs and the summary."""

    code: int
    annotations: tuple[tuple[str, str, str], ...]
    outputs: dict[str, str]
    summary: str
    log: str

    def of(self, kind: str) -> list[tuple[str, str]]:
        return [(title, text) for found, title, text in self.annotations if found == kind]


def run_step(folder: Path, word: str = "build", **inputs: str) -> Job:
    """Run the script as a step of a job whose workspace is ``folder``."""
    files = {name: folder / name.lower() for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_ENV")}
    for path in files.values():
        path.write_text("")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("INPUT_", "GITHUB_"))}
    environment |= {name: str(path) for name, path in files.items()}
    environment |= {"GITHUB_WORKSPACE": str(folder), "GITHUB_ACTIONS": "true", "CI": "true"}
    environment |= {f"INPUT_{name.upper()}": value for name, value in inputs.items()}
    done = subprocess.run(
        [sys.executable, SCRIPT, word], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert files["GITHUB_ENV"].read_text() == ""
    return Job(
        done.returncode,
        tuple(annotations(done.stdout)),
        outputs(files["GITHUB_OUTPUT"].read_text()),
        files["GITHUB_STEP_SUMMARY"].read_text(),
        done.stdout,
    )


def annotations(text: str) -> list[tuple[str, str, str]]:
    """Return the annotations that a runner takes from a log: none between stop-commands and its token."""
    found, stopped = [], None
    for line in text.splitlines():
        if stopped is not None:
            stopped = None if line == f"::{stopped}::" else stopped
        elif line.startswith("::stop-commands::"):
            stopped = line.removeprefix("::stop-commands::")
        elif match := re.fullmatch(r"::(\w+)(?: title=([^:,]*))?::(.*)", line):
            kind, title, said = match.groups()
            found.append((kind, unescaped(title or ""), unescaped(said)))
    assert stopped is None, "commands were never allowed again"
    return found


def unescaped(text: str) -> str:
    for code, character in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        text = text.replace(code, character)
    return text


def outputs(text: str) -> dict[str, str]:
    found, lines = {}, iter(text.splitlines())
    for line in lines:
        name, mark, delimiter = line.partition("<<")
        assert mark
        value: list[str] = []
        for inner in lines:
            if inner == delimiter:
                break
            value.append(inner)
        else:
            pytest.fail(f"the value of {name} does not end")
        found[name] = "\n".join(value)
    return found


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with a small model, labelled samples, and a metric that int8 cannot satisfy."""
    folder = tmp_path_factory.mktemp("a workspace, with a comma")
    model = small_onnx(folder / "small.onnx")
    x = np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)
    np.savez(folder / "data.npz", image=x, labels=onnx_outputs(model, {"image": x})["scores"])
    score = "def exact(outputs, labels):\n    return float((abs(outputs - labels) < 1e-5).mean())\n"
    (folder / "score.py").write_text(score)
    (folder / "edgepack.toml").write_text(
        'model = "small.onnx"\ntargets = ["host-onnxruntime"]\ndata = "data.npz"\nmetric = "score.py:exact"\n'
        "benchmark = false\n"
    )
    return folder


@pytest.fixture(scope="module")
def built(workspace: Path) -> Job:
    return run_step(
        workspace, model="small.onnx", targets="host-onnxruntime", data="data.npz", metric="score.py:exact", out="out",
        benchmark="false", fail_if="size > 1MB\ndrop > 1",
    )  # fmt: skip


def test_a_build_succeeds_and_sets_every_output(built: Job, workspace: Path) -> None:
    assert built.code == 0, built.log
    assert built.of("error") == []
    assert set(built.outputs) == {"status", "bundles", "report", "build-json"}
    assert built.outputs["status"] == "ok"
    assert built.outputs["bundles"] == str(workspace / "out" / "small-host-onnxruntime-fp32.edgepack")
    assert Path(built.outputs["bundles"]).is_file()
    assert "<html" in Path(built.outputs["report"]).read_text()
    assert json.loads(Path(built.outputs["build-json"]).read_text())["rows"][0]["status"] == "ok"


def test_the_summary_is_the_report_and_what_edgepack_warned_of_is_annotated(built: Job, workspace: Path) -> None:
    assert built.summary == (workspace / "out" / "report.md").read_text()
    assert "| host-onnxruntime | fp32 |" in built.summary
    assert any("256 or more give steadier ranges" in text for _, text in built.of("warning"))


@pytest.mark.slow
def test_the_settings_file_of_the_workspace_is_built_when_no_model_is_given(workspace: Path) -> None:
    job = run_step(workspace, config="edgepack.toml", out="from-file", precisions="fp32")
    assert (job.code, job.outputs["status"]) == (0, "ok"), job.log
    assert job.outputs["report"] == str(workspace / "from-file" / "report.html")


@pytest.mark.slow
def test_a_missed_gate_fails_the_job_with_what_was_missed(workspace: Path) -> None:
    job = run_step(
        workspace, model="small.onnx", targets="host-onnxruntime", precisions="fp32,\nint8", data="data.npz",
        metric="score.py:exact", max_drop="0", out="gate", benchmark="false", arguments="--method plain",
    )  # fmt: skip
    assert (job.code, job.outputs["status"]) == (5, "gate_missed"), job.log
    ((title, text),) = job.of("error")
    assert title == "host-onnxruntime int8: gate_missed"
    assert "more than the 0 allowed" in text
    assert job.outputs["bundles"] == str(workspace / "gate" / "small-host-onnxruntime-fp32.edgepack")
    assert "Failed" in job.summary


def test_a_condition_that_holds_fails_the_job(workspace: Path, built: Job) -> None:
    job = run_step(
        workspace, model="small.onnx", targets="host-onnxruntime", data="data.npz", metric="score.py:exact",
        out="condition", benchmark="false", fail_if="size > 1kB", baseline="out",
    )  # fmt: skip
    assert (job.code, job.outputs["status"]) == (5, "gate_missed"), job.log
    ((title, text),) = job.of("error")
    assert title == "edgepack: a condition of fail-if holds"
    assert "size > 1kB" in text
    assert "hange" in job.summary.rpartition("## ")[2], "the comparison with the baseline is in the summary"


@pytest.mark.slow
def test_one_row_that_fails_leaves_the_others_bundles(workspace: Path) -> None:
    profile = (ROOT / "targets" / "amd-zen3.toml").read_text().replace('"amd-zen3"', '"old"')
    (workspace / "old.toml").write_text(profile.replace("[engine]\n", "[engine]\nmax_opset = 5\n"))
    job = run_step(
        workspace, model="small.onnx", targets="host-onnxruntime, old.toml", precisions="fp32",
        data="data.npz", metric="score.py:exact", out="half", benchmark="false",
    )  # fmt: skip
    assert job.code != 0
    assert job.outputs["status"] == "failed"
    ((title, text),) = job.of("error")
    assert title == "old fp32: failed"
    assert "knows opsets up to 5" in text
    assert job.outputs["bundles"] == str(workspace / "half" / "small-host-onnxruntime-fp32.edgepack")


@pytest.mark.slow
def test_a_precision_that_a_target_does_not_offer_is_a_warning(workspace: Path) -> None:
    job = run_step(
        workspace, model="small.onnx", targets="host-onnxruntime", precisions="fp32, bf16",
        data="data.npz", metric="score.py:exact", out="skipped", benchmark="false",
    )  # fmt: skip
    assert (job.code, job.outputs["status"]) == (0, "ok"), job.log
    assert job.of("error") == []
    assert any(
        title == "host-onnxruntime bf16: skipped" and "does not offer bf16" in text for title, text in job.of("warning")
    )


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"model": "small.onnx", "config": "edgepack.toml"}, "both given"),
        ({"config": "edgepack.yaml"}, "name a .toml file"),
        ({"model": "small.onnx", "arguments": "--name 'open"}, "cannot be split"),
        ({"model": "small.onnx", "benchmark": "perhaps"}, "write true or false"),
        ({"model": "small.onnx", "working_directory": "nowhere"}, "no such folder"),
    ],
)
def test_a_wrong_input_is_said_before_anything_runs(workspace: Path, inputs: dict[str, str], said: str) -> None:
    job = run_step(workspace, **inputs)
    assert (job.code, job.outputs) == (2, {"status": "error"})
    ((_, text),) = job.of("error")
    assert said in text
    assert "stop-commands" not in job.log


def test_a_model_that_cannot_be_used_is_said_and_nothing_it_is_called_gives_commands(workspace: Path) -> None:
    """The name breaks the line of the message, so that a command to the runner begins the next one."""
    name = "broken%0A\n::error title=injected::by a name.onnx"
    (workspace / name.replace("/", "")).write_bytes(b"not a model")
    job = run_step(workspace, model=name, targets="host-onnxruntime", out="broken")
    assert (job.code, job.outputs) == (2, {"status": "error"})
    ((title, text),) = job.of("error")
    assert title == "edgepack built nothing"
    assert "not an ONNX file" in text
    assert "\n::error title=injected" in job.log, "the test's own premise"
    assert "Nothing was built" in job.summary


def test_no_input_is_an_option_or_runs_in_a_shell(workspace: Path) -> None:
    model = "--help $(touch pwned); touch pwned"
    job = run_step(workspace, model=model, targets=model)
    assert job.code == 2
    assert job.outputs == {"status": "error"}
    assert len(job.of("error")) == 1
    assert not (workspace / "pwned").exists()


def test_extras_are_names_and_nothing_else(workspace: Path) -> None:
    job = run_step(workspace, "install", extras="build] evil @ file:///tmp")
    assert job.code == 2
    assert "write names separated by commas" in job.of("error")[0][1]
    assert "stop-commands" not in job.log, "pip was run"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("action_run", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "action_run", module)
    spec.loader.exec_module(module)
    return module


def test_a_summary_that_is_too_long_is_cut_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: ModuleType
) -> None:
    summary = tmp_path / "long.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    script._append_summary("a line of the report, µs\n" * 60_000)
    assert 900_000 < summary.stat().st_size < 2**20
    assert summary.read_text().endswith("µs\n\nThe report is longer than a summary may be; the rest is in report.md.\n")


def test_no_value_of_an_output_can_end_itself_and_set_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: ModuleType
) -> None:
    file = tmp_path / "output"
    monkeypatch.setenv("GITHUB_OUTPUT", str(file))
    script._write_outputs({"report": "first"})
    known = file.read_text().splitlines()[0].partition("<<")[2]
    script._write_outputs({"bundles": f"a\n{known}\nstatus<<x\nok\nx"})
    assert outputs(file.read_text()) == {"report": "first", "bundles": f"a\n{known}\nstatus<<x\nok\nx"}


# --- action.yml -------------------------------------------------------------------------------------------------------


def test_action_yml_hands_over_what_the_script_reads_and_nothing_is_written_into_a_command() -> None:
    yaml = pytest.importorskip("ruamel.yaml", reason="ruamel.yaml is not installed; it comes with check-jsonschema")
    action = yaml.YAML(typ="safe").load(ROOT / "action.yml")
    steps = action["runs"]["steps"]
    assert all("${{" not in step["run"] for step in steps if "run" in step)
    handed = {name: value for step in steps for name, value in step.get("env", {}).items()}
    for name, value in handed.items():
        assert value == f"${{{{ inputs.{name.removeprefix('INPUT_').lower().replace('_', '-')} }}}}"
    assert {name.removeprefix("INPUT_").lower().replace("_", "-") for name in handed} | {"python-version"} == set(
        action["inputs"]
    )
    source = SCRIPT.read_text()
    read = set(re.findall(r'_(?:input|several|truth)\("([a-z-]+)"', source))
    read |= set(re.findall(r'"([a-z-]+)"', source.partition("_VALUES = (")[2].partition(")")[0]))
    assert read | {"python-version"} == set(action["inputs"])
    assert set(action["outputs"]) == {"status", "bundles", "report", "build-json"}
