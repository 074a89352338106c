"""10,000 mutations of a signed bundle and 1,000 splices with others that are signed as well: none is taken.

``make test`` has a short form of it; ``make fuzz`` and ``make test-all`` have the long one.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hostile_signed import judge, mutation, splice
from sigstore_double import ISSUER, ME, Sigstore
from trust_cases import device, new_key, signed_bundle

from edgepack.trust.policy import VARIABLE
from edgepack.trust.sign import sign

SHORT = 400


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    """A device that trusts two keys and an identity and asks for all, and four bundles that these have signed."""
    folder, sigstore = tmp_path_factory.mktemp("signed"), Sigstore()
    keys = (new_key(folder, "one"), new_key(folder, "two"))
    made = []
    for i in range(4):
        path = signed_bundle(folder / str(i), *keys, channels=2 + i // 2, version=str(1 + i % 2))
        sign(path, (), attached=(sigstore.sign_bundle(path, folder / "signature.json"),))
        made.append(path.read_bytes())
    (folder / "etc").mkdir()
    (folder / "etc" / "trusted_root.json").write_text(json.dumps(sigstore.trusted_root()))
    who = {"sigstore": "trusted_root.json", "identities": [{"identity": ME, "issuer": ISSUER}], "keys": "keys"}
    return device(folder / "etc", *keys, threshold=3, **who), made


@pytest.fixture(params=[SHORT, pytest.param(None, marks=[pytest.mark.long, pytest.mark.timeout(3600)])])
def count(request: pytest.FixtureRequest) -> int:
    return request.param or int(request.config.getoption("--bundles"))


@pytest.fixture(autouse=True)
def _obey(signed: tuple[Path, list[bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(signed[0]))


def test_the_bundles_to_begin_from_are_taken(signed: tuple[Path, list[bytes]], tmp_path: Path) -> None:
    assert [judge(data, tmp_path / "x.edgepack") for data in signed[1]] == ["activated"] * 4


@pytest.mark.slow
def test_no_mutation_is_taken(signed: tuple[Path, list[bytes]], tmp_path: Path, count: int) -> None:
    good = signed[1][0]
    found = Counter(judge(mutation(good, seed), tmp_path / "x.edgepack") for seed in range(count))
    print("mutations", dict(found))
    assert found == {"refused": count}


def test_no_splice_is_taken(signed: tuple[Path, list[bytes]], tmp_path: Path, count: int) -> None:
    most = max(count // 10, 100)
    found = Counter(judge(splice(signed[1], seed), tmp_path / "x.edgepack") for seed in range(most))
    print("splices", dict(found))
    assert found == {"refused": most}
