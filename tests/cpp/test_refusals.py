"""The C++ loader and Python's refuse the same bundles: the same kind of error, the same words and the same hint."""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from cpp_library import Library, Refused
from fuzz_damage import assemble, damage_json, members_of
from hostile_archives import CASES, MANIFEST, Case
from hostile_bundles import forged, mutated
from small_bundles import small_bundle

from edgepack.bundle.archive import open_bundle
from edgepack.errors import EdgepackError

pytestmark = pytest.mark.long  # the library is built first

# The C++ reader says of JSON what Python 3.11 and 3.12 do; newer ones have more words, as for a trailing comma.
SAME_JSON = sys.version_info < (3, 13)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return small_bundle(tmp_path_factory.mktemp("good"), channels=2).read_bytes()


def both(library: Library, data: bytes, path: Path) -> tuple[Refused | None, Refused | None]:
    """Return what Python and what C++ say of a file."""
    path.write_bytes(data)
    try:
        open_bundle(path)
        python = None
    except EdgepackError as error:
        python = Refused(type(error).__name__, error.message, error.hint)
    return python, library.refusal(path)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_same_words(case: Case, library: Library, good: bytes, tmp_path: Path) -> None:
    python, cpp = both(library, case.make(members_of(good)), tmp_path / "x.edgepack")
    assert cpp is not None
    assert python is not None
    assert case.words in cpp.message
    assert cpp == python


def test_a_good_bundle_is_opened(library: Library, good: bytes, tmp_path: Path) -> None:
    assert both(library, good, tmp_path / "x.edgepack") == (None, None)


@pytest.mark.parametrize("name", ["missing", "", ".", "/dev/null", "file/below"])
def test_what_is_no_file(name: str, library: Library, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    path = tmp_path / name
    with pytest.raises(EdgepackError) as caught:
        open_bundle(path)
    found = library.refusal(path)
    assert found == Refused(type(caught.value).__name__, caught.value.message, caught.value.hint)


def test_any_change_of_a_manifest(library: Library, good: bytes, tmp_path: Path) -> None:
    """The archive is made again after each change, so that only the manifest's own checks stand in the way."""
    members, found = members_of(good), Counter[str]()
    for seed in range(1500):
        manifest = damage_json(json.loads(members[MANIFEST]), np.random.default_rng([7, seed]))
        data = assemble(
            {**members, MANIFEST: json.dumps(manifest, ensure_ascii=seed % 2 == 0).encode("utf-8", "replace")}
        )
        python, cpp = both(library, data, tmp_path / "x.edgepack")
        assert cpp == python, f"seed {seed}"
        found["refused" if cpp else "opened"] += 1
    assert found["refused"] > 1000


def test_any_damage_of_a_manifests_text(library: Library, good: bytes, tmp_path: Path) -> None:
    members, chance = members_of(good), random.Random(8)
    for seed in range(1500):
        text = bytearray(members[MANIFEST])
        for _ in range(chance.randint(1, 3)):
            place = chance.randrange(len(text))
            match chance.randrange(4):
                case 0:
                    text[place] = chance.choice(b'{}[]",:\\\n 0-eE.\xc3\xff\x00ut')
                case 1:
                    del text[place : place + chance.randint(1, 9)]
                case 2:
                    text[place:place] = chance.choice([b'"', b"\\u", b"\xed\xa0\x80", b"1e5", b"[", b"\xf0\x9f"])
                case _:
                    del text[place:]
            text = text or bytearray(b"x")
        python, cpp = both(library, assemble({**members, MANIFEST: bytes(text)}), tmp_path / "x.edgepack")
        if SAME_JSON or not python or "not valid JSON" not in python.message:
            assert cpp == python, f"seed {seed}"
        else:
            assert cpp is not None, f"seed {seed}"


def test_mutated_bundles(library: Library, good: bytes, tmp_path: Path) -> None:
    for seed in range(600):
        python, cpp = both(library, mutated(good, seed), tmp_path / "x.edgepack")
        assert python is not None
        assert cpp == python, f"seed {seed}"


@pytest.mark.slow
def test_10000_mutations_in_one_process(library: Library, good: bytes, tmp_path: Path) -> None:
    path, began = tmp_path / "x.edgepack", time.process_time()
    found: Counter[str] = Counter()
    for seed in range(10_000):
        path.write_bytes(mutated(good, seed))
        refused = library.refusal(path)
        assert refused is not None, f"seed {seed} was taken"
        assert refused.message.startswith(str(path))
        assert refused.hint
        found[refused.kind] += 1
    print(dict(found), f"{time.process_time() - began:.1f} CPU s")
    assert time.process_time() - began < 120


def test_forged_bundles_are_opened_alike(library: Library, good: bytes, tmp_path: Path) -> None:
    for seed in range(300):
        python, cpp = both(library, forged(good, seed), tmp_path / "x.edgepack")
        assert cpp == python, f"seed {seed}"
