"""Both runners on this machine: the Python one without TVM's package, and the C++ one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import backend_models
import numpy as np
import pytest
from backend_models import FLOAT, INT64, make, save
from integer_models import quantized
from onnx import helper
from onnx.reference import ReferenceEvaluator

from edgepack.bundle.requirements import requirements
from edgepack.device import amx
from edgepack.engines import get_backend
from edgepack.engines.targets import load_target
from edgepack.engines.tvm.compile import processor_of
from edgepack.engines.tvm.interface import FILE, read_interface
from edgepack.errors import CompileError, DataError, EdgepackError, ToolchainError
from edgepack.specs.model import CompiledModel
from edgepack.specs.run import RunOptions


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> CompiledModel:
    folder = tmp_path_factory.mktemp("several")
    model = save(backend_models.several(), folder / "several.onnx")
    return get_backend("tvm").compile_model(model, load_target("host-tvm"), "fp32", folder / "out")


def expected() -> dict[str, np.ndarray]:
    proto = backend_models.several()
    names = [value.name for value in proto.graph.output]
    return dict(zip(names, ReferenceEvaluator(proto).run(None, backend_models.feeds("several")), strict=True))


@pytest.fixture
def program(compiled: CompiledModel) -> Path:
    path = compiled.folder / "runner"
    path.chmod(0o755)
    return path


def call(program: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [str(program), *(str(word) for word in words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def files(compiled: CompiledModel, folder: Path) -> list[Path]:
    feeds = backend_models.feeds("several")
    paths = []
    for i, spec in enumerate(compiled.inputs):
        paths.append(folder / f"in{i}.bin")
        feeds[spec.name].tofile(paths[-1])
    return paths


def test_the_cpp_runner_gives_the_same_outputs(compiled: CompiledModel, program: Path, tmp_path: Path) -> None:
    done = call(program, compiled.folder, *files(compiled, tmp_path), "--out", tmp_path / "out", "--times", 3)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(int(line) > 0 for line in done.stdout.split())
    assert len(done.stdout.split()) == 3
    for i, (name, wanted) in enumerate(expected().items()):
        found = np.fromfile(tmp_path / f"out{i}.bin", wanted.dtype).reshape(wanted.shape)
        np.testing.assert_allclose(found, wanted, atol=1e-6, err_msg=name)


def test_the_cpp_runner_writes_outputs_of_the_promised_type(tmp_path: Path) -> None:
    """TVM's OneHot makes 8 bytes a value, where the model says 4."""
    one_hot = helper.make_node("OneHot", ["x", "depth", "values"], ["y"], axis=1)
    stored = {"depth": np.array(5), "values": np.array([0, 1], np.float32)}
    proto = make([one_hot], [("x", INT64, [1, 3])], [("y", FLOAT, [1, 5, 3])], stored)
    made = save(proto, tmp_path / "m.onnx")
    get_backend("tvm").compile_model(made, load_target("host-tvm"), "fp32", tmp_path / "made")
    x = np.array([[0, 4, 2]])
    x.tofile(tmp_path / "x.bin")
    path = tmp_path / "made" / "runner"
    path.chmod(0o755)
    done = call(path, tmp_path / "made", tmp_path / "x.bin", "--out", tmp_path / "y")
    assert (done.returncode, done.stderr) == (0, "")
    (wanted,) = ReferenceEvaluator(proto).run(None, {"x": x})
    np.testing.assert_array_equal(np.fromfile(tmp_path / "y0.bin", np.float32).reshape(1, 5, 3), wanted)


def test_the_cpp_runner_describes_the_model(compiled: CompiledModel, program: Path) -> None:
    done = call(program, compiled.folder)
    assert done.stdout.splitlines()[:3] == [
        "input float32 1,6 x:0",
        "input bool 1,6 a mask/0",
        "input float32 - factor",
    ]
    assert "output int64 1 best" in done.stdout


