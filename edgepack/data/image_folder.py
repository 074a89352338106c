"""A folder of pictures as samples: class subfolders, labels.csv, or flat and unlabelled."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepack.base.documents import suggestion
from edgepack.base.files import read_regular
from edgepack.data.checks import check_dtype, check_shape, check_values, fits, show
from edgepack.data.preprocess import MOST_FILE_BYTES, decode_picture, picture_shape
from edgepack.data.source import Contents, Item
from edgepack.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edgepack.specs.data import Preprocessing
    from edgepack.specs.model import TensorSpec
    from edgepack.specs.types import Array

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
_LABELS_FILE = "labels.csv"
_MOST_LABELS_BYTES = 64 << 20


@dataclass(frozen=True)
class PictureFolder:
    """The pictures of a folder: names relative to it with "/", sorted; one label a picture, or none at all."""

    root: Path
    names: tuple[str, ...]
    labels: tuple[int, ...] | None
    classes: tuple[str, ...]
    ignored: tuple[str, ...]


def list_pictures(root: Path) -> PictureFolder:
    """Find the pictures below ``root`` and their labels.

    With ``labels.csv`` (header ``file,label``) that file says what the samples are; labels that are not all whole
    numbers become classes in sorted order. Else the subfolders are the classes, in sorted order; subfolders that all
    have whole numbers for names mean those labels. Else the pictures are unlabelled. Hidden files, and files that are
    no pictures by their suffix, are ignored and named in ``ignored``. Raises ``DataError``.
    """
    names, ignored = _walk(root)
    if not names:
        others = f"; it has {len(ignored)} other files, such as {ignored[0]}" if ignored else ""
        raise DataError(f"there is no picture in {root}{others}", hint="pictures end in " + ", ".join(SUFFIXES))
    if (root / _LABELS_FILE).exists():
        labels, classes = _read_labels_file(root, names)
        return PictureFolder(root, names, labels, classes, ignored)
    folders = sorted({name.partition("/")[0] for name in names if "/" in name})
    if not folders:
        return PictureFolder(root, names, None, (), ignored)
    _check_class_folders(root, names, folders)
    values, classes = _label_values(folders)
    return PictureFolder(root, names, tuple(values[name.partition("/")[0]] for name in names), classes, ignored)


def scan(root: Path, digest: Callable[[Path], str]) -> Contents:
    """Return the contents of a picture folder; ``digest`` gives the sha256 of a file."""
    found = list_pictures(root)
    labels = None if found.labels is None else np.asarray(found.labels, dtype=np.int64)

    def of_sample(index: int) -> str:
        path = root / found.names[index]
        try:
            return digest(path)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}", hint="check the file's permissions") from error

    return Contents(len(found.names), of_sample, labels, found.classes, found.ignored)


def check_inputs(root: Path, preprocessing: Preprocessing | None, inputs: tuple[TensorSpec, ...]) -> TensorSpec:
    """Return the one input that pictures feed. Raises ``DataError`` when the preprocessing does not fit it."""
    if len(inputs) != 1:
        names = ", ".join(spec.name for spec in inputs)
        raise DataError(
            f"the model has {len(inputs)} inputs ({names}), pictures can feed only one",
            hint="give a .npz with an array for each input, or module:callable",
        )
    made = _made_by(root, preprocessing)
    check_dtype(np.dtype(made.dtype), inputs[0], "the recipe")
    shape = (1, *picture_shape(made))
    # A side that depends on the picture fits here; the picture itself is checked when it is read.
    sizes = zip(shape, inputs[0].shape, strict=False)
    known = tuple(want if isinstance(have, str) else have for have, want in sizes)
    if len(shape) != len(inputs[0].shape) or not fits(known, inputs[0]):
        raise DataError(
            f"the recipe makes pictures of shape {show(shape)}, the model's input {inputs[0].name!r} is "
            f"{show(inputs[0].shape)}",
            hint="choose a recipe with the model's size, layout (NCHW or NHWC) and channels",
        )
    return inputs[0]


def read(
    root: Path, preprocessing: Preprocessing | None, inputs: tuple[TensorSpec, ...], indices: Sequence[int]
) -> Iterator[Item]:
    """Yield the pictures ``indices``, decoded one at a time. Raises ``DataError`` naming the file."""
    spec = check_inputs(root, preprocessing, inputs)
    made = _made_by(root, preprocessing)
    found = list_pictures(root)
    for index in indices:
        if index >= len(found.names):
            raise DataError(
                f"{root} has only {len(found.names)} pictures left", hint="do not change the data during a run"
            )
        path = root / found.names[index]
        try:
            data = read_regular(path, MOST_FILE_BYTES)
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror}", hint="check the file's permissions") from error
        array = decode_picture(data, str(path), made)[None]
        check_shape(array.shape, spec, str(path))
        check_values(array, spec.name, str(path))
        label = None if found.labels is None else np.asarray(found.labels[index], dtype=np.int64)
        yield Item({spec.name: array}, hashlib.sha256(data).hexdigest(), label)


def _made_by(root: Path, preprocessing: Preprocessing | None) -> Preprocessing:
    if preprocessing is None:
        raise DataError(
            f"{root} contains pictures, and no recipe says how to preprocess them",
            hint="add a recipe, such as --recipe imagenet, or write one (see the calibration folder)",
        )
    return preprocessing


def _walk(root: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the sorted relative names of pictures and of other files below ``root``."""
    base = root.resolve()
    names: list[str] = []
    ignored: list[str] = []

    def refuse(error: OSError) -> None:
        raise DataError(f"cannot read {error.filename}: {error.strerror}", hint="check the permissions") from error

    for folder, folders, files in os.walk(root, onerror=refuse):
        here = Path(folder)
        for name in [*folders, *files]:
            path = here / name
            relative = path.relative_to(root).as_posix()
            hidden = name.startswith(".") or name == "__MACOSX"
            if path.is_symlink() and not hidden:
                _check_link(path, base)
            if name in folders:
                if hidden or path.is_symlink():
                    ignored.append(relative)
            elif relative != _LABELS_FILE:
                (ignored if hidden or not name.lower().endswith(SUFFIXES) else names).append(relative)
                if relative in names[-1:] and not path.is_file():
                    raise DataError(f"{path} is not a file", hint="remove it, or restore what it links to")
        folders[:] = [n for n in folders if not n.startswith(".") and n != "__MACOSX"]
    return tuple(sorted(names)), tuple(sorted(ignored))


