"""Observers, metrics, lint checks and source frameworks of another package, by the command line and nothing else.

The package is laid on ``sys.path`` as an installer does it, and edgepack runs as a user runs it, child processes too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edgepack
from edgepack.specs.model import OnnxModel

pytestmark = pytest.mark.long

ENTRY_POINTS = """
[edgepack.observers]
half = toys:OBSERVER
[edgepack.metrics]
closeness = toys:METRIC
[edgepack.lint_checks]
toys = toys:check
[edgepack.frameworks]
toy = toys:FRAMEWORK
"""
TOYS = '''
from pathlib import Path

from edgepack.calibrate.observers import Ends, RangeObserver
from edgepack.export import FRAMEWORKS, Framework
from edgepack.lint import Found
from edgepack.specs.data import Finding; from edgepack.specs.run import Accuracy
from edgepack.verify.metrics import Metric

SHARE = 0.5


def choose(seen):
    return Ends(SHARE * seen.plain.low, SHARE * seen.plain.high, SHARE * seen.plain.magnitude)


def measure(compared):
    value = compared.closeness.cosine
    return Accuracy(compared.metric, compared.closeness.n, 1.0, value, 1 - value, (0.0, 1.0))


def check(inspected):
    count = len(inspected.calibration.samples.indices)
    return Found((Finding("toys", "warning", f"{count} samples are no toys", "give toys"),), model_runs=1000)


def onnx_of(source):
    """A .toy is a text file with the path of an ONNX file."""
    return Path(source).read_text().strip()


def find_inputs(source, samples, shapes):
    return FRAMEWORKS.get("onnx").find_inputs(onnx_of(source), samples, shapes)


def export(source, samples, shapes, out):
    return FRAMEWORKS.get("onnx").export(onnx_of(source), samples, shapes, out)


OBSERVER = RangeObserver(choose, needs_counts=False)
METRIC = Metric(measure, title="closeness to the toy")
FRAMEWORK = Framework(".toy", find_inputs, export, suffixes=(".toy",), uses_samples=False)
'''


class Place:
    """A folder with a model, samples, and a package of toys that edgepack finds there."""

    def __init__(self, folder: Path, code: str) -> None:
        self.folder = folder
        info = folder / "packages" / "toys-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toys\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(ENTRY_POINTS)
        self.code = folder / "packages" / "toys.py"
        self.code.write_text(code)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run edgepack in this folder."""
        path = os.pathsep.join([str(self.code.parent), str(Path(edgepack.__file__).parent.parent)])
        environment = {**os.environ, "PYTHONPATH": path, "EDGEPACK_STORE": str(self.folder / "store"), "COLUMNS": "200"}
        return subprocess.run(
            [sys.executable, "-m", "edgepack", *words],
            cwd=self.folder, env=environment, capture_output=True, text=True, check=False, timeout=250,
        )  # fmt: skip

    def json(self, *words: str) -> dict[str, object]:
        """Run edgepack with --json and return what it prints."""
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, object] = json.loads(done.stdout)
        return found


@pytest.fixture
def make_place(tmp_path: Path, conv_model: OnnxModel):
    def make(code: str) -> Place:
        values = np.random.default_rng(0).normal(size=(16, 3, 8, 8)).astype(np.float32)
        np.savez(tmp_path / "data.npz", image=values)
        (tmp_path / "net.toy").write_text(str(conv_model.path))
        return Place(tmp_path, code)

    return make


def test_an_observer_chooses_ranges_and_its_code_counts(make_place) -> None:
    place = make_place(TOYS)
    words = ("calibrate", "model.onnx", "--data", "data.npz", "-o", "ranges.json")
    plain = place.json(*words)["tensors"]
    ranges = place.json(*words, "--observer", "half")
    assert ranges["observer"] == "half"
    assert {name: found["high"] for name, found in ranges["tensors"].items()} == {
        name: pytest.approx(found["high"] / 2) for name, found in plain.items()
    }
    place.code.write_text(TOYS.replace("SHARE = 0.5", "SHARE = 0.25"))
    again = place.json(*words, "--observer", "half")["tensors"]
    assert again["logits"]["high"] == pytest.approx(plain["logits"]["high"] / 4)
    assert "half" in place.run("calibrate", "--help").stdout


def test_a_framework_a_check_and_a_metric_take_part_in_a_build(make_place) -> None:
    place = make_place(TOYS)
    result = place.json(
        "build", "net.toy", "--precision", "int8", "--data", "data.npz", "--observer", "half", "--min-sqnr", "0",
        "--metric", "closeness", "--max-drop", "0.9", "--method", "plain", "--no-benchmark",
    )  # fmt: skip
    (row,) = result["rows"]
    assert (result["name"], row["status"]) == ("net", "ok")
    assert row["accuracy"]["metric"] == "closeness"
    assert row["accuracy"]["value"] == pytest.approx(row["cosine"])
    (toys,) = (finding for finding in result["lint"]["findings"] if finding["check"] == "toys")
    assert (toys["severity"], toys["message"], toys["hint"]) == ("warning", "8 samples are no toys", "give toys")
    assert result["lint"]["model_runs"] > 1000
    assert "Closeness to the toy" in Path(place.folder / result["report"]).read_text()


def test_a_package_that_cannot_be_imported_is_a_warning(make_place) -> None:
    place = make_place("import no_such_module_here\n")
    done = place.run("lint", "model.onnx", "--data", "data.npz", "--json")
    assert done.returncode == 0, done.stderr
    (finding,) = [f for f in json.loads(done.stdout)["findings"] if f["check"] == "toys"]
    assert finding["severity"] == "warning"
    assert "the lint check 'toys' of the package toys cannot be imported: ModuleNotFoundError" in finding["message"]
    assert finding["hint"] == "update or remove toys"
    done = place.run("build", "model.onnx", "--no-benchmark")
    assert done.returncode == 0, done.stderr
    assert "the source framework 'toy' of the package toys cannot be imported" in done.stderr
    assert "hint:" not in done.stderr  # a warning, not an error


@pytest.mark.parametrize("words", [("--observer", "half"), ("--metric", "closeness")], ids=" ".join)
def test_what_is_asked_for_and_cannot_be_imported_is_an_error(make_place, words) -> None:
    done = make_place("1 / 0\n").run("build", "model.onnx", "--precision", "int8", "--data", "data.npz", *words)
    assert done.returncode == 3
    assert f"{words[1]!r} of the package toys cannot be imported: ZeroDivisionError" in done.stderr
    assert "update or remove toys" in done.stderr


def test_a_check_that_fails_is_a_warning(make_place) -> None:
    place = make_place(TOYS.replace("    count = ", "    count = inspected.nothing and "))
    found = place.json("lint", "net.toy", "--data", "data.npz")
    (finding,) = [f for f in found["findings"] if f["check"] == "toys"]
    assert finding["severity"] == "warning"
    assert "the lint check 'toys' of the package toys failed: AttributeError" in finding["message"]
