"""The system extension, by systemd's own tools: merged over /usr in a namespace of its own, and its unit checked."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from updater_cases import PRIVATE, Device, good_bundle, may_mount, needs

from edgepack.updaters.export import export_updater

pytestmark = pytest.mark.slow

MERGE = """
mount --make-rshared /
mount -t tmpfs none /run
mkdir /run/extensions
cp -r {folder}/edgepack-small /run/extensions/
systemd-sysext merge
trap 'systemd-sysext unmerge' EXIT
test -f /usr/lib/edgepack/small/small.edgepack
systemd-analyze verify /usr/lib/systemd/system/edgepack-small.service
/usr/lib/edgepack/small/install
"""


@needs("systemd-sysext", "systemd-analyze")
@pytest.mark.skipif(not may_mount(), reason="mounts need root")
def test_systemd_merges_it_and_its_script_installs(tmp_path: Path) -> None:
    device = Device(tmp_path / "device")
    export_updater(good_bundle(tmp_path), "sysext", tmp_path / "out")
    done = device.run(*PRIVATE, text=MERGE.format(folder=shlex.quote(str(tmp_path / "out"))))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Merged extensions into '/usr'" in done.stdout + done.stderr
    assert device.version == "1.0"
    assert not Path("/usr/lib/edgepack/small").exists(), "nothing of it is on this machine"


@needs("mksquashfs", "unsquashfs")
def test_it_is_an_image_too(tmp_path: Path) -> None:
    device = Device(tmp_path / "device")
    export_updater(good_bundle(tmp_path), "sysext", tmp_path / "out")
    words = ("mksquashfs", tmp_path / "out" / "edgepack-small", tmp_path / "small.raw", "-all-root", "-quiet")
    assert device.run(*words).returncode == 0
    assert "usr/lib/edgepack/small/small.edgepack" in device.run("unsquashfs", "-ls", tmp_path / "small.raw").stdout
