"""A bundle that takes the place of the one in use, signed otherwise, and is cut off: one of the two is there, whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_bundles import small_bundle
from trust_cases import new_key

from edgepack.bundle.archive import open_bundle
from edgepack.errors import VerificationError
from edgepack.runtime.install import install
from edgepack.runtime.root import status
from edgepack.trust.sign import sign


def test_other_signatures_that_cannot_be_proved_leave_a_whole_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file in use is replaced before the proof, by the same bundle: whichever is there was let in."""
    root, keys = tmp_path / "device", [new_key(tmp_path, name) for name in ("one", "two", "three")]
    path = small_bundle(tmp_path / "bundle")
    install(path, root)
    with monkeypatch.context() as patch:
        patch.setattr("edgepack.runtime.install.prove_in_child", _no_proof)
        for key in keys[:2]:
            sign(path, (key,))
            with pytest.raises(VerificationError, match="no proof"):
                install(path, root)
            found = status(root)
            assert found.problem is None
            assert found.current is not None
            assert found.current.successor_sha256 == open_bundle(path).sha256
    sign(path, (keys[2],))
    assert install(path, root).successor_sha256 is None
    assert status(root).problem is None

    foreign = root / "current" / "small.edgepack"
    foreign.write_bytes(path.read_bytes())
    sign(foreign, (keys[0],), replace=True)
    monkeypatch.setattr("edgepack.runtime.copy_in.atomic_write", _no_proof)
    with pytest.raises(VerificationError, match="no proof"):
        install(path, root)
    assert "is not the bundle that was installed" in (status(root).problem or "")  # what others put there is not known


def _no_proof(*_: object, **__: object) -> None:
    raise VerificationError("no proof")
