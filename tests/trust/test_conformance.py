"""Signatures and roots of trust as the reference implementations see them: OpenSSF's model_signing and python-tuf.

They live in an environment of their own, ``.venv-signing`` (``make test-signing``); without it these tests are skipped.
"""

from __future__ import annotations

import os
import subprocess
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from small_bundles import small_bundle
from trust_cases import issue, new_key, signed_bundle

from edgepack.trust.root import make_root, sign_root, write_root
from edgepack.trust.sign import sign

PEERS = Path(os.environ.get("EDGEPACK_SIGNING_VENV", Path(__file__).resolve().parents[2] / ".venv-signing")) / "bin"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (PEERS / "model_signing").is_file(), reason="model_signing is not installed: make test-signing"
    ),
]


def verified(folder: Path, public: Path) -> tuple[bool, str]:
    words = [PEERS / "model_signing", "verify", "key", folder, "--public_key", public]
    done = subprocess.run(
        [*words, "--signature", folder / "signature.dsse.json"], capture_output=True, text=True, check=False
    )
    return done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    path = signed_bundle(tmp_path, new_key(tmp_path, "one"), new_key(tmp_path, "two"))
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unpacked")
    return tmp_path / "unpacked"


def test_model_signing_verifies_an_unpacked_bundle(unpacked: Path, tmp_path: Path) -> None:
    assert verified(unpacked, tmp_path / "private" / "one.pub.pem") == (True, "Verification succeeded\n")


@pytest.mark.parametrize("name", ["manifest.json", "golden.npz", "model/onnxruntime/model.onnx", "extra.bin"])
def test_model_signing_refuses_other_files(unpacked: Path, tmp_path: Path, name: str) -> None:
    path = unpacked / name
    path.write_bytes((path.read_bytes() if path.exists() else b"") + b"\0")
    assert not verified(unpacked, tmp_path / "private" / "one.pub.pem")[0]


def test_model_signing_refuses_another_key(unpacked: Path, tmp_path: Path) -> None:
    new_key(tmp_path, "other")
    assert not verified(unpacked, tmp_path / "private" / "other.pub.pem")[0]


TUF = """
import sys
from datetime import datetime, timezone
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType
first, *others = [open(path, "rb").read() for path in sys.argv[1:]]
trusted = TrustedMetadataSet(first, EnvelopeType.METADATA)
for other in others:
    trusted.update_root(other)
print(trusted.root.version, *trusted.root.roles["targets"].keyids)
"""


def test_python_tuf_follows_our_roots(tmp_path: Path) -> None:
    root, other, old, new = (new_key(tmp_path, name) for name in ("root", "other", "old", "new"))
    later = datetime.now(UTC) + timedelta(days=100)
    first = sign_root(make_root((root.public,), (old.public,), later), [root])
    second = sign_root(make_root((other.public,), (new.public,), later, first), [root, other])
    forged = sign_root(make_root((other.public,), (new.public,), later, first), [other])
    for name, made in (("1", first), ("2", second), ("forged", forged)):
        write_root(made, tmp_path / f"{name}.json")

    def follow(*names: str) -> subprocess.CompletedProcess[str]:
        words = [PEERS / "python", "-c", TUF, *(tmp_path / f"{name}.json" for name in names)]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    done = follow("1", "2")
    assert done.stdout == f"2 {new.public.id}\n", done.stderr
    refused = follow("1", "forged")
    assert refused.returncode != 0
    assert "UnsignedMetadataError" in refused.stderr


def test_model_signing_verifies_certificates(tmp_path: Path) -> None:
    authority = issue("models", ca=True)
    signer = issue("release", authority)
    path = small_bundle(tmp_path, 2)
    sign(path, (signer.private(tmp_path),), certificates=(signer.der(),))
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unpacked")
    for name, holder, code in (("ca.pem", authority, 0), ("other.pem", issue("models", ca=True), 1)):
        (tmp_path / name).write_bytes(holder.pem())
        words = [PEERS / "model_signing", "verify", "certificate", tmp_path / "unpacked", "--certificate_chain"]
        signature = ["--signature", tmp_path / "unpacked" / "signature.dsse.json"]
        done = subprocess.run([*words, tmp_path / name, *signature], capture_output=True, text=True, check=False)
        assert bool(done.returncode) == bool(code), done.stdout + done.stderr
