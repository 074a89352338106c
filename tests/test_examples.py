"""The examples: every command of their README in a copy of the folder, and what it prints."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
COMMANDS = re.findall(r"^\$ (.*)$", (EXAMPLES / "README.md").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("copy") / "examples"
    shutil.copytree(EXAMPLES, place, ignore=shutil.ignore_patterns("__pycache__"))
    return place


def run(folder: Path, command: str) -> str:
    """Run a command of the README and return what it printed."""
    assert command in COMMANDS
    program, *words = shlex.split(command)
    words = [*{"python": (), "edgepack": ("-m", "edgepack")}[program], *words]
    done = subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def files(folder: Path) -> Path:
    """The copy with what make_files.py wrote."""
    assert run(folder, "python make_files.py") == "wrote stripes.onnx, stripes.npz and pictures/ with 400 samples\n"
    return folder


def test_every_example_is_in_the_readme_and_every_command_is_tested_here() -> None:
    named = set(re.findall(r"`([\w.-]+\.(?:py|toml|yml|service|sh))", (EXAMPLES / "README.md").read_text()))
    assert named | {"stripes.py"} == {path.name for path in EXAMPLES.iterdir() if path.is_file()} - {"README.md"}
    source = Path(__file__).read_text()
    assert [command for command in COMMANDS if f'"{command}"' not in source] == []


def test_the_metric_is_the_recall_of_the_worst_class() -> None:
    import importlib.util

    import numpy as np

    spec = importlib.util.spec_from_file_location("recall_example", EXAMPLES / "recall.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.worst_class(np.eye(3)[[0, 1, 1, 2, 0]], np.array([0, 1, 1, 2, 2])) == 0.5


def test_the_profile_says_what_it_says(folder: Path) -> None:
    said = run(folder, "edgepack targets show board.toml")
    assert "my-board" in said
    assert re.search(r"quantization\.leave\s+Gemm\s+our own measurement", said)


@pytest.mark.timeout(900)
def test_an_onnx_file_is_built_and_runs_with_numpy_alone(files: Path) -> None:
    lines = run(files, "python onnx_to_int8.py").splitlines()
    assert len(lines) == 2
    for line, precision in zip(lines, ("fp32", "int8"), strict=True):
        assert re.fullmatch(
            rf"host-onnxruntime {precision}: ok, -?[0-9.]+ points lost on 200 samples, from-onnx/.*", line
        )
    said = run(files, "python on_device.py from-onnx/stripes-host-onnxruntime-int8.edgepack")
    found = re.fullmatch(r"stripes int8 on onnxruntime: (\d+) of 100 right\n", said)
    assert found is not None, said
    assert int(found[1]) >= 90


def test_on_device_needs_nothing_of_the_builder(files: Path, tmp_path: Path) -> None:
    """The same program where importing a package of the builder fails; its usage of edgepack is what a device has."""
    blocked = ["click", "rich", "onnx", "torch", "scipy", "msgspec", "jinja2", "onnxslim", "PIL", "openvino"]
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({blocked!r}))\n"  # None there makes an import fail
        "import runpy\nsys.argv = ['on_device.py', 'missing.edgepack']\nrunpy.run_path('on_device.py')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=files, capture_output=True, text=True, check=False)
    assert "BundleError: there is no file missing.edgepack" in done.stderr


@pytest.mark.timeout(900)
def test_the_settings_file_builds_for_the_board_with_the_own_metric(files: Path) -> None:
    said = run(files, "edgepack build")
    assert "my-board" in said
    document = json.loads((files / "bundles" / "build.json").read_text())
    rows = {(row["target"], row["precision"]): row for row in document["rows"]}
    assert set(rows) == {(t, p) for t in ("host-onnxruntime", "my-board") for p in ("fp32", "int8")}
    for row in rows.values():
        assert row["status"] == "ok", row["reason"]
        assert row["accuracy"]["metric"] == "recall.py:worst_class"
        assert row["accuracy"]["value"] > 0.8
    assert "no such device here" in rows["my-board", "int8"]["notes"]["verification"]


@pytest.mark.timeout(900)
def test_a_torch_network_is_built(folder: Path) -> None:
    lines = run(folder, "python torch_to_int8.py").splitlines()
    assert len(lines) == 2
    for line, precision in zip(lines, ("fp32", "int8"), strict=True):
        found = re.fullmatch(rf"host-onnxruntime {precision}: ok, top-1 ([0-9.]+) %, (.*)", line)
        assert found is not None, line
        assert float(found[1]) >= 90
        assert (folder / found[2]).is_file()


def test_the_workflow_gives_the_action_what_it_takes_and_reads_what_it_gives() -> None:
    yaml = pytest.importorskip("ruamel.yaml", reason="ruamel.yaml is not installed; it comes with check-jsonschema")
    reader = yaml.YAML(typ="safe")
    action = reader.load(ROOT / "action.yml")
    text = (EXAMPLES / "github-workflow.yml").read_text()
    steps = reader.load(text)["jobs"]["bundles"]["steps"]
    (step,) = [step for step in steps if step["uses"].startswith("OWNER/edgepack@")]
    assert set(step["with"]) <= set(action["inputs"])
    assert set(re.findall(rf"steps\.{step['id']}\.outputs\.([a-z-]+)", text)) <= set(action["outputs"])
