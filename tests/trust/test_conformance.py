"""Signatures and roots of trust as the reference implementations see them: OpenSSF's model_signing and python-tuf.

They live in an environment of their own, ``.venv-signing`` (``make test-signing``); without it these tests are skipped.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sigstore_double import ISSUER, ME, Sigstore
from sigstore_forged import CERTIFICATES, FORGED, PAYLOAD, SIGSTORE
from sigstore_server import serving, token
from small_bundles import small_bundle
from trust_cases import device, issue, new_key, signed_bundle

from edgepack.bundle.archive import open_bundle
from edgepack.trust.member import from_bytes
from edgepack.trust.policy import admit
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


# --- keyless signatures, by a double of Sigstore on loopback ----------------------------------------------------------


def model_signing(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in (PEERS / "model_signing", *words)], capture_output=True, text=True, check=False
    )


def test_what_model_signing_signs_without_a_key_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way of docs/trust.md, but for the instance of Sigstore and who it asks for the identity."""
    sigstore = Sigstore()
    bundle, unpacked = small_bundle(tmp_path, 2), tmp_path / "unpacked"
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(unpacked)
    signature, trust = tmp_path / "small.sigstore.json", tmp_path / "trust.json"
    with serving(sigstore) as configuration:
        trust.write_text(json.dumps(configuration))
        done = model_signing(
            "sign", "sigstore", unpacked, "--signature", signature, "--trust_config", trust,
            "--identity_token", token(ME, ISSUER),
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    sign(bundle, (), attached=(signature,))
    (tmp_path / "trusted_root.json").write_text(json.dumps(sigstore.trusted_root()))
    who = [{"identity": ME, "issuer": ISSUER}]
    monkeypatch.setenv("EDGEPACK_POLICY", str(device(tmp_path, sigstore="trusted_root.json", identities=who)))
    admission = admit(open_bundle(bundle))
    assert admission.signers == (f"{ME} ({ISSUER})",)
    (keyless,) = from_bytes(open_bundle(bundle).signature or b"", "x").keyless
    assert len(keyless.timestamps) == 1, "a timestamp beside the log's time"

    attached = unpacked / "signature.dsse.json"
    attached.write_bytes(open_bundle(bundle).signature or b"")
    words = ("verify", "sigstore", unpacked, "--signature", attached, "--trust_config", trust)
    whose = ("--identity", ME, "--identity_provider", ISSUER)
    done = model_signing(*words, *whose)
    assert done.returncode == 0, done.stdout + done.stderr
    (unpacked / "manifest.json").write_bytes(b"{}")
    assert model_signing(*words, *whose).returncode != 0


MAKE = """
import sys
from pathlib import Path
from edgepack.trust.keyless.make import sign_statement
sys.stdout.buffer.write(sign_statement(sys.stdin.buffer.read(), Path(sys.argv[1])))
"""


def test_what_the_package_sigstore_signs_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sigstore = Sigstore()
    bundle, trust = small_bundle(tmp_path, 2), tmp_path / "trust.json"
    said: list[subprocess.CompletedProcess[bytes]] = []

    def ask(statement: bytes, **variables: str) -> bytes:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **variables}
        words = [PEERS / "python", "-c", MAKE, trust]
        said.append(subprocess.run(words, input=statement, capture_output=True, env=environment, check=False))
        return said[-1].stdout

    with serving(sigstore) as configuration:
        trust.write_text(json.dumps(configuration))
        made = sign(bundle, (), sigstore=lambda text: ask(text, SIGSTORE_ID_TOKEN=token(ME, ISSUER)))
    assert made.keyless == 1, said[0].stderr
    (tmp_path / "trusted_root.json").write_text(json.dumps(sigstore.trusted_root()))
    who = [{"identity": ME, "issuer": ISSUER}]
    monkeypatch.setenv("EDGEPACK_POLICY", str(device(tmp_path, sigstore="trusted_root.json", identities=who)))
    assert admit(open_bundle(bundle)).signers == (f"{ME} ({ISSUER})",)
    assert not ask(b"{}", SIGSTORE_ID_TOKEN=token(ME, ISSUER)), "nobody answers any more"
    assert b"RemoteError: Sigstore did not sign" in said[1].stderr
    assert not ask(b"{}", SIGSTORE_ID_TOKEN="")
    assert b"ConfigError: nothing says who signs" in said[2].stderr


VERIFY = """
import json, sys
from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier, policy
verifier = Verifier(trusted_root=TrustedRoot.from_file(sys.argv[1]))
who = policy.Identity(identity=sys.argv[3], issuer=sys.argv[4])
for text in json.load(open(sys.argv[2])):
    try:
        verifier.verify_dsse(Bundle.from_json(text), who)
        print("taken")
    except Exception as error:
        print("refused", type(error).__name__, str(error)[:100].replace(chr(10), " "))
"""
# What Sigstore's library takes and edgepack does not, each with the reason.
STRICTER = {
    "a line more in the checkpoint": "what is no signature of a note is passed over there",
    "the name at the checkpoint's signature": "the key's hint is compared there, the name before it with nothing",
    "a checkpoint of more than 16384 characters": "a note has a bound here, as all that strangers send",
    "certificate: another curve": "one kind of key counts here, so that nothing is negotiated",
    "certificate: two names": "one of them may be the identity there",
    "certificate: an issuer that is no text": "the older extension for the issuer is read there",
}


def test_sigstore_s_library_takes_and_refuses_the_same(tmp_path: Path) -> None:
    made: dict[str, Any] = {
        "a log with times": SIGSTORE.signed(PAYLOAD),
        "a log without": SIGSTORE.signed(PAYLOAD, log=SIGSTORE.tiled),
        "a stamp beside": SIGSTORE.signed(PAYLOAD, stamp={"status": b"\0"}),
    }
    good = set(made)
    for name, (change, _) in FORGED.items():
        made[name] = copy.deepcopy(made["a log with times"])
        change(made[name])
    for name, (other, _) in CERTIFICATES.items():
        made[f"certificate: {name}"] = SIGSTORE.signed(PAYLOAD, SIGSTORE.certificate(**other))
    (tmp_path / "root.json").write_text(json.dumps(SIGSTORE.trusted_root()))
    (tmp_path / "bundles.json").write_text(json.dumps([json.dumps(each) for each in made.values()]))
    done = subprocess.run(
        [PEERS / "python", "-c", VERIFY, tmp_path / "root.json", tmp_path / "bundles.json", ME, ISSUER],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = dict(zip(made, done.stdout.splitlines(), strict=True))
    assert {name for name, verdict in found.items() if verdict == "taken"} == good | set(STRICTER), found
