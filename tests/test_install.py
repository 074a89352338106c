"""Every role in an environment of its own, with every Python that is here: ``make test-install``.

Each installs the wheel with one extra from the package index, does what the role is for, and says how large it is.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_bundles import small_bundle, small_onnx

ROOT = Path(__file__).resolve().parent.parent
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
BUILDERS = {"builder": "onnxruntime", "builder-openvino": "openvino", "builder-tvm": "tvm"}
DEVICES = ("device-onnxruntime", "device-openvino", "device-tvm", "device-tensorrt")

pytestmark = [pytest.mark.long, pytest.mark.own, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built by Hatchling in this environment."""
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    return next(out.glob("*.whl"))


class Role:
    """An environment with one extra; ``run`` starts edgepack there with nothing of this environment."""

    def __init__(self, wheel: Path, extra: str, version: str, folder: Path) -> None:
        """Install it, or skip with pip's words where the index cannot be asked."""
        found = shutil.which(f"python{version}")
        # A version manager's stand-in is there for versions that are not.
        starts = found is not None and subprocess.run([found, "--version"], capture_output=True, check=False)
        if found is None or not starts or starts.returncode:
            pytest.skip(f"there is no Python {version} here")
        self.folder = folder
        subprocess.run([found, "-m", "venv", folder / "venv"], check=True)
        self.python = folder / "venv" / "bin" / "python"
        words = [self.python, *PIP, "-c", ROOT / "constraints.txt", f"{wheel}[{extra}]"]
        done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
        if done.returncode and not _reaches_the_index(done.stderr):
            pytest.skip(f"the package index cannot be asked: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, done.stderr

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.defpath, "HOME": str(self.folder), "LANG": "C.UTF-8"}
        command = [str(word) for word in (self.python, "-I", "-m", "edgepack", *words)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=self.folder)

    def tell_size(self, what: str) -> None:
        """Print how large it is without pip itself, as the table in docs/install.md says it."""
        packages = next((self.folder / "venv" / "lib").glob("python*")) / "site-packages"
        files = [p for p in packages.rglob("*") if p.is_file() and p.relative_to(packages).parts[0] != "pip"]
        print(f"\n{what}: {sum(p.stat().st_size for p in files) / 1e6:.0f} MB installed")


def _reaches_the_index(words: str) -> bool:
    return not any(word in words for word in ("Temporary failure", "NewConnectionError", "ConnectTimeout", "MaxRetry"))


@pytest.mark.parametrize("version", PYTHONS)
@pytest.mark.parametrize("extra", BUILDERS)
def test_a_builder_builds_for_its_engine(wheel: Path, extra: str, version: str, tmp_path: Path) -> None:
    role = Role(wheel, extra, version, tmp_path)
    role.tell_size(f"{extra} on Python {version}")
    small_onnx(tmp_path / "model.onnx")
    shapes = ("--shape", "image=1,3,8,8")
    done = role.run("build", "model.onnx", *shapes, "--target", f"host-{BUILDERS[extra]}", "--precision", "fp32",
                    "--no-benchmark", "--out", "out", "--json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [row["status"] for row in json.loads(done.stdout)["rows"]] == ["ok"]


@pytest.mark.parametrize("version", PYTHONS)
@pytest.mark.parametrize("extra", DEVICES)
def test_a_device_has_what_its_bundles_need(wheel: Path, extra: str, version: str, tmp_path: Path) -> None:
    role = Role(wheel, extra, version, tmp_path)
    role.tell_size(f"{extra} on Python {version}")
    assert role.run("status", "--root", tmp_path / "none").returncode in (0, 2)
    if extra == "device-onnxruntime":
        done = role.run("verify", small_bundle(tmp_path / "bundle"), "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["passed"] is True
    engine = extra.removeprefix("device-")
    if engine in ("onnxruntime", "openvino"):
        assert f'"name": "{engine}"' in role.run("doctor", "--json").stdout
    refused = role.run("build", "model.onnx", "--target", "host-onnxruntime")
    assert refused.returncode == 3
    assert "edgepack[builder]" in refused.stderr, "a device says what a builder needs"
