"""The wheel: what is in it, and that a device needs nothing of the builder's.

The wheel is built without a network. Installing needs a package index for numpy, Click and ONNX Runtime; without one
those tests are skipped with pip's words.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from small_bundles import small_bundle

ROOT = Path(__file__).resolve().parent.parent
BUILDERS = ("rich", "onnx", "torch", "scipy", "msgspec", "jinja2", "onnxslim", "PIL", "openvino")
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input")

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built by Hatchling in this environment."""
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def device(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an empty environment with the wheel, numpy, Click and ONNX Runtime."""
    folder = tmp_path_factory.mktemp("device") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    words = [python, *PIP, "-c", ROOT / "constraints.txt", f"{wheel}[onnxruntime]"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit status {done.returncode}"
        pytest.skip(f"numpy, Click and ONNX Runtime could not be installed: {last}")
    return python


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("bundle"))


def on_device(device: Path, cache: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Run the device's Python with nothing of this environment."""
    environment = {"PATH": os.defpath, "HOME": str(cache), "EDGEPACK_CACHE": str(cache), "LANG": "C.UTF-8"}
    command = [str(word) for word in (device, "-I", *words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=cache)


# --- the wheel --------------------------------------------------------------------------------------------------------


def tracked(folder: str) -> set[str]:
    """Return the project's own files below a folder, as git knows them, or as they lie there without git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0 and done.stdout:
        return {name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()}
    found = (p for p in (ROOT / folder).rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {p.relative_to(ROOT).as_posix() for p in found}


def test_the_wheel_holds_the_package_and_its_data_and_nothing_else(wheel):
    wanted = tracked("edgepack")
    wanted |= {f"edgepack/_data/{name}" for folder in ("targets", "calibration") for name in tracked(folder)}
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert found - wanted == set()
    assert wanted - found == set()


def test_profiles_and_recipes_travel_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for folder in ("targets", "calibration"):
        assert any(name.startswith(f"edgepack/_data/{folder}/") and name.endswith(".toml") for name in names)


def test_no_path_of_this_machine_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            assert str(ROOT).encode() not in archive.read(name), name


def test_installing_it_asks_for_numpy_and_click_only(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        lines = archive.read(name).decode().splitlines()
    needed = [line for line in lines if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert sorted(needed) == ["Requires-Dist: click>=8.4", "Requires-Dist: numpy>=1.24"]
    assert any(line == "License-Expression: Apache-2.0" for line in lines)


# --- the device -------------------------------------------------------------------------------------------------------


def test_nothing_of_the_builder_is_there(device, tmp_path):
    code = "import importlib.util, sys; print([m for m in sys.argv[1:] if importlib.util.find_spec(m)])"
    assert on_device(device, tmp_path, "-c", code, *BUILDERS).stdout == "[]\n"


def test_a_device_verifies_and_runs_a_bundle(device, bundle, tmp_path):
    done = on_device(device, tmp_path, "-m", "edgepack", "verify", bundle, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["passed"] is True
    code = "import numpy, sys; numpy.savez(sys.argv[1], image=numpy.ones((1, 3, 8, 8), numpy.float32))"
    on_device(device, tmp_path, "-c", code, tmp_path / "input.npz")
    done = on_device(device, tmp_path, "-m", "edgepack", "run", bundle, "--input", tmp_path / "input.npz", "--json")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["top5"]) == 5


def test_a_device_benchmarks_a_bundle(device, bundle, tmp_path):
    words = ["benchmark", bundle, "--duration", "300ms", "--warmup", "50ms", "--threads", "1", "--json"]
    done = on_device(device, tmp_path, "-m", "edgepack", *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["queries"] > 0


def test_the_python_interface_on_a_device(device, bundle, tmp_path):
    code = """
import sys
from pathlib import Path
import numpy
from edgepack.runtime.load import load
with load(Path(sys.argv[1])) as model:
    print(model.backend, model.infer({"image": numpy.ones((2, 3, 8, 8), numpy.float32)})["scores"].shape)
"""
    done = on_device(device, tmp_path, "-c", code, bundle)
    assert done.stdout == "onnxruntime (2, 5)\n", done.stderr


def test_the_installed_program(device, bundle, tmp_path):
    program = device.with_name("edgepack")
    environment = {"PATH": os.defpath, "HOME": str(tmp_path), "EDGEPACK_CACHE": str(tmp_path)}
    done = subprocess.run([program, "inspect", bundle], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "small 1.0 for test-board" in done.stdout


def test_a_damaged_bundle_on_a_device(device, bundle, tmp_path):
    data = bytearray(bundle.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "damaged.edgepack").write_bytes(data)
    done = on_device(device, tmp_path, "-m", "edgepack", "verify", tmp_path / "damaged.edgepack")
    assert done.returncode in (2, 5)
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_command_of_the_builder_on_a_device(device, tmp_path):
    done = on_device(device, tmp_path, "-m", "edgepack", "build", "model.onnx")
    assert done.returncode == 3
    assert "pip install 'edgepack[builder]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_profiles_and_recipes_are_found_where_they_were_installed(device, tmp_path):
    code = "from edgepack.engines.targets import list_targets; print(len(list_targets()) > 3)"
    assert on_device(device, tmp_path, "-c", code).stdout == "True\n"
