"""The RAUC bundle, by RAUC itself: written, verified and installed by its service, on a bus of its own."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from updater_cases import PRIVATE, Device, good_bundle, may_mount, needs, wrong_bundle

from edgepack.updaters.export import export_updater

pytestmark = pytest.mark.slow

SYSTEM = """\
[system]
compatible=test-board
bootloader=noop
statusfile={folder}/status
[keyring]
path={folder}/cert.pem
[slot.system.0]
device={folder}/root.slot
type=raw
bootname=system0
"""
SERVICE = """
export DBUS_SYSTEM_BUS_ADDRESS=$DBUS_SESSION_BUS_ADDRESS
rauc --override-boot-slot=system0 -c {folder}/system.conf --mount={folder}/mnt service &
for i in 1 2 3 4 5 6 7 8 9 10; do rauc status >/dev/null 2>&1 && break; sleep 0.5; done
code=0
rauc install {bundle} || code=$?
kill $!
exit $code
"""


@pytest.fixture
def device(tmp_path: Path) -> Device:
    found = Device(tmp_path / "device")
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-days", "30"]
    subprocess.run([*words, "-keyout", found.folder / "key.pem", "-out", found.folder / "cert.pem"], check=True,
                   capture_output=True)  # fmt: skip
    (found.folder / "mnt").mkdir()
    return found


def written(device: Device, bundle: Path, out: Path) -> Path:
    export_updater(bundle, "rauc", out, root=str(device.root))
    done = device.run("rauc", "bundle", "--cert", "cert.pem", "--key", "key.pem", out / "input", out / "small.raucb")
    assert done.returncode == 0, done.stderr
    return out / "small.raucb"


@needs("rauc", "mksquashfs", "openssl")
def test_rauc_writes_and_verifies_it(tmp_path: Path, device: Device) -> None:
    path = written(device, good_bundle(tmp_path), tmp_path / "out")
    done = device.run("rauc", "info", "--keyring", "cert.pem", path)
    assert done.returncode == 0, done.stderr
    assert "'test-board'" in done.stdout
    assert "Hooks:     install" in done.stdout


@needs("rauc", "mksquashfs", "openssl", "dbus-run-session")
@pytest.mark.skipif(not may_mount(), reason="mounts need root")
def test_rauc_s_service_installs_it(tmp_path: Path, device: Device) -> None:
    for i, (bundle, code, version) in enumerate((
        (good_bundle(tmp_path / "1"), 0, "1.0"),
        (good_bundle(tmp_path / "2", "1.1", 5), 0, "1.1"),
        (wrong_bundle(tmp_path / "3"), 1, "1.1"),
    )):  # fmt: skip
        path = written(device, bundle, tmp_path / f"out{i}")
        slot = (path.parent / "slot.conf").read_text()
        (device.folder / "system.conf").write_text(SYSTEM.format(folder=device.folder) + slot)
        (device.folder / "root.slot").write_bytes(bytes(1 << 20))
        script = tmp_path / "service.sh"
        script.write_text(SERVICE.format(folder=shlex.quote(str(device.folder)), bundle=shlex.quote(str(path))))
        done = device.run(*PRIVATE, text=f"exec dbus-run-session -- sh {shlex.quote(str(script))}")
        assert done.returncode == code, done.stdout + done.stderr
        assert device.version == version


def test_the_hook_refuses_other_slots_and_calls(tmp_path: Path, device: Device) -> None:
    export_updater(good_bundle(tmp_path), "rauc", tmp_path / "out")
    hook = tmp_path / "out" / "input" / "hook.sh"
    device.environment |= {"RAUC_SLOT_CLASS": "rootfs", "RAUC_IMAGE_NAME": str(tmp_path / "small.edgepack")}
    assert "no bundle for the slot class rootfs" in device.run(hook, "slot-install").stderr
    assert "unknown call slot-pre-install" in device.run(hook, "slot-pre-install").stderr
    device.environment["RAUC_SLOT_CLASS"] = "edgepack"
    assert device.run(hook, "slot-install").returncode == 0
    assert device.version == "1.0"
