"""Chooses which samples calibrate and which evaluate; the two never share one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgepack.calibrate.samples import find_samples, split_samples, take_samples
from edgepack.callables import is_callable_reference
from edgepack.errors import DataError
from edgepack.specs import Preprocessing, SampleSet, TensorSpec
from edgepack.tracking import ReadFiles

RANDOM_INPUTS = 8


@dataclass(frozen=True)
class Selection:
    """``calibration`` is None without calibration data; ``unseen`` is False when it is evaluated on itself."""

    calibration: SampleSet | None
    evaluation: SampleSet
    unseen: bool
    notes: tuple[str, ...]


def choose_samples(
    data: str | None,
    eval_data: str | None,
    inputs: tuple[TensorSpec, ...],
    preprocessing: Preprocessing | None,
    samples: int | None,
    default: int,
    eval_samples: int | None,
    seed: int,
    out: Path,
) -> Selection:
    """Return the calibration and the evaluation samples.

    ``samples`` is the number asked for; None takes ``default`` or as many as there are. Without ``eval_data`` the data
    is split once by ``seed``. Raises ``DataError`` when there are fewer samples than were asked for.
    """
    reads = ReadFiles() if any(s is not None and is_callable_reference(s) for s in (data, eval_data)) else None
    selection = _choose(data, eval_data, inputs, preprocessing, samples, default, eval_samples, seed)
    if reads is not None:
        reads.write(out)
    return selection


def _choose(
    data: str | None,
    eval_data: str | None,
    inputs: tuple[TensorSpec, ...],
    preprocessing: Preprocessing | None,
    samples: int | None,
    default: int,
    eval_samples: int | None,
    seed: int,
) -> Selection:
    notes: list[str] = []
    if eval_data is not None:
        evaluation = _limit(find_samples(eval_data, inputs, preprocessing), eval_samples, seed, "--eval-samples")
        calibration = None
        if data is not None:
            found = find_samples(data, inputs, preprocessing)
            calibration = _limit(found, _wanted(len(found.indices), samples, default, notes), seed, "--samples")
        return Selection(calibration, evaluation, True, tuple(notes))
    assert data is not None, "without data the caller makes random inputs"
    found = find_samples(data, inputs, preprocessing)
    total = len(found.indices)
    if total == 1 or (samples == total and not found.labelled):
        notes.append("accuracy figures are from the calibration samples themselves: give --eval for unseen ones")
        return Selection(found, _limit(found, eval_samples, seed, "--eval-samples"), False, tuple(notes))
    if samples is not None and samples >= total:
        raise DataError(
            f"asked for {samples} calibration samples of {total}, which leaves none to measure accuracy on",
            hint=f"give --samples {max(total // 2, 1)}, more data, or a separate --eval",
        )
    first = _wanted(total // 2, samples, default, notes)
    calibration, rest = split_samples(found, first, seed)
    return Selection(calibration, _limit(rest, eval_samples, seed, "--eval-samples"), True, tuple(notes))


def _wanted(available: int, samples: int | None, default: int, notes: list[str]) -> int:
    if samples is not None:
        return samples
    if available < default:
        notes.append(f"{available} samples calibrate; {default} or more give steadier ranges")
    return min(default, available)


def _limit(found: SampleSet, count: int | None, seed: int, option: str) -> SampleSet:
    if count is None:
        return found
    if count > len(found.indices):
        raise DataError(
            f"{found.source} has {len(found.indices)} samples, fewer than the {count} asked for",
            hint=f"give {option} {len(found.indices)}, or more data",
        )
    return take_samples(found, count, seed)


def random_inputs(inputs: tuple[TensorSpec, ...], seed: int, out: Path) -> Path:
    """Write 8 seeded random inputs (standard normal, or 0 and 1 for whole numbers) as a .npz; dynamic axes are 1."""
    import numpy as np

    generator = np.random.default_rng(seed)
    arrays = {}
    for spec in inputs:
        stacked = [RANDOM_INPUTS, *(d if isinstance(d, int) and d > 0 else 1 for d in spec.shape)]
        if np.dtype(spec.dtype).kind == "f":
            arrays[spec.name] = generator.standard_normal(stacked).astype(spec.dtype)
        else:
            arrays[spec.name] = generator.integers(0, 2, stacked).astype(spec.dtype)
    np.savez(out / "random_inputs.npz", **arrays)  # type: ignore[arg-type]
    return out / "random_inputs.npz"
