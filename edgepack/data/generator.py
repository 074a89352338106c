"""A user's ``module:callable`` or ``file.py:callable`` as samples: it yields one dict of arrays a sample."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.base.documents import suggestion
from edgepack.base.shapes import show_shape
from edgepack.base.user_functions import load_callable
from edgepack.data.checks import check_dtype, check_names, check_shape, check_values, to_input
from edgepack.data.source import Asked, Contents, Item, Source, backwards, place
from edgepack.errors import DataError

if TYPE_CHECKING:
    from edgepack.specs.model import TensorSpec
    from edgepack.specs.types import Array

_MOST_SAMPLES = 100_000  # a callable that yields more is taken for one that never ends


def scan(source: str, inputs: tuple[TensorSpec, ...] | None, labels: str | None) -> Contents:
    """Run the callable to its end and return the digests and labels of what it yields."""
    digests: list[str] = []
    found: list[Array | None] = []
    for index, sample in enumerate(_samples(source)):
        if index >= _MOST_SAMPLES:
            raise DataError(
                f"{source} still yields samples after {_MOST_SAMPLES}",
                hint="let it end; itertools.islice cuts it short",
            )
        if inputs is not None:
            _feed(sample, inputs, labels, place(index, source))
        digests.append(_digest(sample, labels))
        found.append(_label(sample, labels, place(index, source)))
    if not digests:
        raise DataError(f"{source} yielded no sample", hint="yield one dict of arrays for each sample")
    return Contents(len(digests), digests.__getitem__, _stack(found, source))


def read(source: str, inputs: tuple[TensorSpec, ...], labels: str | None, indices: Sequence[int]) -> Iterator[Item]:
    """Yield the samples ``indices``; those in between are made and dropped."""
    samples = enumerate(_samples(source))
    for number, index in enumerate(indices):
        if backwards(indices[max(0, number - 1) : number + 1]):
            samples = enumerate(_samples(source))
        sample = next((value for position, value in samples if position == index), None)
        if sample is None:
            raise DataError(f"{source} yields fewer samples than before", hint="it must yield the same ones each time")
        where = place(index, source)
        yield Item(_feed(sample, inputs, labels, where), _digest(sample, labels), _label(sample, labels, where))


def _samples(source: str) -> Iterator[Mapping[str, Array]]:
    """Yield what the user's callable yields, as dicts of numpy arrays; its own errors become ``DataError``."""
    function = load_callable(source)
    with _users_errors(source):
        samples = iter(function())
    index = 0
    while True:
        with _users_errors(source):
            try:
                sample = next(samples)
            except StopIteration:
                return
        yield _arrays(sample, place(index, source))
        index += 1


@contextmanager
def _users_errors(source: str) -> Iterator[None]:
    try:
        yield
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        line = f" ({Path(frames[-1].filename).name} line {frames[-1].lineno})" if len(frames) > 1 else ""
        raise DataError(
            f"{source} failed: {type(error).__name__}: {error}{line}", hint="run it on its own and fix it"
        ) from error


def _arrays(sample: Any, where: str) -> Mapping[str, Array]:
    if not isinstance(sample, Mapping) or not all(isinstance(key, str) for key in sample):
        raise DataError(
            f"{where} is a {type(sample).__name__}, not a dict of arrays",
            hint="yield {'input_name': array} for each sample",
        )
    arrays = {}
    for name, value in sample.items():
        try:
            arrays[name] = np.asarray(value)
        except Exception as error:  # a tensor on another device, a ragged list
            raise DataError(
                f"{where}: {name!r} is a {type(value).__name__} that numpy cannot read: {error}",
                hint="yield numpy arrays, such as tensor.cpu().numpy()",
            ) from error
    return arrays


def _feed(
    sample: Mapping[str, Array], inputs: tuple[TensorSpec, ...], labels: str | None, where: str
) -> dict[str, Array]:
    """Return a sample's arrays checked, with a batch axis of 1 added where it is missing."""
    check_names(sample, inputs, where)
    extra = [name for name in sample if name != labels and name not in {spec.name for spec in inputs}]
    if extra:
        known = [spec.name for spec in inputs] + ([labels] if labels else [])
        raise DataError(
            f"{where} has {extra[0]!r}, which is not an input of the model",
            hint=f"{suggestion(extra[0], known)}; samples leave out what --set fixes",
        )
    feed = {}
    for spec in inputs:
        array = sample[spec.name]
        check_dtype(array.dtype, spec, where)
        if array.ndim == len(spec.shape) - 1 and (spec.batched or not isinstance(spec.shape[0], str)):
            array = array[None]
        check_shape(array.shape, spec, where)
        if spec.batched and array.shape[0] != 1:
            raise DataError(
                f"{where}: {spec.name!r} has shape {show_shape(array.shape)}, a batch of {array.shape[0]}",
                hint=f"yield one sample at a time; if the first axis is a length and no batch, say so: --shape "
                f"{spec.name}={'x'.join(['*', *map(str, array.shape[1:])])}",
            )
        check_values(array, spec.name, where)
        feed[spec.name] = to_input(array, spec)
    return feed


def _label(sample: Mapping[str, Array], labels: str | None, where: str) -> Array | None:
    if labels is None or labels not in sample:
        return None
    label = sample[labels]
    if label.dtype.kind not in "biuf":
        raise DataError(f"{where}: its label is {label.dtype}, not a number", hint="yield the number of the class")
    check_values(label, labels, where)
    return label[0] if label.shape == (1,) else label


def _stack(labels: list[Array | None], source: str) -> Array | None:
    known = [label for label in labels if label is not None]
    if not known:
        return None
    if len(known) != len(labels):
        index = next(i for i, label in enumerate(labels) if label is None)
        raise DataError(
            f"{place(index, source)} has no label, others have one", hint="yield labels with every sample or none"
        )
    if len({(label.shape, label.dtype) for label in known}) > 1:
        raise DataError(f"{source} yields labels of different shapes or types", hint="yield labels of one kind")
    return np.stack(known)


def _digest(sample: Mapping[str, Array], labels: str | None) -> str:
    """Return the sha256 over names, dtypes, shapes and bytes of a sample's arrays; labels are hashed elsewhere."""
    digest = hashlib.sha256()
    for name in sorted(sample):
        if name != labels:
            array = np.ascontiguousarray(sample[name])
            digest.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def _recognises(data: str, _task: object) -> bool:
    before, colon, after = data.rpartition(":")
    exists = "\0" not in data and (Path(data).is_dir() or Path(data).is_file())
    return bool(colon and after.isidentifier() and before) and not exists


def _scan_asked(asked: Asked, inputs: tuple[TensorSpec, ...] | None, _digest_of_file: object) -> Contents:
    return scan(asked.source, inputs, asked.labels)


def _read_asked(asked: Asked, inputs: tuple[TensorSpec, ...], indices: Sequence[int]) -> Iterator[Item]:
    return read(asked.source, inputs, asked.labels, indices)


SOURCE = Source(_recognises, _scan_asked, _read_asked)
