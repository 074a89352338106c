"""A bundle that never ends is stopped, one that kills its process is one error, and the others give what they gave."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from program import main
from small_bundles import small_bundle, small_compiled, small_facts, small_golden

from edgepack.base.files import scratch_folder
from edgepack.bundle.pack import pack
from edgepack.errors import ChildError, DataError
from edgepack.execution import child
from edgepack.runtime import limited
from edgepack.runtime.limited import run_within, verify_within
from edgepack.runtime.run import run
from edgepack.runtime.verify import verify
from edgepack.specs.run import RunOptions

pytestmark = pytest.mark.long


def endless_onnx(path: Path) -> None:
    """A model of the small one's inputs and outputs whose loop goes on as long as a sum of squares is not negative."""
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["s", "s"], ["square"]),
            helper.make_node("Add", ["s", "square"], ["s_next"]),
            helper.make_node("Identity", ["going"], ["going_on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("s", TensorProto.FLOAT, ["N", 5]),
        ],
        [
            helper.make_tensor_value_info("going_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("s_next", TensorProto.FLOAT, ["N", 5]),
        ],
    )
    starts = np.array([0], np.int64), np.array([5], np.int64), np.array([1], np.int64)
    weights = [onnx.numpy_helper.from_array(v, n) for v, n in zip(starts, ("zero", "five", "axis"), strict=True)]
    weights.append(onnx.numpy_helper.from_array(np.array(True), "yes"))
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("Slice", ["flat", "zero", "five", "axis"], ["start"]),
        helper.make_node("Loop", ["", "yes", "start"], ["scores"], body=body),
    ]
    graph = helper.make_graph(
        nodes,
        "endless",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 5])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("endless")
    compiled = small_compiled(folder / "compiled")
    golden = small_golden(compiled.folder / "model.onnx", folder / "golden.npz")
    endless_onnx(compiled.folder / "model.onnx")
    return pack(compiled, golden, small_facts(), folder)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    np.savez(tmp_path / "x.npz", image=np.random.default_rng(1).standard_normal((1, 3, 8, 8), np.float32))
    return tmp_path / "x.npz"


def test_a_bundle_that_never_ends_is_stopped(endless: Path, picture: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(ChildError, match="verify took longer than 3 s and was stopped") as caught:
        verify_within(endless, RunOptions(), 3.0)
    assert "--limit" in caught.value.hint
    with pytest.raises(ChildError, match=r"^run took longer than 3 s"):
        run_within(endless, picture, None, 3.0)
    assert time.monotonic() - begun < 20


def test_the_commands_have_the_limit(endless: Path, picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(endless), "--input", str(picture), "--limit", "2s"]) == 4
    assert "allow more time with --limit; it said nothing" in capsys.readouterr().err
    assert main(["verify", str(endless), "--limit", "2s"]) == 4


def test_within_the_limit_nothing_is_different(tmp_path: Path, picture: Path) -> None:
    bundle = small_bundle(tmp_path / "small")
    assert dataclasses.replace(verify_within(bundle, RunOptions())) == verify(bundle)
    here, there = run(bundle, picture), run_within(bundle, picture, None)
    assert there.top5 == here.top5
    assert there.top5 is not None
    assert list(there.outputs) == list(here.outputs)
    for name, value in here.outputs.items():
        np.testing.assert_array_equal(there.outputs[name], value)
        assert there.outputs[name].dtype == value.dtype


def test_scores_that_are_no_numbers_come_back(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "small")
    np.savez(tmp_path / "huge.npz", image=np.full((1, 3, 8, 8), 3e38, np.float32))
    here, there = run(bundle, tmp_path / "huge.npz"), run_within(bundle, tmp_path / "huge.npz", None)
    assert not np.isfinite(here.outputs["scores"]).all()
    np.testing.assert_array_equal(there.outputs["scores"], here.outputs["scores"])


def test_errors_are_those_of_the_function(tmp_path: Path) -> None:
    bundle = small_bundle(tmp_path / "small")
    with pytest.raises(DataError, match="there is no file"):
        run_within(bundle, tmp_path / "absent.npz", None)


def test_a_device_that_builds_engines_has_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limited.importlib.util, "find_spec", lambda name: name if name == "tensorrt" else None)
    assert limited.default_limit_s() == 7200.0
    monkeypatch.setattr(limited.importlib.util, "find_spec", lambda _: None)
    assert limited.default_limit_s() == 600.0


def words_and_die(words: str) -> int:
    import os
    import sys

    print(words, file=sys.stderr, flush=True)
    os._exit(7)


def words_and_fail(words: str) -> int:
    raise ArithmeticError(words)


def test_a_log_that_nobody_will_find_is_not_named() -> None:
    with pytest.raises(ChildError, match="crashed") as caught:
        child.call(words_and_die, "the engine's last words", limit_s=60.0)
    assert caught.value.hint == "the engine failed inside its own code; its last words: the engine's last words"
    with pytest.raises(Exception, match="ArithmeticError: no") as failed:
        child.call(words_and_fail, "no", limit_s=60.0)
    assert failed.value.hint == "its last words: ArithmeticError: no"  # type: ignore[attr-defined]


def test_a_log_in_a_scratch_folder_is_not_named_either() -> None:
    with scratch_folder("edgepack-check-") as folder:
        with pytest.raises(ChildError, match="crashed") as caught:
            child.call(words_and_die, "the last words", limit_s=60.0, log=folder / "check.log")
        assert caught.value.hint.endswith("its last words: the last words")


def all_memory() -> int:
    raise MemoryError


def test_too_little_memory_is_called_that() -> None:
    with pytest.raises(Exception, match=r"^not enough memory$"):
        child.call(all_memory, limit_s=60.0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_ended_command_leaves_nothing_behind(endless: Path, tmp_path: Path, number: int) -> None:
    """SIGTERM, as from a service manager, is taken as Ctrl-C is: the child goes, and its folder."""
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "edgepack", "verify", str(endless), "--limit", "120s"],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list((tmp_path / "tmp").glob("edgepack-*/child.log")) and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(number)
    _, words = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert ("terminated" if number == signal.SIGTERM else "interrupted") in words
    assert list((tmp_path / "tmp").iterdir()) == []
