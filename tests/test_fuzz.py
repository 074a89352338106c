"""Everything that reads strangers' files, on damaged ones: a value or an error of edgepack's own, in time and memory.

Each reader has a few seconds here, by coverage where atheris is installed; ``make fuzz`` runs them for minutes and goes
on from what it kept. Mutated bundles are refused, forged ones do not compute something else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fuzz_damage import damage_inside
from fuzz_targets import TARGETS, Finding, Target, try_bytes
from hostile_bundles import forged, judge_forged, judge_mutated, mutated
from small_bundles import small_bundle

from edgepack.errors import ConfigError
from edgepack.runtime.load import load

HELPERS = Path(__file__).resolve().parent / "helpers"
long = [pytest.mark.long, pytest.mark.timeout(36_000)]


@pytest.mark.parametrize("name", [pytest.param(name, marks=long) for name in TARGETS])
def test_a_reader_of_damaged_files(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    seconds = float(request.config.getoption("--fuzz-seconds"))
    kept = request.config.getoption("--fuzz-folder")
    folder = Path(kept, name) if kept else tmp_path
    command = [sys.executable, "-W", "ignore", str(HELPERS / "fuzzing.py"), name, str(seconds), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 120)
    said = done.stdout + done.stderr
    assert done.returncode == 0, f"{folder}\n{said[-3000:]}"
    (line,) = [line for line in said.splitlines() if line.startswith("Done ")]
    print(name, line)
    assert int(line.split()[1]) > 20 * seconds


@pytest.mark.slow
def test_a_run_leaves_no_folder_behind(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    killed = temporary / "edgepack-fuzz-0123456789abcdef"
    killed.mkdir()
    os.utime(killed, (0, 0))
    command = [sys.executable, "-W", "ignore", str(HELPERS / "fuzzing.py"), "manifest", "1", str(tmp_path / "kept")]
    environment = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert [path.name for path in temporary.iterdir()] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", list(TARGETS))
def test_the_files_to_begin_from_are_good(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    place = tmp_path / "seeds"
    place.mkdir()
    seeds = list(target.seeds(place))
    assert seeds
    taken = [try_bytes(target, data, tmp_path) for data in seeds]
    assert any(taken)
    assert all(taken) or name in ("import", "profile"), "these have files of several kinds"


def test_what_is_no_error_of_edgepack_is_a_finding(tmp_path: Path) -> None:
    def read(data: bytes, _folder: Path) -> None:
        if data == b"wordless":
            raise ConfigError("")
        raise IndexError

    target = Target(lambda _: iter(()), read)
    with pytest.raises(Finding):
        try_bytes(target, b"wordless", tmp_path)
    with pytest.raises(IndexError):
        try_bytes(target, b"", tmp_path)


def test_damage_gets_behind_checksums(bundle_path: Path) -> None:
    good = bundle_path.read_bytes()
    random = np.random.default_rng(0)
    made = [damage_inside("bundle", good, random, lambda part: part + b"!") for _ in range(20)]
    refusals = [judge_mutated(data, bundle_path.with_suffix(".x")) for data in made]
    assert (
        "accepted, though its bytes are other ones" in refusals
    )  # an archive as good as any: only its contents differ


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("good"), channels=2)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_mutated_bundles_are_refused(good: Path, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    data = good.read_bytes()
    count = int(request.config.getoption("--bundles"))
    found = Counter(judge_mutated(mutated(data, seed), tmp_path / "x.edgepack") for seed in range(count))
    print(dict(found))
    assert found == {"refused": count}


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_forged_bundles_compute_nothing_else(good: Path, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    data = good.read_bytes()
    feeds = {"image": np.random.default_rng(5).standard_normal((1, 3, 8, 8)).astype(np.float32)}
    with load(good) as model:
        wanted = {name: np.array(value) for name, value in model.infer(feeds).items()}
    count = int(request.config.getoption("--bundles")) // 20
    found: Counter[str] = Counter()
    for seed in range(count):
        outcome = judge_forged(forged(data, seed), tmp_path / "x.edgepack", feeds, wanted)
        assert outcome in ("refused", "failed", "right"), f"seed {seed}: {outcome}"
        found[outcome] += 1
    print(dict(found))
    assert min(found["refused"], found["failed"]) > 0
