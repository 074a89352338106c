"""The check of calibration samples in a build and as a command: its warnings, --strict, the store, interruption."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from edgepack.base import documents
from edgepack.cli.main import cli
from edgepack.errors import DataError
from edgepack.execution.events import Silent
from edgepack.execution.store import Store
from edgepack.pipeline.build import build
from edgepack.pipeline.plan import resolve
from edgepack.pipeline.settings import BuildSettings, read_settings
from edgepack.specs.build import BuildResult
from edgepack.specs.data import Lint

pytestmark = pytest.mark.long

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Three classes: of so few nothing is said of the preprocessing, which random weights have no opinion on."""
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> net (float[N,3,8,8] image) => (float[N,3] logits) {
            first = Conv<pads=[1,1,1,1]>(image, w1)
            second = Relu(first)
            pooled = GlobalAveragePool(second)
            flat = Flatten(pooled)
            logits = Gemm(flat, w2) }"""
    )
    rng = np.random.default_rng(0)
    for name, shape in (("w1", (4, 3, 3, 3)), ("w2", (4, 3))):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name))
    onnx.save(proto, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return _save(tmp_path / "good.npz", 1)


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """The second channel never changes, and ten samples stand in it twice."""
    return _save(tmp_path / "bad.npz", 2, spoil=True)


@pytest.fixture
def unseen(tmp_path: Path) -> Path:
    return _save(tmp_path / "unseen.npz", 3)


def _save(path: Path, seed: int, *, spoil: bool = False) -> Path:
    # Two pictures, one the other's negative, make the extremes steady, so that 64 samples are enough.
    picture = np.random.default_rng(0).uniform(-0.9, 0.9, size=(3, 8, 8))
    pictures = np.resize([picture, -picture], (64, 3, 8, 8))
    image = (pictures + np.random.default_rng(seed).uniform(-0.1, 0.1, size=pictures.shape)).astype(np.float32)
    if spoil:
        image[10:20] = image[:10]
        image[:, 1] = 0.5
    np.savez(path, image=image)
    return path


class Recorded(Silent):
    """Events that keep the notes and the stages."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.stages: list[str] = []

    def begin(self, stage: str, detail: str) -> None:
        self.stages.append(f"{stage} {detail}")

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture
def settings(model: Path, good: Path, unseen: Path, tmp_path: Path) -> BuildSettings:
    return BuildSettings(
        str(model), precisions=("int8",), data=str(good), eval=str(unseen), out=str(tmp_path / "out"), benchmark=False
    )


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "300")

    def run(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([str(word) for word in words])
        said = capfd.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, said.out, said.err

    return run


def test_warnings_are_told_and_stored_with_the_build(settings: BuildSettings, bad: Path, tmp_path: Path) -> None:
    told = Recorded()
    unseen = str(_save(tmp_path / "bad_unseen.npz", 3, spoil=True))
    settings = dataclasses.replace(settings, data=str(bad), eval=unseen)
    result = build(settings, Store(tmp_path / "store"), told)
    channel = "1 of 3 channels of 'image' never change: 1"
    assert any(note.startswith(f"{channel}. Hint: check how") for note in told.notes)
    assert any("10 of 64 samples repeat others exactly" in note for note in told.notes)
    assert channel in result.warnings
    assert result.rows[0].status == "ok"
    assert channel in result.rows[0].notes["calibration"]
    stored = documents.from_json(BuildResult, (tmp_path / "out" / "build.json").read_text(), "build.json")
    assert stored.lint is not None
    assert stored.lint == result.lint
    assert {finding.check for finding in stored.lint.warnings} == {"channels", "copies"}
    assert "10 of 64 samples repeat others exactly" in (tmp_path / "out" / "report.html").read_text()
    again = build(settings, Store(tmp_path / "store"), told)
    assert again.stages_run == 0
    assert again.lint == result.lint
    assert again.warnings == result.warnings


def test_good_samples_bring_no_warning(settings: BuildSettings, tmp_path: Path) -> None:
    result = build(dataclasses.replace(settings, strict=True), Store(tmp_path / "store"))
    assert result.rows[0].status == "ok"
    assert result.lint is not None
    assert result.lint.warnings == ()
    assert "calibration" not in result.rows[0].notes


def test_strict_ends_a_build_before_any_work_on_targets(settings: BuildSettings, bad: Path, tmp_path: Path) -> None:
    told = Recorded()
    with pytest.raises(DataError, match=r"--strict: .*repeat others exactly.* \(and 1 more\)") as raised:
        build(dataclasses.replace(settings, data=str(bad), strict=True), Store(tmp_path / "store"), told)
    assert raised.value.exit_code == 2
    assert "remove the copies" in raised.value.hint
    assert len(told.notes) >= 2
    assert not any(stage.startswith(("golden", "calibrate")) for stage in told.stages)
    assert not list((tmp_path / "out").glob("*.edgepack"))


def test_strict_is_a_key_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "edgepack.toml"
    path.write_text('model = "m.onnx"\ndata = "d.npz"\nprecisions = ["int8"]\nstrict = true\n')
    assert read_settings(path).strict


def test_strict_needs_no_samples_as_it_is_about_precisions_too() -> None:
    assert resolve(BuildSettings("model.onnx", strict=True)).settings.strict


def test_a_build_that_does_not_calibrate_checks_on_demand_only(
    settings: BuildSettings, bad: Path, tmp_path: Path
) -> None:
    told = Recorded()
    plain = dataclasses.replace(settings, precisions=("fp32",), data=str(bad))
    assert build(plain, Store(tmp_path / "store"), told).lint is None
    assert not any(stage.startswith("lint") for stage in told.stages)
    with pytest.raises(DataError, match="--strict"):
        build(dataclasses.replace(plain, strict=True), Store(tmp_path / "store"), told)


def test_a_check_that_fails_costs_no_build_but_a_strict_one(
    settings: BuildSettings, model: Path, tmp_path: Path
) -> None:
    """A weight that is not a number: calibration cannot measure it, which its row says; fp32 is another row."""
    proto = onnx.load(model)
    weight = onnx.numpy_helper.to_array(proto.graph.initializer[1]).copy()
    weight[0, 0] = np.nan
    proto.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(weight, "w2"))
    onnx.save(proto, model)
    told = Recorded()
    with pytest.raises(DataError):
        build(dataclasses.replace(settings, strict=True), Store(tmp_path / "store"), told)
    result = build(settings, Store(tmp_path / "store"), told)
    assert any(note.startswith("the calibration samples were not checked:") for note in told.notes)
    assert result.lint is None
    assert result.rows[0].status == "failed"


