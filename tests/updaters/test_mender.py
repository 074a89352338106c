"""The update module, by Mender's own artifact writer and client; its states by themselves where these are not here."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from updater_cases import PRIVATE, Device, good_bundle, may_mount, needs, wrong_bundle

from edgepack.updaters.export import export_updater

pytestmark = pytest.mark.slow


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path / "device")


def exported(bundle: Path, out: Path) -> Path:
    export_updater(bundle, "mender", out)
    return out


def state(device: Device, module: Path, name: str, files: Path) -> tuple[int, str]:
    done = device.run(module / "edgepack-bundle", name, files)
    return done.returncode, done.stdout + done.stderr


def payload(folder: Path, bundle: Path) -> Path:
    """The folder that Mender's client gives to a module."""
    (folder / "files").mkdir(parents=True)
    (folder / "tmp").mkdir()
    (folder / "files" / "small.edgepack").write_bytes(bundle.read_bytes())
    return folder


def test_the_states_of_the_protocol(tmp_path: Path, device: Device) -> None:
    one, two, wrong = (
        good_bundle(tmp_path / "1"),
        good_bundle(tmp_path / "2", "2.0", 5),
        wrong_bundle(tmp_path / "3", "3.0"),
    )
    module = exported(one, tmp_path / "out")
    first = payload(tmp_path / "first", one)
    assert state(device, module, "NeedsArtifactReboot", first) == (0, "No\n")
    assert state(device, module, "SupportsRollback", first) == (0, "Yes\n")
    assert state(device, module, "ArtifactInstall", first)[0] == 0
    assert device.version == "1.0"
    code, said = state(device, module, "ArtifactRollback", first)
    assert (code, device.version) == (1, "1.0")
    assert "no version was in use before" in said
    second = payload(tmp_path / "second", two)
    assert state(device, module, "ArtifactInstall", second)[0] == 0
    assert device.version == "2.0"
    assert state(device, module, "ArtifactCommit", second) == (0, "")
    assert state(device, module, "ArtifactRollback", second)[0] == 0
    assert device.version == "1.0"
    assert state(device, module, "ArtifactRollback", second)[0] == 0
    assert device.version == "1.0", "a second call changes nothing"
    third = payload(tmp_path / "third", wrong)
    assert state(device, module, "ArtifactInstall", third)[0] == 5
    assert state(device, module, "ArtifactRollback", third)[0] == 0
    assert device.version == "1.0", "what was never in use is not gone back from"


def test_a_payload_that_is_no_bundle_is_refused(tmp_path: Path, device: Device) -> None:
    module = exported(good_bundle(tmp_path), tmp_path / "out")
    (tmp_path / "files" / "files").mkdir(parents=True)
    code, said = state(device, module, "ArtifactInstall", tmp_path / "files")
    assert code == 1
    assert "must hold one .edgepack file" in said


CLIENT = """
mount --bind {modules} /usr/share/mender/modules/v3
mount --bind {etc} /etc/mender
mender --data {store} --config {etc}/mender.conf --no-syslog install {artifact}
mender --data {store} --config {etc}/mender.conf --no-syslog {then}
"""


@needs("mender", "mender-artifact")
@pytest.mark.skipif(not may_mount(), reason="mounts need root")
def test_mender_s_own_client_installs_commits_and_rolls_back(tmp_path: Path, device: Device) -> None:
    """Standalone, without a server. The client's folders are bound over this machine's in a namespace of their own."""
    places = {name: tmp_path / name for name in ("modules", "etc", "store")}
    for place in places.values():
        place.mkdir()
    (places["etc"] / "mender.conf").write_text("{}")
    (places["etc"] / "artifact_info").write_text("artifact_name=first\n")
    (places["store"] / "device_type").write_text("device_type=board\n")
    device.environment["DEVICE_TYPE"] = "board"
    for version, then, left in (("1.0", "commit", "1.0"), ("2.0", "rollback", "1.0"), ("3.0", "commit", "3.0")):
        out = exported(good_bundle(tmp_path / version, version, int(version[0]) + 3), tmp_path / f"out{version}")
        (places["modules"] / "edgepack-bundle").write_text((out / "edgepack-bundle").read_text())
        (places["modules"] / "edgepack-bundle").chmod(0o755)
        assert device.run(out / "write-artifact.sh").returncode == 0
        artifact = out / f"edgepack-small-{version}.mender"
        words = {name: shlex.quote(str(path)) for name, path in (*places.items(), ("artifact", artifact))}
        done = device.run(*PRIVATE, text=CLIENT.format(**words, then=then))
        assert done.returncode == 0, done.stdout + done.stderr
        assert device.version == left
