"""Finds shipped data (target profiles, recipes), in the source tree or in the wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
DATA = _PACKAGE / "_data" if (_PACKAGE / "_data").is_dir() else _PACKAGE.parent


def targets_folder() -> Path:
    """Return the folder of device profiles, ``<id>.toml`` each."""
    return DATA / "targets"


def package_folder() -> Path:
    """Return the folder of the package itself, for files that are not Python."""
    return _PACKAGE


def calibration_folder() -> Path:
    """Return the folder of recipes, ``<name>.toml`` each."""
    return DATA / "calibration"
