"""Signing without a key where the package that does it is missing; ``test_conformance.py`` has it with the package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from program import main
from small_bundles import small_bundle

from edgepack.bundle.archive import open_bundle
from edgepack.errors import ToolchainError
from edgepack.trust.keyless.make import sign_statement


@pytest.mark.skipif(importlib.util.find_spec("sigstore") is not None, reason="the package sigstore is installed here")
def test_without_the_package_it_is_said_what_to_install(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ToolchainError, match="nothing signs without a key here"):
        sign_statement(b"{}")
    bundle = small_bundle(tmp_path, 2)
    assert main(["sign", str(bundle), "--sigstore"]) == 3
    assert "pip install 'sigstore>=4'" in capfd.readouterr().err
    assert open_bundle(bundle).signature is None


def test_an_instance_is_named_with_sigstore_only(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["sign", str(small_bundle(tmp_path, 2)), "--trust-config", "x.json"]) == 2
    assert "--trust-config needs --sigstore" in capfd.readouterr().err