def _check_link(path: Path, base: Path) -> None:
    try:
        inside = path.resolve(strict=True).is_relative_to(base)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path} is a link to nothing", hint="remove it, or restore what it links to") from error
    if not inside:
        raise DataError(f"{path} is a link that leaves the data folder", hint="copy the file instead of linking it")


def _check_class_folders(root: Path, names: tuple[str, ...], folders: list[str]) -> None:
    loose = [name for name in names if "/" not in name]
    if loose:
        raise DataError(
            f"{root} has pictures both in class folders ({folders[0]}, ...) and beside them ({loose[0]}, ...)",
            hint="move all of them into class folders, or none, or add a labels.csv with the header file,label",
        )
    if len(folders) == 1:
        raise DataError(
            f"all pictures of {root} are in one subfolder, {folders[0]}",
            hint=f"give {root / folders[0]} for unlabelled pictures, or add a labels.csv with the header file,label",
        )


def _label_values(words: list[str]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return the label of each word: the number that it is when all are whole numbers, else its place among them."""
    unique = sorted(set(words))
    if all(word.isascii() and word.isdigit() and len(word) < 18 for word in unique):
        values = {word: int(word) for word in unique}
        if len(set(values.values())) != len(values):
            raise DataError("two class names mean the same number, such as 1 and 01", hint="rename one of them")
        return values, ()
    return {word: place for place, word in enumerate(unique)}, tuple(unique)


def _read_labels_file(root: Path, names: tuple[str, ...]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    path = root / _LABELS_FILE
    words = _parse_labels_file(path)
    known = set(names)
    for name, (_, line) in words.items():
        if name not in known:
            raise DataError(
                f"{path} line {line}: there is no picture {name!r}", hint=suggestion(name, _near(name, names))
            )
    missing = [name for name in names if name not in words]
    if missing:
        raise DataError(
            f"{path} has no label for {missing[0]}" + (f" and {len(missing) - 1} others" if missing[1:] else ""),
            hint="add a line for each picture, or move unlabelled pictures elsewhere",
        )
    values, classes = _label_values([word for word, _ in words.values()])
    return tuple(values[words[name][0]] for name in names), classes


def _parse_labels_file(path: Path) -> dict[str, tuple[str, int]]:
    """Return file name -> (label, line)."""
    words: dict[str, tuple[str, int]] = {}
    try:
        text = read_regular(path, _MOST_LABELS_BYTES).decode("utf-8-sig")
        with io.StringIO(text, newline="") as file:
            rows = csv.reader(file, strict=True)
            header = [cell.strip() for cell in next(rows, [])]
            if header != ["file", "label"]:
                raise DataError(f"{path} does not begin with the line file,label", hint="write that header")
            for row in rows:
                if not row:
                    continue
                if len(row) != 2 or not row[0].strip() or not row[1].strip():
                    raise DataError(
                        f"{path} line {rows.line_num}: not a file name and a label", hint="write file,label"
                    )
                name = row[0].strip().removeprefix("./")
                if name in words:
                    raise DataError(f"{path} line {rows.line_num}: {name} is listed twice", hint="remove one line")
                words[name] = (row[1].strip(), rows.line_num)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} is not a CSV file in UTF-8: {error}", hint="save it as CSV, UTF-8") from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="check its permissions") from error
    return words


def _near(name: str, names: tuple[str, ...]) -> list[str]:
    """Return at most 200 names to search for a near one: those with the same beginning first."""
    return sorted(names, key=lambda other: (other[:3] != name[:3], abs(len(other) - len(name))))[:200]


def labels_of(found: PictureFolder) -> Array | None:
    """Return the labels as int64 [pictures], or None."""
    return None if found.labels is None else np.asarray(found.labels, dtype=np.int64)
