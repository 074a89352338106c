"""Bundles on disk: the same bytes every time, readable by other tools, and refused when anything in them is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import stat
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hostile_archives import zip_of
from small_bundles import small_bundle

from edgepack.bundle.archive import copy_member, measure, open_bundle, read_member, write_archive
from edgepack.bundle.layout import SIGNATURE, Member, in_order, lay_out
from edgepack.errors import BundleError, EdgepackError, IntegrityError, StorageError


def parts(path: Path) -> dict[str, bytes]:
    """Return the members of a good bundle."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def assemble(members: dict[str, bytes]) -> bytes:
    """Return an archive in the layout of a bundle, whatever its members say."""
    layout = lay_out(Member(name, len(members[name]), zlib.crc32(members[name])) for name in in_order(members))
    pieces = [header + members[member.name] for member, header in zip(layout.members, layout.headers, strict=True)]
    return b"".join(pieces) + layout.tail


def edit_manifest(members: dict[str, bytes], **changes: object) -> dict[str, bytes]:
    manifest = {**json.loads(members["manifest.json"]), **changes}
    return {**members, "manifest.json": json.dumps(manifest).encode()}


def refused(tmp_path: Path, data: bytes, kind: type[EdgepackError], words: str) -> EdgepackError:
    path = tmp_path / "hostile.edgepack"
    path.write_bytes(data)
    with pytest.raises(kind, match=words) as caught:
        open_bundle(path)
    assert type(caught.value) is kind
    assert caught.value.hint
    return caught.value


# --- good bundles -----------------------------------------------------------------------------------------------------


def test_opening_gives_manifest_members_and_digests(bundle_path):
    bundle = open_bundle(bundle_path)
    data = bundle_path.read_bytes()
    assert bundle.manifest.name == "small"
    assert bundle.sha256 == hashlib.sha256(data).hexdigest()
    assert bundle.size_bytes == len(data)
    assert list(bundle.members) == ["manifest.json", "golden.npz", "model/onnxruntime/model.onnx", "sbom.cdx.json"]
    assert bundle.manifest_sha256 == hashlib.sha256(read_member(bundle, "manifest.json")).hexdigest()
    for entry in bundle.manifest.files:
        assert hashlib.sha256(read_member(bundle, entry.path)).hexdigest() == entry.sha256


def test_same_inputs_same_bytes(tmp_path):
    first, second = small_bundle(tmp_path / "a"), small_bundle(tmp_path / "b" / "deeper")
    assert first.read_bytes() == second.read_bytes()


def test_bytes_do_not_depend_on_the_process(bundle_path, tmp_path):
    code = f"import sys; sys.path[:] = {sys.path!r}; from small_bundles import small_bundle; from pathlib import Path; "
    code += f"small_bundle(Path({str(tmp_path)!r}))"
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "TZ": "Asia/Tokyo"}
    subprocess.run([sys.executable, "-c", code], check=True, umask=0o077, env=environment)
    made = tmp_path / "small.edgepack"
    assert made.read_bytes() == bundle_path.read_bytes()
    assert stat.S_IMODE(made.stat().st_mode) == 0o600  # as the umask says


