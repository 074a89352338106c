"""libedgepack for aarch64 under qemu-user: it checks bundles with the same words, and runs and verifies one of TVM."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packed_models import random_samples
from small_bundles import onnx_outputs, small_bundle, small_facts, small_onnx

from edgepack.bundle.archive import open_bundle
from edgepack.bundle.pack import pack
from edgepack.cpp.library import export_library
from edgepack.engines import get_backend
from edgepack.engines.targets import load_target
from edgepack.errors import EdgepackError, ToolchainError
from edgepack.graph.load import load_model
from edgepack.verify.golden import Golden, write_golden
from edgepack.verify.tolerance import widest

ROOT = Path(__file__).resolve().parent.parent.parent
PLACE = Path(os.environ.get("EDGEPACK_AARCH64", ROOT / ".aarch64"))
TARGET = "generic-aarch64-tvm"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(4000),
    pytest.mark.skipif(
        not (PLACE / "packages" / "numpy").is_dir(), reason="no aarch64 system in .aarch64: run 'make test-aarch64'"
    ),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    given = os.environ.get("EDGEPACK_AARCH64_LIBRARY")  # one that was exported before
    folder = Path(given) if given else tmp_path_factory.mktemp("library") / "out"
    if not given:
        export_library(folder, "aarch64", "2.31")
    return folder / "bin" / "edgepack-run"


def run(program: Path, *words: object, cpu: str = "cortex-a53") -> subprocess.CompletedProcess[str]:
    qemu = PLACE / "host/usr/bin/qemu-aarch64-static"
    environment = {
        "LD_LIBRARY_PATH": str(PLACE / "root/usr/lib/aarch64-linux-gnu"),
        "EDGEPACK_ALLOW_NATIVE": "1",
    }
    command = [str(word) for word in (qemu, "-L", PLACE / "root", "-cpu", cpu, program, *words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=environment)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a bundle of TVM for aarch64, and its ONNX file."""
    folder = tmp_path_factory.mktemp("bundle")
    model = load_model(small_onnx(folder / "onnx" / "model.onnx"))
    target = load_target(TARGET)
    try:
        compiled = get_backend("tvm").compile_model(model, target, "fp32", folder / "compiled")
    except ToolchainError as error:
        pytest.skip(f"{error.message}: {error.hint}")
    samples = random_samples([("image", (1, 3, 8, 8))])
    outputs: list[dict[str, Any]] = [onnx_outputs(model.path, sample) for sample in samples]
    golden = Golden(tuple(samples), tuple(outputs), {"scores": widest("fp32")})
    path = pack(compiled, write_golden(golden, folder / "golden.npz"), small_facts(target=target), folder)
    return path, model.path


def test_a_bundle_of_tvm_is_verified(program: Path, bundle: tuple[Path, Path]) -> None:
    done = run(program, "verify", bundle[0])
    assert done.returncode == 0, done.stderr
    assert "passed: 2 golden vectors on tvm" in done.stdout


def test_a_batch_is_run(program: Path, bundle: tuple[Path, Path], tmp_path: Path) -> None:
    sample = random_samples([("image", (3, 3, 8, 8))], 1)[0]
    np.savez(tmp_path / "in.npz", **sample)
    done = run(program, "run", bundle[0], "--input", tmp_path / "in.npz", "--out", tmp_path / "out.npz")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out.npz") as found:
        np.testing.assert_allclose(found["scores"], onnx_outputs(bundle[1], sample)["scores"], rtol=1e-4, atol=1e-5)


def test_hostile_bundles_are_refused_with_the_same_words(program: Path, tmp_path: Path) -> None:
    from fuzz_damage import members_of
    from hostile_archives import CASES

    members = members_of(small_bundle(tmp_path / "good").read_bytes())
    paths, wanted = [], []
    for number, case in enumerate(CASES):
        path = tmp_path / f"{number}.edgepack"
        path.write_bytes(case.make(members))
        with pytest.raises(EdgepackError) as caught:
            open_bundle(path)
        paths.append(path)
        wanted.append(f"error: {caught.value.message}")
    done = run(program, "check", *paths)
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert said == wanted


def test_an_engine_that_is_not_there_is_named(program: Path, tmp_path: Path) -> None:
    done = run(program, "verify", small_bundle(tmp_path))
    assert done.returncode == 3
    assert "ONNX Runtime is not installed" in done.stderr
