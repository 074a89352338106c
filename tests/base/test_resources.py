"""Shipped data are found, in the source tree and in a wheel."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

from edgepack.base import resources


def test_profiles_and_recipes_are_there() -> None:
    assert (resources.targets_folder() / "raspberry-pi-5.toml").is_file()
    assert list(resources.calibration_folder().glob("*.toml"))
    assert (resources.package_folder() / "base" / "resources.py").is_file()


def test_a_wheel_holds_them_inside_the_package(tmp_path: Path) -> None:
    package = tmp_path / "edgepack"
    (package / "base").mkdir(parents=True)
    (package / "_data" / "targets").mkdir(parents=True)
    shutil.copy(str(sys.modules[resources.__name__].__file__), package / "base" / "resources.py")
    spec = importlib.util.spec_from_file_location("installed_resources", package / "base" / "resources.py")
    assert spec is not None
    assert spec.loader is not None
    installed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(installed)
    assert installed.targets_folder() == package / "_data" / "targets"
    assert installed.calibration_folder() == package / "_data" / "calibration"
    assert installed.package_folder() == package