def test_zipfile_and_unzip_read_it(bundle_path, tmp_path):
    with zipfile.ZipFile(bundle_path) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[0] == "manifest.json"
        assert archive.namelist()[1:] == sorted(archive.namelist()[1:])
    if not shutil.which("unzip"):
        pytest.skip("unzip is not installed")
    subprocess.run(["unzip", "-q", bundle_path, "-d", tmp_path], check=True)
    found = {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert found == parts(bundle_path)


def test_a_member_can_be_mapped_from_the_file(bundle_path):
    bundle = open_bundle(bundle_path)
    member = bundle.members["model/onnxruntime/model.onnx"]
    assert member.offset % 16384 == 0
    mapped = np.memmap(bundle.path, np.uint8, mode="r", offset=member.offset, shape=(member.size_bytes,))
    assert mapped.tobytes() == read_member(bundle, "model/onnxruntime/model.onnx")


def test_members_are_compared_again_when_they_are_read(bundle_path, tmp_path):
    path = Path(shutil.copy(bundle_path, tmp_path))
    bundle = open_bundle(path)
    data = bytearray(path.read_bytes())
    data[bundle.members["golden.npz"].offset + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"golden\.npz"):
        read_member(bundle, "golden.npz")
    with path.open("rb") as file, (tmp_path / "out").open("wb") as out, pytest.raises(IntegrityError):
        copy_member(bundle, "golden.npz", file, out)


def test_a_signature_may_be_there_and_is_not_listed(bundle_path, tmp_path):
    signed = tmp_path / "signed.edgepack"
    signed.write_bytes(assemble({**parts(bundle_path), SIGNATURE: b'{"payload": ""}'}))
    assert SIGNATURE in open_bundle(signed).members


def test_a_file_that_changes_while_it_is_packed(tmp_path):
    source = tmp_path / "weights"
    source.write_bytes(b"first")
    measured = measure(source)
    source.write_bytes(b"other")
    with pytest.raises(IntegrityError, match="changed while"):
        write_archive(tmp_path / "x.edgepack", b"{}", {"weights": measured})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["weights"]


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(handle: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    source = tmp_path / "weights"
    source.write_bytes(b"x")
    with pytest.raises(StorageError, match="no space left"):
        write_archive(tmp_path / "x.edgepack", b"{}", {"weights": measure(source)})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["weights"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_bundle(tmp_path):
    """A child packs and opens 400 MB and reports how much its peak memory grew."""
    code = """
import re, sys
from pathlib import Path
from edgepack.bundle.archive import measure, write_archive, open_checked
from edgepack.bundle import archive
folder = Path(sys.argv[1])
with (folder / "weights").open("wb") as file:
    file.truncate(400_000_000)
# Not getrusage: its maximum is inherited from the process that started this one.
peak = lambda: int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
before = peak()
source = measure(folder / "weights")
write_archive(folder / "large.zip", b"{}", {"weights": source})
with (folder / "large.zip").open("rb") as file:
    layout = archive.read_layout(file, (folder / "large.zip").stat().st_size)
    archive._check(file, layout.members[1], source.sha256, folder)
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 20_000  # kB


# --- files that are not bundles ---------------------------------------------------------------------------------------


def test_what_is_no_file(tmp_path):
    for path, words in (
        (tmp_path / "absent", "there is no file"),
        (tmp_path, "is a folder"),
        (Path("a\0b"), "cannot be"),
    ):
        with pytest.raises(BundleError, match=words):
            open_bundle(path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BundleError, match="not a regular file"):
        open_bundle(tmp_path / "pipe")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(bundle_path, tmp_path):
    path = Path(shutil.copy(bundle_path, tmp_path))
    path.chmod(0)
    with pytest.raises(StorageError, match="is not readable"):
        open_bundle(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"PK", "not a zip archive"),
        (b"hello world" * 100, "not a zip archive"),
        (b"PK\3\4" + bytes(100), "is cut off"),
        (b"PK\5\6" + bytes(18), "data before|at its start"),
        (b"\x7fELF" + bytes(1000), "not a zip archive"),
    ],
)
def test_other_files(tmp_path, data, words):
    refused(tmp_path, data, BundleError, words)


def test_an_archive_zipped_by_another_tool(bundle_path, tmp_path):
    error = refused(tmp_path, zip_of(parts(bundle_path)), BundleError, "another place|local header")
    assert "zipped by another tool" in error.hint


def test_compressed_members_and_bombs(bundle_path, tmp_path):
    refused(
        tmp_path, zip_of(parts(bundle_path), zipfile.ZIP_DEFLATED), BundleError, "compressed member 'manifest.json'"
    )
    bomb = {"manifest.json": b"{}", "model/zeros": bytes(50_000_000)}
    refused(tmp_path, zip_of(bomb, zipfile.ZIP_DEFLATED), BundleError, "compressed member")


def test_a_bomb_that_says_stored(tmp_path):
    data = bytearray(assemble({"manifest.json": b"{}", "model/x": b"x" * 100}))
    place = data.rindex(b"PK\1\2")
    struct.pack_into("<I", data, place + 24, 1 << 31)  # uncompressed size
    refused(tmp_path, bytes(data), BundleError, "compressed member")
    struct.pack_into("<I", data, place + 20, 1 << 31)
    refused(tmp_path, bytes(data), BundleError, "do not fit")


def test_encrypted_members(bundle_path, tmp_path):
    data = bytearray(assemble(parts(bundle_path)))
    data[data.rindex(b"PK\1\2") + 8] |= 1
    refused(tmp_path, bytes(data), BundleError, "encrypted member")


def test_links(bundle_path, tmp_path):
    refused(tmp_path, zip_of(parts(bundle_path), mode=stat.S_IFLNK | 0o777), BundleError, "link or a special file")


@pytest.mark.parametrize("name", ["../evil", "/etc/cron.d/evil", "model\\evil", "model/../../evil", "C:/evil", "a\nb"])
def test_names_that_lead_elsewhere(bundle_path, tmp_path, name):
    refused(tmp_path, zip_of({**parts(bundle_path), name: b"x"}), BundleError, "whose name")


def test_names_that_lead_elsewhere_in_the_manifest(bundle_path, tmp_path):
    members = parts(bundle_path)
    files = [*json.loads(members["manifest.json"])["files"], {"path": "../evil", "sha256": "0" * 64, "size_bytes": 1}]
    refused(tmp_path, assemble(edit_manifest(members, files=files)), BundleError, "leads out")


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_names_that_stand_twice(bundle_path, tmp_path):
    members = parts(bundle_path)
    import io

    buffer = io.BytesIO(zip_of(members))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("manifest.json", b"{}")
    refused(tmp_path, buffer.getvalue(), BundleError, "twice")
    refused(tmp_path, zip_of({**members, "GOLDEN.npz": b""}), BundleError, "differ only in case")
    refused(tmp_path, zip_of({**members, "model": b""}), BundleError, "a file and the folder of")


def test_overlapping_members(bundle_path, tmp_path):
    """Two directory entries point at the same local header."""
    data = bytearray(assemble(parts(bundle_path)))
    last = data.rindex(b"PK\1\2")
    struct.pack_into("<I", data, last + 42, 0)
    refused(tmp_path, bytes(data), BundleError, "overlapping")


def test_a_local_header_that_disagrees(bundle_path, tmp_path):
    data = bytearray(assemble(parts(bundle_path)))
    struct.pack_into("<I", data, data.index(b"PK\3\4", 4) + 18, 7)
    refused(tmp_path, bytes(data), BundleError, "local header of 'golden.npz' that disagrees")


def test_data_around_the_archive(bundle_path, tmp_path):
    data = assemble(parts(bundle_path))
    refused(tmp_path, b"#!/bin/sh\n" + data, BundleError, "data before")
    refused(tmp_path, data + b"more", BundleError, "data after")
    refused(tmp_path, data + data, BundleError, "data before")
    place = data.index(b"PK\1\2")
    refused(tmp_path, data[:place] + bytes(1000) + data[place:], BundleError, "between")
    refused(tmp_path, zip_of(parts(bundle_path), comment=b"hi"), BundleError, "data after|comment")


def test_hidden_bytes_in_the_padding(bundle_path, tmp_path):
    data = bytearray(assemble(parts(bundle_path)))
    data[10_000] = 65
    refused(tmp_path, bytes(data), BundleError, "local header")


def test_members_that_are_not_as_listed(bundle_path, tmp_path):
    members = parts(bundle_path)
    more, less, other = {**members, "model/evil": b"x"}, dict(members), dict(members)
    del less["sbom.cdx.json"]
    other["sbom.cdx.json"] += b" "
    refused(tmp_path, assemble(more), IntegrityError, "'model/evil', which its manifest does not list")
    refused(tmp_path, assemble(less), IntegrityError, "lacks 'sbom.cdx.json'")
    refused(tmp_path, assemble(other), IntegrityError, "bytes, its manifest says")


def test_contents_that_are_not_as_listed(bundle_path, tmp_path):
    members = parts(bundle_path)
    for name in ("golden.npz", "model/onnxruntime/model.onnx", "sbom.cdx.json"):
        changed = bytearray(members[name])
        changed[len(changed) // 2] ^= 0x10
        refused(tmp_path, assemble({**members, name: bytes(changed)}), IntegrityError, f"'{name}' do not match")


def test_no_manifest_or_not_first(bundle_path, tmp_path):
    members = parts(bundle_path)
    rest = {name: data for name, data in members.items() if name != "manifest.json"}
    refused(tmp_path, assemble(rest), BundleError, "has no manifest.json")
    late = {**rest, "manifest.json": members["manifest.json"]}
    refused(tmp_path, zip_of(late), BundleError, "manifest.json first")


def test_a_manifest_that_is_too_large(bundle_path, tmp_path):
    members = parts(bundle_path)
    members["manifest.json"] += b" " * 5_000_000
    refused(tmp_path, assemble(members), BundleError, "at most 4194304")


def test_a_newer_format(bundle_path, tmp_path):
    newer = assemble(edit_manifest(parts(bundle_path), format=2, something_new=[]))
    assert "--upgrade edgepack" in refused(tmp_path, newer, BundleError, "has bundle format 2").hint


def test_too_many_members(tmp_path):
    many = {"manifest.json": b"{}", **{f"m{i:05}": b"" for i in range(4200)}}
    refused(tmp_path, zip_of(many), BundleError, "4096 members")


# --- any damage -------------------------------------------------------------------------------------------------------


def opens(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    try:
        open_bundle(path)
    except (BundleError, IntegrityError):
        return False
    return True


@pytest.mark.slow
def test_any_changed_byte_is_found(bundle_path, tmp_path):
    """Every structural byte matters, so no change at all may go through."""
    good, chance = bundle_path.read_bytes(), random.Random(20)
    places = [*range(120), *range(len(good) - 600, len(good)), *chance.sample(range(len(good)), 600)]
    for place in places:
        data = bytearray(good)
        data[place] ^= 1 << chance.randrange(8)
        assert not opens(tmp_path / "x", bytes(data)), f"a bit at {place} of {len(good)} was changed"


def test_several_changed_bytes_are_found(bundle_path, tmp_path):
    good, chance = bundle_path.read_bytes(), random.Random(21)
    for _ in range(300):
        data = bytearray(good)
        for _ in range(chance.randint(1, 30)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        assert bytes(data) == good or not opens(tmp_path / "x", bytes(data))


def test_any_truncation_is_found(bundle_path, tmp_path):
    good, chance = bundle_path.read_bytes(), random.Random(22)
    lengths = [*range(60), *range(len(good) - 400, len(good)), *chance.sample(range(len(good)), 200)]
    for length in lengths:
        assert not opens(tmp_path / "x", good[:length])


def test_moved_pieces_are_found(bundle_path, tmp_path):
    good, chance = bundle_path.read_bytes(), random.Random(23)
    for _ in range(300):
        start, stop, place = (chance.randrange(len(good)) for _ in range(3))
        piece = good[min(start, stop) : max(start, stop)]
        data = good[:place] + piece + good[place + chance.choice([0, len(piece)]) :]
        assert data == good or not opens(tmp_path / "x", data)


def test_any_manifest_of_the_right_shape_is_refused_or_read(bundle_path, tmp_path):
    """The archive is made again after each change, so that only the manifest's own checks stand in the way."""
    members, chance = parts(bundle_path), random.Random(24)
    values = [None, True, -1, 10**30, 1e308, "", "x", "../x", "\x1b[31m", "\ud800", [], {}, [[]], {"a": 1}, "N" * 1000]
    for _ in range(400):
        manifest = json.loads(members["manifest.json"])
        place = manifest
        while True:
            key = chance.choice(list(place) if isinstance(place, dict) else range(len(place)))
            if isinstance(place[key], dict | list) and place[key] and chance.random() < 0.8:
                place = place[key]
                continue
            place[key] = chance.choice(values)
            break
        opens(tmp_path / "x", assemble({**members, "manifest.json": json.dumps(manifest).encode()}))


def test_deep_and_wide_json(bundle_path, tmp_path):
    members = parts(bundle_path)
    for text in (
        b"[" * 100_000,
        b'{"format":' * 50_000,
        b"1" * 5000,
        b"\xff\xfe",
        b'{"format": 1, "format": 1}',
        b"null",
    ):
        assert not opens(tmp_path / "x", assemble({**members, "manifest.json": text}))
