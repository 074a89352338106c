"""Fuzzes one reader for some seconds, in a process of its own: python fuzzing.py READER SECONDS FOLDER [SEED].

With atheris, damage that reaches new code of edgepack is kept and damaged further, so that each run goes on where the
last one ended; where atheris is not installed, files to begin from are damaged at random, and it says so. A finding is
a file ``crash-...`` in FOLDER and a traceback; the process then ends with an exit code that is not 0.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import os
import sys
import time
import warnings
from pathlib import Path

import numpy as np

_HANG_S = 10  # of one file
_MEMORY_MB = 3000
_LARGEST_BYTES = 400_000


def main(name: str, seconds: float, folder: Path, seed: int = 1) -> None:
    """Fuzz the reader ``name``; the files that were found worth keeping are in ``folder``."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    folder.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: damaged at random, without looking at what is reached")
        _at_random(name, seconds, folder, seed)
    else:
        _by_coverage(name, seconds, folder, seed)


def _by_coverage(name: str, seconds: float, folder: Path, seed: int) -> None:
    """Fuzz in a child: libFuzzer ends its process without a word to Python, and what it used must be removed."""
    from edgepack.base.files import scratch_folder

    with scratch_folder("edgepack-fuzz-") as scratch:
        child = os.fork()
        if not child:
            try:
                _fuzz(name, seconds, folder, seed, scratch)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    sys.exit(code if code >= 0 else 128 - code)


def _fuzz(name: str, seconds: float, folder: Path, seed: int, scratch: Path) -> None:
    import atheris

    with atheris.instrument_imports(include=["edgepack"], enable_loader_override=False):
        from fuzz_damage import damage_inside
        from fuzz_targets import TARGETS, try_bytes

        target = TARGETS[name]
        for data in _seeds(target, scratch):
            (folder / f"seed-{hashlib.sha256(data).hexdigest()[:16]}").write_bytes(data)
            try_bytes(target, data, scratch)  # imports what reading imports

    def mutated(data: bytes, largest: int, chosen: int) -> bytes:
        random = np.random.default_rng(chosen)
        if not target.form or random.random() < 0.3:
            return bytes(atheris.Mutate(data, largest))
        damage = lambda part: bytes(atheris.Mutate(part, max(len(part) + 64, 64)))  # noqa: E731
        return damage_inside(target.form, data, random, damage)[:largest]

    arguments = [
        sys.argv[0], str(folder), f"-max_total_time={seconds:g}", f"-seed={seed}", f"-artifact_prefix={folder}/",
        f"-timeout={_HANG_S}", f"-rss_limit_mb={_MEMORY_MB}", f"-max_len={_LARGEST_BYTES}", "-print_final_stats=1",
        "-verbosity=1",
    ]  # fmt: skip
    atheris.Setup(arguments, lambda data: try_bytes(target, data, scratch) and None, custom_mutator=mutated)
    atheris.Fuzz()


def _at_random(name: str, seconds: float, folder: Path, seed: int) -> None:
    from fuzz_damage import damage_inside
    from fuzz_targets import TARGETS, try_bytes
    from mutations import damage_bytes

    target, tried, taken = TARGETS[name], 0, 0
    from edgepack.base.files import scratch_folder

    with scratch_folder("edgepack-fuzz-") as place:
        seeds = list(_seeds(target, place))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            random = np.random.default_rng([seed, tried])
            data = seeds[tried % len(seeds)]
            damage = lambda part, random=random: damage_bytes(part or b"\0", random)  # noqa: E731
            inside = target.form and random.random() < 0.7
            data = damage_inside(target.form, data, random, damage) if inside else damage(data)
            current = folder / "current"
            current.write_bytes(data)
            began = time.monotonic()
            try:
                taken += try_bytes(target, data, place)
            except BaseException:
                current.rename(folder / f"crash-{hashlib.sha256(data).hexdigest()[:16]}")
                raise
            if time.monotonic() - began > _HANG_S:
                raise SystemExit(f"a file took more than {_HANG_S} s: {current}")
            tried += 1
    print(f"Done {tried} runs, {taken} files were taken")


def _seeds(target: object, scratch: Path) -> list[bytes]:
    place = scratch / "seeds"
    place.mkdir()
    with contextlib.redirect_stdout(sys.stderr):
        return list(target.seeds(place))  # type: ignore[attr-defined]


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), Path(sys.argv[3]), *map(int, sys.argv[4:]))
