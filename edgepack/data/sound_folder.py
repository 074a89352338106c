"""A folder of .wav files as samples: class subfolders, labels.csv, or flat and unlabelled."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepack.base import documents
from edgepack.base.files import read_regular
from edgepack.base.shapes import show_shape
from edgepack.data.audio.features import check_sound, feature_shape, sound_input
from edgepack.data.audio.wav import MOST_FILE_BYTES, decode_wav, read_wav
from edgepack.data.checks import check_dtype, check_shape, fits, to_input
from edgepack.data.image_folder import list_files, notes_of_folders
from edgepack.data.pictures import SUFFIXES as PICTURES
from edgepack.data.pictures import digest_of_file
from edgepack.data.source import Asked, Bad, Contents, Item, Source
from edgepack.errors import DataError, RecipeError
from edgepack.specs.signals import Sound
from edgepack.specs.task import Task

if TYPE_CHECKING:
    from edgepack.data.image_folder import PictureFolder
    from edgepack.specs.model import TensorSpec
    from edgepack.specs.types import Array

SUFFIXES = (".wav",)
_KINDS = ("audio-classification", "voice-activity")  # of tasks that take nothing else
_MOST_LOOKED_AT = 10_000  # files, until one says of which kind the folder is


def sound_settings(task: Task | None, where: str) -> Sound:
    """Return how a task's sounds become inputs.

    Raises ``RecipeError`` without a task, ``ConfigError`` for settings that cannot be meant.
    """
    if task is None:
        raise RecipeError(
            f"{where} contains sounds, and no recipe says how to make inputs of them",
            hint="add a recipe with a task, such as --recipe speech-commands-mfcc ('edgepack recipes' lists them)",
        )
    if task.kind == "voice-activity":
        raise DataError(
            f"{where} contains sounds, but a model of voice-activity takes chunks with the state after the one before",
            hint="give a Python function that runs the model and yields its inputs (--data chunks.py:chunks); "
            "docs/texts-sounds-tables.md shows one",
        )
    found: Sound = documents.decode(Sound, documents.encode(task.input), "task.input")
    check_sound(found, "task.input")
    return found


def as_input(array: Array, spec: TensorSpec, where: str) -> Array:
    """Return features in the model's shape: a batch axis is added, and axes of 1 where the model has them.

    Raises ``DataError`` where that does not make it fit.
    """
    check_dtype(array.dtype, spec, where)
    fitted = _with_axes(array.shape, spec)
    if fitted is None:
        raise DataError(
            f"{where}: the recipe makes {show_shape(array.shape)} of it, the model's input {spec.name!r} is "
            f"{show_shape(spec.shape)}",
            hint="check length, hop, window_length and mels or coefficients in [task.input] of the recipe",
        )
    return to_input(array.reshape(fitted), spec)


def _with_axes(shape: tuple[int, ...], spec: TensorSpec) -> tuple[int, ...] | None:
    """Return ``shape`` with axes of 1 put in so that it fits the model's input, a batch first if that can be."""
    places = itertools.combinations(range(len(spec.shape)), len(shape))
    for chosen in sorted(places, key=lambda found: (0 in found, found)):
        sizes = dict(zip(chosen, shape, strict=True))
        fitted = tuple(sizes.get(axis, 1) for axis in range(len(spec.shape)))
        if fits(fitted, spec):
            return fitted
    return None


def holds_sounds(folder: Path) -> bool:
    """Say whether the first file of a folder that is a sound or a picture is a sound."""
    looked_at = 0
    for _, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            looked_at += 1
            if name.lower().endswith(PICTURES) or looked_at > _MOST_LOOKED_AT:
                return False
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                return True
    return False


def _recognises(data: str, task: Task | None) -> bool:
    if "\0" in data or not Path(data).is_dir():
        return False
    return holds_sounds(Path(data)) or (task is not None and task.kind in _KINDS)


def _list(asked: Asked) -> PictureFolder:
    classes = asked.task.classes if asked.task is not None else ()
    return list_files(Path(asked.source), classes, SUFFIXES, "sound")


def _scan(asked: Asked, inputs: tuple[TensorSpec, ...] | None, digest: Callable[[Path], str]) -> Contents:
    made = sound_settings(asked.task, asked.source)
    if inputs is not None:
        check_input(made, inputs, asked.source)
    found = _list(asked)
    paths = tuple(found.root / name for name in found.names)
    return Contents(
        len(paths),
        lambda index: digest_of_file(paths[index], digest),
        None if found.labels is None else np.asarray(found.labels, np.int64),
        found.classes,
        found.ignored,
        found.names,
        _find_broken(paths, made) if asked.thorough else (),
        notes_of_folders(found, "sound"),
    )


def check_input(made: Sound, inputs: Sequence[TensorSpec], source: str) -> TensorSpec:
    """Return the one input that sounds feed. Raises ``DataError`` where the settings do not fit it."""
    if len(inputs) != 1:
        names = ", ".join(spec.name for spec in inputs)
        raise DataError(
            f"the model has {len(inputs)} inputs ({names}), sounds can feed only one",
            hint="fix the others with --set, or give a .npz with an array for each input",
        )
    shape = feature_shape(made)
    if all(isinstance(size, int) for size in shape):
        known = tuple(size for size in shape if isinstance(size, int))
        as_input(np.zeros(known, np.float32), inputs[0], source)
    return inputs[0]


def _find_broken(paths: Sequence[Path], made: Sound) -> tuple[Bad, ...]:
    bad = []
    for index, path in enumerate(paths):
        try:
            sound_input(read_wav(path), made, str(path))
        except DataError as error:
            bad.append(Bad(index, error.message, error.hint))
    return tuple(bad)


def _read(asked: Asked, inputs: tuple[TensorSpec, ...], indices: Sequence[int]) -> Iterator[Item]:
    made = sound_settings(asked.task, asked.source)
    spec = check_input(made, inputs, asked.source)
    found = _list(asked)
    for index in indices:
        if index >= len(found.names):
            raise DataError(
                f"{found.root} has only {len(found.names)} sounds left", hint="do not change the data during a run"
            )
        path = found.root / found.names[index]
        try:
            data = read_regular(path, MOST_FILE_BYTES)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}", hint="check its permissions") from error
        array = as_input(sound_input(decode_wav(data, str(path)), made, str(path)), spec, str(path))
        check_shape(array.shape, spec, str(path))
        label = None if found.labels is None else np.int64(found.labels[index])
        yield Item({spec.name: array}, hashlib.sha256(data).hexdigest(), label)


SOURCE = Source(_recognises, _scan, _read, named=True)
