"""What export-updater writes for every kind, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from program import main
from updater_cases import Device, good_bundle, wrong_bundle

from edgepack.base.files import sha256_file
from edgepack.errors import ConfigError, EdgepackError, StorageError
from edgepack.updaters import UPDATERS, deb
from edgepack.updaters.export import export_updater
from edgepack.updaters.script import Update, shared

FILES = {
    "deb": {"edgepack-small_1.0_all.deb"},
    "mender": {"edgepack-bundle", "small.edgepack", "write-artifact.sh"},
    "rauc": {"input/hook.sh", "input/manifest.raucm", "input/small.img", "slot.conf"},
    "sysext": {
        "edgepack-small/usr/lib/edgepack/small/install",
        "edgepack-small/usr/lib/edgepack/small/small.edgepack",
        "edgepack-small/usr/lib/extension-release.d/extension-release.edgepack-small",
        "edgepack-small/usr/lib/systemd/system/edgepack-small.service",
    },
}


@pytest.mark.parametrize("kind", UPDATERS)
def test_every_kind_has_its_files_the_same_each_time(kind: str, tmp_path: Path) -> None:
    bundle = good_bundle(tmp_path)
    found = export_updater(bundle, kind, tmp_path / "one", health="true")
    export_updater(bundle, kind, tmp_path / "two", health="true")
    assert set(found.files) == FILES[kind]
    assert found.next
    for name in found.files:
        assert sha256_file(tmp_path / "one" / name) == sha256_file(tmp_path / "two" / name)


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,40}", fullmatch=True))
def test_a_package_s_name_is_one_that_packages_and_units_may_have(name: str) -> None:
    assert re.fullmatch(r"edgepack-[a-z0-9.-]+", package_of(name))


def test_two_models_never_have_one_package() -> None:
    names = [
        "my_model",
        "my-model",
        "my.model",
        "My_Model",
        "my__model",
        "my-_model",
        "my_-model",
        "MY-MODEL",
        "my-model-",
    ]
    assert len({package_of(name) for name in names}) == len(names)
    assert package_of("my-model.2") == "edgepack-my-model.2", "what may stand as it is does"


def package_of(name: str) -> str:
    return Update(Path("x"), name, "1", "board", "/data", "", 30).package


@pytest.mark.parametrize("kind", UPDATERS)
def test_nothing_is_left_of_what_is_refused(kind: str, tmp_path: Path) -> None:
    bundle = good_bundle(tmp_path)
    damaged = tmp_path / "damaged.edgepack"
    damaged.write_bytes(bundle.read_bytes()[:-1])
    (tmp_path / "there").mkdir()
    with pytest.raises(EdgepackError):
        export_updater(damaged, kind, tmp_path / "new")
    with pytest.raises(StorageError, match="already exists"):
        export_updater(bundle, kind, tmp_path / "there")
    for root in ("relative", "/a/../b", "/a\nb"):
        with pytest.raises(ConfigError, match="absolute path"):
            export_updater(bundle, kind, tmp_path / "new", root=root)
    with pytest.raises(ConfigError, match="not one that packages can have"):
        export_updater(good_bundle(tmp_path / "v", version="v1"), kind, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["export-updater", str(good_bundle(tmp_path)), "--kind", "deb", "-o", str(tmp_path / "out"), "--json"]
    assert main(words) == 0
    ran = capfd.readouterr()
    assert json.loads(ran.out)["files"] == ["edgepack-small_1.0_all.deb"]
    assert "dpkg -i" in ran.err


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=30),
    st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=30),
)
def test_no_text_leaves_its_place_in_a_script(root: str, health: str) -> None:
    """Whatever a path or a command holds, the shell has it as one word."""
    update = Update(Path("x"), "n", "1", "t", root, health, 5.0)
    code = shared(update) + '\nprintf "%s\\n" "$root" "$health" "$window"\n'
    done = subprocess.run(
        ["sh", "-euc", code], capture_output=True, env={"EDGEPACK_UPDATER_CONFIG": "/nowhere"}, check=True
    )
    assert done.stdout.decode().split("\n") == [root, health, "5s", ""]


HOSTILE = "/a b; touch MARK; $(touch MARK) `touch MARK` '\"\\\\ && touch MARK | * ? ~ {x} {{y}} %s -n"


def called(kind: str, bundle: Path, out: Path, health: str) -> tuple[list[str], dict[str, str], str]:
    """Export a bundle; return the call of the script that installs, its variables, and the bundle that it installs."""
    if kind == "deb":
        update = Update(bundle, "small", "1.0", "x86", HOSTILE, health, 60.0)
        out.mkdir()
        for name, (text, _) in deb._control(update, "x").items():
            (out / name).write_text(text)
        return [str(out / "postinst"), "configure"], {}, "/usr/lib/edgepack/small/small.edgepack"
    export_updater(bundle, kind, out, root=HOSTILE, health=health)
    if kind == "rauc":
        image = f"{HOSTILE}.img"
        variables = {"RAUC_SLOT_CLASS": "edgepack", "RAUC_IMAGE_NAME": image}
        return [str(out / "input" / "hook.sh"), "slot-install"], variables, image
    if kind == "mender":
        files = out / HOSTILE.replace("/", "")
        for name in ("files", "tmp"):
            (files / name).mkdir(parents=True)
        (files / "files" / "x y.edgepack").touch()
        return [str(out / "edgepack-bundle"), "ArtifactInstall", str(files)], {}, f"{files}/files/x y.edgepack"
    return [str(next(out.rglob("install"))), HOSTILE], {}, HOSTILE


@pytest.mark.parametrize("kind", UPDATERS)
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_names_and_commands_run_nothing_by_themselves(kind: str, shell: str, tmp_path: Path) -> None:
    """The program gets them as they are, and nothing else is run."""
    health = f"{HOSTILE}\ntouch MARK\n"
    words, variables, bundle = called(kind, good_bundle(tmp_path / "b"), tmp_path / "out", health)
    program, here = tmp_path / "program", tmp_path / "here"
    program.write_text(f"#!/bin/sh\nprintf '%s\\0' \"$@\" >{tmp_path}/said\n")
    program.chmod(0o755)
    here.mkdir()
    (tmp_path / "updater.conf").write_text(f"program={program}\n")
    environment = {**os.environ, **variables, "EDGEPACK_UPDATER_CONFIG": str(tmp_path / "updater.conf")}
    for script in (p for p in (tmp_path / "out").rglob("*") if p.is_file() and p.read_bytes()[:9] == b"#!/bin/sh"):
        subprocess.run([shell, "-n", script], check=True)
    subprocess.run([shell, *words], env=environment, cwd=here, check=True, capture_output=True)
    said = (tmp_path / "said").read_text().split("\0")[:-1]
    assert said == ["install", bundle, "--root", HOSTILE, "--wait", "120s", "--health", health, "--window", "60s"]
    assert list(here.iterdir()) == []


@pytest.mark.slow
def test_what_is_wrong_is_not_put_in_use_and_the_health_command_counts(tmp_path: Path) -> None:
    device = Device(tmp_path / "device")
    for name, bundle, health, code, version in (
        ("one", good_bundle(tmp_path / "1"), "", 0, "1.0"),
        ("two", wrong_bundle(tmp_path / "2"), "", 5, "1.0"),
        ("three", good_bundle(tmp_path / "3", "3.0", 5), "test $EDGEPACK_VERSION = 4.0", 5, "1.0"),
        ("four", good_bundle(tmp_path / "4", "4.0", 6), "test $EDGEPACK_VERSION = 4.0", 0, "4.0"),
    ):
        place = tmp_path / name
        export_updater(bundle, "sysext", place, health=health, window_s=1)
        script = next(place.rglob("install"))
        assert device.run(script, script.parent / "small.edgepack").returncode == code, shlex.quote(name)
        assert device.version == version
