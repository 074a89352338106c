"""Bundles as updaters bring them, and a device for each updater's real program: an installation in a folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from small_bundles import small_bundle, small_compiled, small_facts, small_golden

from edgepack.bundle.pack import pack

PRIVATE = ["unshare", "--mount", "sh", "-e"]  # a mount namespace: what is mounted there, this machine does not see


def needs(*programs: str) -> Any:
    """Skip where a program is not installed, or mounts need a right that this user does not have."""
    lacking = [name for name in programs if shutil.which(name) is None]
    return pytest.mark.skipif(bool(lacking), reason=f"not installed: {', '.join(lacking)}")


def may_mount() -> bool:
    words = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return (
        shutil.which("unshare") is not None and subprocess.run(words, capture_output=True, check=False).returncode == 0
    )


def good_bundle(folder: Path, version: str = "1.0", channels: int = 4) -> Path:
    return small_bundle(folder, channels, version=version)


def wrong_bundle(folder: Path, version: str = "2.0") -> Path:
    """Pack a model with the golden vectors of another one: it must never be put in use."""
    compiled = small_compiled(folder / "compiled")
    other = small_compiled(folder / "other", channels=3)
    golden = small_golden(other.folder / "model.onnx", folder / "golden.npz")
    return pack(compiled, golden, small_facts(version=version), folder)


class Device:
    """An installation below ``folder``, and the settings by which an updater's scripts find it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.root = folder, folder / "root"
        self.config = folder / "updater.conf"
        self.config.write_text(f"root={self.root}\nprogram='{sys.executable} -m edgepack'\n")
        self.environment = {
            **os.environ,
            "EDGEPACK_UPDATER_CONFIG": str(self.config),
            "EDGEPACK_CACHE": str(folder / "cache"),
        }

    def run(self, *words: object, text: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(word) for word in words], input=text, capture_output=True, text=True, check=False, timeout=240,
            env=self.environment, cwd=self.folder,
        )  # fmt: skip

    @property
    def version(self) -> str | None:
        """The version in use."""
        import json

        record = self.root / "current" / "install.json"
        return str(json.loads(record.read_text())["version"]) if record.is_file() else None
