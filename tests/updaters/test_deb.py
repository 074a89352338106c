"""The Debian package, by Debian's own dpkg: read, installed, refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from updater_cases import Device, good_bundle, needs, wrong_bundle

from edgepack.updaters.export import export_updater

pytestmark = [needs("dpkg", "dpkg-deb"), pytest.mark.slow]
# The scripts run here and not in a chroot, which would need a whole Debian below the folder.
DPKG = ("--force-script-chrootless", "--force-depends", "--force-not-root", "--log=/dev/null")


@pytest.fixture
def device(tmp_path: Path) -> Device:
    found = Device(tmp_path / "device")
    for folder in ("info", "updates"):
        (found.folder / "var/lib/dpkg" / folder).mkdir(parents=True)
    for file in ("status", "available"):
        (found.folder / "var/lib/dpkg" / file).touch()
    return found


def package(bundle: Path, out: Path) -> Path:
    (name,) = export_updater(bundle, "deb", out).files
    return out / name


def state(device: Device) -> str:
    return device.run(
        "dpkg-query", f"--root={device.folder}", "-W", "-f", "${Status} ${Version}", "edgepack-small"
    ).stdout


def test_dpkg_reads_it(tmp_path: Path, device: Device) -> None:
    bundle = good_bundle(tmp_path)
    path = package(bundle, tmp_path / "out")
    assert device.run("dpkg-deb", "--field", path, "Package", "Version", "Architecture").stdout.split("\n")[:3] == [
        "Package: edgepack-small", "Version: 1.0", "Architecture: all",
    ]  # fmt: skip
    assert device.run("dpkg-deb", "--extract", path, tmp_path / "unpacked").returncode == 0
    (held,) = (tmp_path / "unpacked").rglob("*.edgepack")
    assert held.read_bytes() == bundle.read_bytes()
    listed = device.run("dpkg-deb", "--contents", path).stdout
    assert all(line.split()[1] == "root/root" for line in listed.splitlines())


def test_it_is_installed_upgraded_and_a_wrong_one_is_not_put_in_use(tmp_path: Path, device: Device) -> None:
    for i, (bundle, code, version, said) in enumerate((
        (good_bundle(tmp_path / "1"), 0, "1.0", "install ok installed 1.0"),
        (good_bundle(tmp_path / "2", "1.1", 5), 0, "1.1", "install ok installed 1.1"),
        (wrong_bundle(tmp_path / "3"), 1, "1.1", "install ok half-configured 2.0"),
    )):  # fmt: skip
        path = package(bundle, tmp_path / f"out{i}")
        done = device.run("dpkg", f"--root={device.folder}", *DPKG, "--install", path)
        assert done.returncode == code, done.stderr
        assert device.version == version
        assert state(device) == said
    assert "computes wrong values here" in done.stderr


def test_a_device_without_edgepack_is_told_before_anything_is_unpacked(tmp_path: Path, device: Device) -> None:
    device.config.write_text("program=/nowhere/edgepack\n")
    path = package(good_bundle(tmp_path), tmp_path / "out")
    done = device.run("dpkg", f"--root={device.folder}", *DPKG, "--install", path)
    assert done.returncode == 1
    assert "edgepack is not installed for root" in done.stderr
    assert not list((device.folder / "usr").rglob("*.edgepack"))