@pytest.mark.parametrize("what", ["short", "long", "missing", "fewer", "usage", "folder", "interface", "library"])
def test_the_cpp_runner_says_what_is_wrong(what: str, compiled: CompiledModel, program: Path, tmp_path: Path) -> None:
    paths, folder = files(compiled, tmp_path), compiled.folder
    code, words = 1, ""
    if what == "short":
        paths[0].write_bytes(b"1234")
        words = "has fewer than the 24 bytes"
    elif what == "long":
        paths[0].write_bytes(bytes(25))
        words = "has more than the 24 bytes"
    elif what == "missing":
        paths[1].unlink()
        words = "cannot open"
    elif what == "fewer":
        paths.pop()
        words = "2 files for 3 inputs"
    elif what == "usage":
        paths, code, words = [Path("--what")], 2, "usage"
    elif what == "folder":
        folder, words = tmp_path / "nowhere", "cannot open"
    else:
        folder = tmp_path / "copy"
        folder.mkdir()
        for name in compiled.files:
            (folder / name).write_bytes((compiled.folder / name).read_bytes())
        if what == "interface":
            (folder / FILE).write_text("edgepack-tvm 9\n")
            words = "damaged or of another version"
        else:
            (folder / "libtvm_ffi.so").unlink()
            words = "libtvm_ffi.so"
    done = call(program, folder, *paths)
    assert done.returncode == code
    assert words in done.stderr