def test_the_command_prints_findings_and_json(command: Run, model: Path, bad: Path, tmp_path: Path) -> None:
    words = ("lint", model, "--data", bad, "--store", tmp_path / "store")
    code, out, err = command(*words, "--json")
    assert code == 0
    found = documents.from_json(Lint, out, "stdout")
    assert [finding.check for finding in found.warnings] == ["copies", "channels"]
    assert (found.samples, found.eval_samples, found.observer) == (64, None, "auto")
    assert 0 < found.model_runs <= 11 * 16 + 4 * 32 + 2 * 208 + 64 + 256
    assert "warning copies: 10 of 64 samples repeat others exactly" in err
    assert "hint: remove the copies" in err
    assert "2 warnings: 64 calibration samples" in err
    code, out, err = command(*words, "--strict")
    assert code == 2
    assert "warning copies: 10 of 64 samples repeat others exactly" in out
    assert "error: --strict: 10 of 64 samples repeat others exactly" in err


def test_the_command_compares_with_the_evaluation_set(command: Run, model: Path, good: Path, tmp_path: Path) -> None:
    words = ("lint", model, "--data", good, "--eval", good, "--store", tmp_path / "store", "--json")
    code, out, _ = command(*words)
    assert code == 0
    (finding,) = json.loads(out)["findings"][:1]
    assert (finding["check"], finding["severity"]) == ("overlap", "warning")
    assert finding["message"].startswith("64 of 64 calibration samples are in the evaluation set")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no samples to check"),
        (("--data", "nowhere"), "there is no file or folder nowhere"),
        (("--data", "good.npz", "--recipe", "no-such"), "no-such"),
        (("--data", "good.npz", "--samples", "65"), "64 samples"),
        (("--data", "empty.npz"), "contains no samples"),
        (("--data", "integers.npz"), "raw integers are not scaled for you"),
    ],
)
def test_bad_words_end_with_one_error(
    command: Run,
    model: Path,
    good: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("empty.npz", image=np.zeros((0, 3, 8, 8), np.float32))
    np.savez("integers.npz", image=np.zeros((9, 3, 8, 8), np.uint8))
    code, out, err = command("lint", model, *words, "--store", tmp_path / "store")
    assert code == 2
    assert out == ""
    assert said in err
    assert "hint:" in err
    assert "Traceback" not in err


def test_calibrate_warns_and_strict_stops_it(command: Run, model: Path, bad: Path, tmp_path: Path) -> None:
    words = ("calibrate", model, "--data", bad, "-o", tmp_path / "ranges.json", "--store", tmp_path / "store")
    code, _, err = command(*words, "--strict")
    assert code == 2
    assert "--strict: 10 of 64 samples repeat others exactly" in err
    assert not (tmp_path / "ranges.json").exists()
    code, _, err = command(*words)
    assert code == 0
    assert "1 of 3 channels of 'image' never change" in err
    assert (tmp_path / "ranges.json").is_file()


def test_an_interrupted_check_leaves_nothing_and_runs_again(command: Run, model: Path, tmp_path: Path) -> None:
    source = tmp_path / "slow.py"
    source.write_text(
        "import os, time\nimport numpy as np\nfrom pathlib import Path\n"
        "def samples():\n"
        "    for i in range(30):\n"
        f"        Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        f"        time.sleep(0.3 if Path({str(tmp_path / 'slow')!r}).exists() else 0)\n"
        "        yield {'image': np.random.default_rng(i).normal(size=(3, 8, 8)).astype(np.float32)}\n"
    )
    (tmp_path / "slow").touch()
    words = ["lint", str(model), "--data", f"{source}:samples", "--store", str(tmp_path / "store")]
    process = subprocess.Popen(
        [sys.executable, "-m", "edgepack", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    _wait_for(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text() != "")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    assert "interrupted" in err
    child = int((tmp_path / "pid").read_text())
    _wait_for(lambda: not _alive(child))
    (tmp_path / "slow").unlink()
    code, _, err = command(*words)
    assert code == 0
    assert "30 calibration samples" in err


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{process}/stat").read_text().split()[2]
