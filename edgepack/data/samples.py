"""Finds, chooses and reads samples: a folder of pictures, a .npz, or a callable of the user's own.

Samples are read one at a time when they are needed, and what is read is compared with the digest taken when they were
chosen, so that a calibration never runs on other data than its result says.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from edgepack.base import documents
from edgepack.base.files import sha256_file, sha256_json
from edgepack.data import generator, image_folder, npz
from edgepack.data.source import LABELS, Contents, Item
from edgepack.errors import DataError
from edgepack.specs.data import Preprocessing, SampleSet
from edgepack.specs.model import TensorSpec
from edgepack.specs.types import Array

Kind: TypeAlias = Literal["pictures", "npz", "callable"]
Digest: TypeAlias = Callable[[Path], str]


def find_samples(
    data: str,
    inputs: tuple[TensorSpec, ...] | None,
    preprocessing: Preprocessing | None,
    digest: Digest = sha256_file,
) -> SampleSet:
    """Return all samples of ``data`` that can feed a model with ``inputs``; None when these are not known yet.

    ``data`` is a folder of pictures (which need ``preprocessing``), a .npz, or module:callable. ``digest`` returns the
    sha256 of a file; a store's remembers it. Pictures are decoded only when they are read. Raises ``DataError``.
    """
    kind = _kind(data)
    labels = None if any(spec.name == LABELS for spec in inputs or ()) else LABELS
    if kind == "pictures" and inputs is not None:
        image_folder.check_inputs(Path(data), preprocessing, inputs)
    elif kind != "pictures" and preprocessing is not None:
        # A recipe's preprocessing is for pictures; arrays are fed as they are, and no field may claim otherwise.
        preprocessing = None
    contents = _scan(data, kind, inputs, labels, digest)
    found = SampleSet(
        source=data,
        kind=kind,
        sha256="",
        indices=tuple(range(contents.count)),
        labelled=contents.labels is not None,
        classes=contents.classes,
        preprocessing=preprocessing,
    )
    return _with_digest(found, contents)


def split_samples(
    samples: SampleSet, first: int, seed: int, digest: Digest = sha256_file
) -> tuple[SampleSet, SampleSet]:
    """Split at random into ``first`` samples and the others; both keep the source's order and share no sample.

    The same samples and seed give the same parts. Raises ``DataError`` unless both parts get a sample.
    """
    total = len(samples.indices)
    if not 0 < first < total:
        raise DataError(
            f"{samples.source} has {total} samples, which cannot be split into {first} and the others",
            hint=f"ask for 1 to {total - 1} samples, or give separate data for evaluation" if total > 1 else None,
        )
    shuffled = np.random.default_rng(seed).permutation(total)
    contents = _rescan(samples, digest)
    parts = [sorted(samples.indices[i] for i in part) for part in (shuffled[:first], shuffled[first:])]
    one, other = (_with_digest(replace(samples, indices=tuple(part)), contents) for part in parts)
    return one, other


def take_samples(samples: SampleSet, count: int, seed: int, digest: Digest = sha256_file) -> SampleSet:
    """Return ``count`` of the samples, chosen at random by ``seed``, in the source's order; all of them need no chance.

    Raises ``DataError`` when there are fewer.
    """
    total = len(samples.indices)
    if count < 1:
        raise DataError(f"asked for {count} samples", hint="ask for at least one")
    if count > total:
        raise DataError(
            f"asked for {count} samples, found {total} in {samples.source}",
            hint=f"give more data, or ask for at most {total}",
        )
    if count == total:
        return samples
    chosen = np.random.default_rng(seed).permutation(total)[:count]
    indices = tuple(sorted(samples.indices[i] for i in chosen))
    return _with_digest(replace(samples, indices=indices), _rescan(samples, digest))


def read_samples(samples: SampleSet, inputs: tuple[TensorSpec, ...], start: int = 0) -> Iterator[dict[str, Array]]:
    """Yield one feed a sample, in order: arrays by input name, in the input's dtype, with a batch axis of 1.

    ``start`` leaves out that many samples at the beginning. Raises ``DataError`` naming the sample that is damaged, of
    the wrong shape or dtype, or holds NaN; and after the last sample, when all were read, if they are not those that
    were chosen (a file was changed, a callable yields something else).
    """
    digests: list[str | None] = []
    labels: list[Array] = []
    for item in _items(samples, inputs, samples.indices[start:]):
        yield dict(item.feed)
        digests.append(item.digest)
        if item.label is not None:
            labels.append(item.label)
    known = [digest for digest in digests if digest is not None]
    if known and start == 0 and _digest(samples, known, np.stack(labels) if labels else None) != samples.sha256:
        raise DataError(
            f"{samples.source} changed after its samples were chosen",
            hint="do not change the data during a run; a callable must yield the same samples each time (fix its seed)",
        )


def read_labels(samples: SampleSet) -> Array:
    """Return the labels, first axis = samples; those of pictures are int64. Raises ``DataError`` without labels."""
    if not samples.labelled:
        raise DataError(
            f"{samples.source} has no labels",
            hint="use class subfolders, a labels.csv with the header file,label, or an array named 'labels'",
        )
    if samples.kind == "pictures":
        values = image_folder.labels_of(image_folder.list_pictures(Path(samples.source)))
    else:
        values = _rescan(samples, sha256_file).labels
    if values is None or len(values) <= max(samples.indices):
        raise DataError(f"{samples.source} lost its labels", hint="do not change the data during a run")
    result: Array = values[np.asarray(samples.indices)]
    return result


def ignored_files(samples: SampleSet) -> tuple[str, ...]:
    """Return what stands in the source and is no sample: hidden and other files, unused arrays."""
    if samples.kind == "pictures":
        return image_folder.list_pictures(Path(samples.source)).ignored
    return ()


def sample_names(samples: SampleSet) -> tuple[str, ...]:
    """Return a name for each sample, for messages: its file, or its number in the source."""
    if samples.kind == "pictures":
        names = image_folder.list_pictures(Path(samples.source)).names
        return tuple(names[i] for i in samples.indices)
    return tuple(f"sample {i}" for i in samples.indices)


def _kind(data: str) -> Kind:
    path = Path(data)
    if "\0" not in data and path.is_dir():
        return "pictures"
    if "\0" not in data and path.is_file():
        if path.suffix.lower() == ".npz":
            return "npz"
        raise DataError(f"{data} is neither a folder nor a .npz file", hint=_file_hint(path))
    before, colon, after = data.rpartition(":")
    if colon and after.isidentifier() and before:
        return "callable"
    near = _near_path(path)
    raise DataError(f"there is no file or folder {data}", hint=f"did you mean {near}?" if near else None)


def _file_hint(path: Path) -> str | None:
    if path.suffix.lower() == ".npy":
        return "save it with np.savez(file, input_name=array), so that the array has a name"
    if path.suffix.lower() == ".py":
        return f"name the function in it: {path}:function"
    if path.suffix.lower() in image_folder.SUFFIXES:
        return f"give the folder of the picture: {path.parent}"
    return None


def _near_path(path: Path) -> str | None:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except (OSError, ValueError):
        return None
    near = difflib.get_close_matches(path.name, names, n=1)
    return str(path.parent / near[0]) if near else None


def _scan(data: str, kind: Kind, inputs: tuple[TensorSpec, ...] | None, labels: str | None, digest: Digest) -> Contents:
    if kind == "pictures":
        return image_folder.scan(Path(data), digest)
    if kind == "npz":
        return npz.scan(Path(data), inputs, labels, digest)
    return generator.scan(data, inputs, labels)


def _rescan(samples: SampleSet, digest: Digest) -> Contents:
    """Scan a source again for a part of its samples; what they feed was checked when they were found."""
    contents = _scan(samples.source, samples.kind, None, LABELS if samples.labelled else None, digest)
    if contents.count <= max(samples.indices):
        raise DataError(f"{samples.source} has fewer samples than before", hint="do not change the data during a run")
    return contents


def _items(samples: SampleSet, inputs: tuple[TensorSpec, ...], indices: tuple[int, ...]) -> Iterator[Item]:
    labels = LABELS if samples.labelled else None
    if samples.kind == "pictures":
        return image_folder.read(Path(samples.source), samples.preprocessing, inputs, indices)
    if samples.kind == "npz":
        return npz.read(Path(samples.source), inputs, labels, indices)
    return generator.read(samples.source, inputs, labels, indices)


def _with_digest(samples: SampleSet, contents: Contents) -> SampleSet:
    labels = None if contents.labels is None else contents.labels[np.asarray(samples.indices)]
    return replace(samples, sha256=_digest(samples, [contents.digest(i) for i in samples.indices], labels))


def _digest(samples: SampleSet, digests: list[str], labels: Array | None) -> str:
    """Return the sha256 over the samples' digests, their labels, which ones they are, and the preprocessing."""
    return sha256_json(
        {
            "kind": samples.kind,
            "indices": list(samples.indices),
            "samples": digests,
            "labels": None if labels is None else _array_digest(labels),
            "classes": list(samples.classes),
            "preprocessing": documents.encode(samples.preprocessing),
        }
    )


def _array_digest(array: Array) -> str:
    data = np.ascontiguousarray(array)
    return hashlib.sha256(f"{data.dtype.str}:{data.shape};".encode() + data.tobytes()).hexdigest()