def test_a_device_without_tvms_package_runs_the_bundle(compiled: CompiledModel) -> None:
    code = """
import sys
from pathlib import Path
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tvm", "tvm_ffi", "onnx", "onnxruntime", "click", "ziglang"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
import numpy as np
from edgepack.specs.run import RunOptions
from edgepack.engines.tvm.interface import read_interface
from edgepack.engines.tvm.runner import load_runner
folder = Path(sys.argv[1])
about = read_interface((folder / "interface.txt").read_bytes())
runner = load_runner(folder, about.inputs, about.outputs, RunOptions(threads=1))
feeds = {"x:0": np.ones((1, 6), np.float32), "a mask/0": np.ones((1, 6), bool), "factor": np.array(3, np.float32)}
print(runner.infer(feeds)["sum"])
"""
    done = subprocess.run([sys.executable, "-c", code, compiled.folder], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("[18.]\n", 0), done.stderr


def test_tvms_package_may_be_imported_after_a_bundle_was_run(compiled: CompiledModel) -> None:
    """Two copies of one library registered the same types, which ended the process."""
    code = """if True:
        import sys
        from pathlib import Path
        from edgepack.engines.tvm.runtime_abi import find_runtime

        find_runtime(Path(sys.argv[1]))
        import tvm

        print(tvm.runtime.device("cpu", 0).exist)
        """
    done = subprocess.run([sys.executable, "-c", code, compiled.folder], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


@pytest.fixture(scope="module")
def tiled(tmp_path_factory: pytest.TempPathFactory) -> CompiledModel:
    """A convolution by AMX whose outputs are 0 to 255."""
    if not processor_of(load_target("host-tvm")).has_amx:
        pytest.skip("this host, or its Linux, has no AMX")
    folder = tmp_path_factory.mktemp("tiled")
    weights = np.random.default_rng(0).integers(-127, 128, (32, 64, 1, 1)).astype(np.int8)
    proto, _ = quantized("Conv", [1, 64, 16, 16], weights, np.full(32, 0.004), 131, relu=True)
    model = save(proto, folder / "tiled.onnx")
    return get_backend("tvm").compile_model(model, load_target("host-tvm"), "int8", folder / "out")


def test_code_with_tiles_asks_linux_for_them_in_a_process_of_its_own(tiled: CompiledModel, tmp_path: Path) -> None:
    """Without, the first instruction ends the process."""
    assert read_interface((tiled.folder / FILE).read_bytes()).needs == "amx"
    x = np.random.default_rng(1).integers(0, 256, (1, 64, 16, 16)).astype(np.float32)
    x.tofile(tmp_path / "x.bin")
    code = """
import sys
from pathlib import Path
import numpy as np
from edgepack.specs.run import RunOptions
from edgepack.engines.tvm.interface import read_interface
from edgepack.engines.tvm.runner import load_runner
about = read_interface((Path(sys.argv[1]) / "interface.txt").read_bytes())
runner = load_runner(Path(sys.argv[1]), about.inputs, about.outputs, RunOptions(threads=1))
runner.infer({"x": np.fromfile(sys.argv[2], np.float32).reshape(1, 64, 16, 16)})["y"].tofile(sys.argv[3])
"""
    words = [str(tiled.folder), str(tmp_path / "x.bin"), str(tmp_path / "python.bin")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    program = tiled.folder / "runner"
    program.chmod(0o755)
    done = call(program, tiled.folder, tmp_path / "x.bin", "--out", tmp_path / "cpp")
    assert (done.returncode, done.stderr) == (0, "")
    ours = np.fromfile(tmp_path / "python.bin", np.float32)
    assert len(set(ours)) > 50
    np.testing.assert_array_equal(ours, np.fromfile(tmp_path / "cpp0.bin", np.float32))


def test_where_linux_gives_no_tiles_the_code_is_refused(tiled: CompiledModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(amx, "request", lambda: False)
    with pytest.raises(ToolchainError, match=r"model\.so needs AMX, which this processor or its Linux does not give"):
        get_backend("tvm").load_model(tiled, RunOptions())


def test_the_cpp_runner_refuses_what_it_cannot_ask_for(compiled: CompiledModel, program: Path, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text((compiled.folder / FILE).read_text().replace("input", "needs magic\ninput", 1))
    done = call(program, tmp_path)
    assert done.returncode == 1
    assert "the model needs magic, which this processor or its Linux does not give" in done.stderr


def test_a_bundle_with_tiles_needs_a_machine_with_them(tiled: CompiledModel) -> None:
    assert {"amx_tile", "amx_int8"} <= set(requirements(tiled, load_target("host-tvm")).isa)


def test_code_for_another_processor_is_refused(compiled: CompiledModel, tmp_path: Path) -> None:
    for name in compiled.files:
        (tmp_path / name).write_bytes((compiled.folder / name).read_bytes())
    data = bytearray((tmp_path / "model.so").read_bytes())
    data[18:20] = (243).to_bytes(2, "little")
    (tmp_path / "model.so").write_bytes(data)
    moved = CompiledModel(**{**vars(compiled), "folder": tmp_path})
    with pytest.raises(ToolchainError, match="machine code for riscv64"):
        get_backend("tvm").load_model(moved, RunOptions())


def test_a_library_that_is_no_model_is_refused_with_tvms_words(compiled: CompiledModel, tmp_path: Path) -> None:
    for name in compiled.files:
        (tmp_path / name).write_bytes((compiled.folder / name).read_bytes())
    (tmp_path / "model.so").write_bytes((tmp_path / "runner").read_bytes())
    moved = CompiledModel(**{**vars(compiled), "folder": tmp_path})
    with pytest.raises(CompileError, match=r"TVM refused model\.so"):
        get_backend("tvm").load_model(moved, RunOptions())


def test_batches_of_several_sizes_are_refused_and_equal_ones_joined(tmp_path: Path) -> None:
    """Exporters give one batch several names, so that only the arrays tell that they do not belong together."""
    sides = [("a", FLOAT, ["N", 3]), ("b", FLOAT, ["M", 3])]
    proto = make([helper.make_node("Add", ["a", "b"], ["y"])], sides, [("y", FLOAT, ["N", 3])], {})
    backend = get_backend("tvm")
    compiled = backend.compile_model(
        save(proto, tmp_path / "m.onnx"), load_target("host-tvm"), "fp32", tmp_path / "out"
    )
    runner = backend.load_model(compiled, RunOptions(threads=1))
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(runner.infer({"a": a, "b": a + 1})["y"], 2 * a + 1)
    with pytest.raises(DataError, match="batches of different sizes"):
        runner.infer({"a": a, "b": np.ones((4, 3), np.float32)})
    runner.close()


def test_a_closed_runner_says_so_also_to_who_kept_its_function(compiled: CompiledModel) -> None:
    runner = get_backend("tvm").load_model(compiled, RunOptions(threads=1))
    infer = runner.infer  # as a loaded model keeps it
    infer(backend_models.feeds("several"))
    runner.close()
    runner.close()
    with pytest.raises(EdgepackError, match="this runner was closed"):
        infer(backend_models.feeds("several"))
