"""The hooks for other projects: the command of each on good files and bad ones, as pre-commit would call it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_bundles import small_onnx

ROOT = Path(__file__).resolve().parent.parent
GOOD = 'id = "good"\ntitle = "a board"\nbackend = "onnxruntime"\narch = "aarch64"\n'


@pytest.fixture(scope="module")
def hooks() -> dict[str, dict[str, Any]]:
    yaml = pytest.importorskip("ruamel.yaml", reason="ruamel.yaml is not installed; it comes with check-jsonschema")
    return {hook["id"]: hook for hook in yaml.YAML(typ="safe").load(ROOT / ".pre-commit-hooks.yaml")}


def run(hook: dict[str, Any], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a hook's command with its arguments and files, with the edgepack under test on the path."""
    program = folder / "bin" / "edgepack"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m edgepack "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    command = [*shlex.split(hook["entry"]), *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_every_hook_installs_an_extra_that_there_is_and_says_what_it_does(hooks: dict[str, dict[str, Any]]) -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for hook in hooks.values():
        (needed,) = hook["additional_dependencies"]
        assert needed.removeprefix(".[").removesuffix("]") in extras
        assert hook["description"].endswith(".")


@pytest.mark.slow
def test_profiles_are_checked_and_every_bad_one_is_named(hooks: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "targets").mkdir()
    files = {
        "targets/good.toml": GOOD,
        "targets/bad.toml": GOOD.replace("onnxruntime", "onnxrutime"),
        "targets/worse one.toml": GOOD.replace("title", "tilte"),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = run(hooks["edgepack-targets"], tmp_path, *files)
    assert done.returncode == 1
    assert "did you mean 'onnxruntime'?" in done.stderr
    assert "worse one.toml" in done.stderr
    assert "good.toml" not in done.stderr
    done = run(hooks["edgepack-targets"], tmp_path, "targets/good.toml")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_models_are_checked_against_the_target_of_the_arguments(
    hooks: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    small_onnx(tmp_path / "a model.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    options = ("--target", "jetson-orin-nano-jp6")
    done = run(hooks["edgepack-check"], tmp_path, *options, "bad.onnx", "a model.onnx")
    assert done.returncode == 1
    assert "bad.onnx" in done.stderr
    assert "a model.onnx: no problem found for jetson-orin-nano-jp6" in done.stdout


@pytest.mark.slow
def test_copies_among_the_samples_fail_the_hook(hooks: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    small_onnx(tmp_path / "model.onnx")
    x = np.random.default_rng(0).standard_normal((10, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "copies.npz", image=np.repeat(x, 30, axis=0))
    done = run(hooks["edgepack-lint"], tmp_path, "model.onnx", "--data", "copies.npz")
    assert done.returncode == 2
    assert "copies" in done.stderr
