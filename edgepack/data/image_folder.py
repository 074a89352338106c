"""A folder of pictures as samples: class subfolders, labels.csv, or flat and unlabelled."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepack.base.documents import suggestion
from edgepack.base.files import read_regular
from edgepack.data.named_classes import whole_number
from edgepack.data.pictures import (
    SUFFIXES,
    check_inputs,
    digest_of_file,
    find_broken,
    frame_of_file,
    read_files,
)
from edgepack.data.preprocess import read_picture_file
from edgepack.data.rows import check_separator, read_rows
from edgepack.data.source import Asked, Contents, Item, Source
from edgepack.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from edgepack.specs.model import TensorSpec
    from edgepack.specs.task import Task
    from edgepack.specs.types import Array

LABELS_FILE = "labels.csv"
METADATA_FILES = ("metadata.csv", "metadata.jsonl")  # huggingface.co/docs/datasets/image_dataset
CLASSES_FILE = "labels.txt"
_MOST_LABELS_BYTES = 64 << 20
_PARTS = ("train", "training", "val", "valid", "validation", "test", "testing", "eval", "dev")
_HELD_OUT = ("val", "valid", "validation", "test")
_OF_LABELS = (".csv", ".tsv", ".json", ".jsonl", ".xml")
_SHOWN = 5
_OF_MASKS = ("images", "masks", "labels", "annotations")


@dataclass(frozen=True)
class PictureFolder:
    """The pictures of a folder: names relative to it with "/", sorted; one label a picture, or none at all."""

    root: Path
    names: tuple[str, ...]
    labels: tuple[int, ...] | None
    classes: tuple[str, ...]
    ignored: tuple[str, ...]


def list_pictures(root: Path, classes: tuple[str, ...] = ()) -> PictureFolder:
    """Find the pictures below ``root`` and their labels; see ``list_files``."""
    return list_files(root, classes, SUFFIXES, "picture")


def list_files(
    root: Path, classes: tuple[str, ...], suffixes: tuple[str, ...], what: str, *, labelled: bool = True
) -> PictureFolder:
    """Find the files of some suffixes below ``root`` and their labels; ``what`` is what one of them is called.

    Without ``labelled`` labels are not looked for.

    With ``labels.csv`` (header ``file,label``) that file says what the samples are; labels that are not all whole
    numbers become classes in sorted order. So does ``metadata.csv`` or ``metadata.jsonl`` with the columns
    ``file_name`` and ``label``. Else the subfolders are the classes, in sorted order; subfolders that all
    have whole numbers for names mean those labels. Else the pictures are unlabelled. Names of classes have the order
    of ``classes``, else of a file ``labels.txt``, where there is one, and not the sorted one. Hidden files, and files
    that are not pictures by their suffix, are ignored and named in ``ignored``. Raises ``DataError``.
    """
    classes = classes or read_class_names(root)
    names, ignored = _walk(root, suffixes)
    if not names:
        others = f"; it has {len(ignored)} other files, such as {ignored[0]}" if ignored else ""
        archive = next((name for name in ignored if name.lower().endswith(".zip")), None)
        hint = f"{what}s end in " + ", ".join(suffixes) if archive is None else f"give the archive, {root / archive}"
        raise DataError(f"there is no {what} in {root}{others}", hint=hint)
    if not labelled:
        return PictureFolder(root, names, None, (), ignored)
    if (root / LABELS_FILE).exists():
        words = parse_labels_file(root / LABELS_FILE)
        labels, classes = _labels_of(root / LABELS_FILE, words, names, classes, what)
        return PictureFolder(root, names, labels, classes, ignored)
    for file in METADATA_FILES:
        if (root / file).is_file() and (words := _parse_metadata(root / file)):
            labels, classes = _labels_of(root / file, words, names, classes, what)
            return PictureFolder(root, names, labels, classes, tuple(name for name in ignored if name != file))
    folders = sorted({name.partition("/")[0] for name in names if "/" in name})
    if not folders:
        return PictureFolder(root, names, None, (), ignored)
    _check_class_folders(root, names, folders, what)
    if not set(folders) <= set(classes):
        _check_no_parts(root, folders, what)
    values, classes = _label_values(folders, classes, folders=True)
    return PictureFolder(root, names, tuple(values[name.partition("/")[0]] for name in names), classes, ignored)


def _order(task: Task | None) -> tuple[str, ...]:
    return task.classes if task is not None else ()


def _labels(found: PictureFolder) -> Array | None:
    return None if found.labels is None else np.asarray(found.labels, dtype=np.int64)


def _recognises(data: str, _task: object) -> bool:
    return "\0" not in data and Path(data).is_dir()


def _scan(asked: Asked, inputs: tuple[TensorSpec, ...] | None, digest: Callable[[Path], str]) -> Contents:
    root = Path(asked.source)
    found = list_pictures(root, _order(asked.task))
    if inputs is not None:
        check_inputs(asked.source, asked.preprocessing, inputs)
    paths = tuple(root / name for name in found.names)
    return Contents(
        len(paths),
        lambda index: digest_of_file(paths[index], digest),
        _labels(found),
        found.classes,
        found.ignored,
        found.names,
        find_broken(paths) if asked.thorough else (),
        notes_of_folders(found, "picture"),
        frame=lambda index: frame_of_file(paths[index], asked.preprocessing),
    )


def _read(asked: Asked, inputs: tuple[TensorSpec, ...], indices: Sequence[int]) -> Iterator[Item]:
    root = Path(asked.source)
    found = list_pictures(root, _order(asked.task))
    labels = _labels(found)
    for index in indices:
        if index >= len(found.names):
            raise DataError(
                f"{root} has only {len(found.names)} pictures left", hint="do not change the data during a run"
            )
    paths = [root / found.names[index] for index in indices]
    chosen = None if labels is None else [labels[index] for index in indices]
    yield from read_files(asked.source, paths, asked.preprocessing, inputs, chosen)


def _picture(asked: Asked, index: int) -> tuple[bytes, str]:
    path = Path(asked.source) / list_pictures(Path(asked.source)).names[index]
    return read_picture_file(path), str(path)


SOURCE = Source(_recognises, _scan, _read, pictures=True, picture=_picture)


def read_class_names(root: Path) -> tuple[str, ...]:
    """Return the lines of ``labels.txt`` in a folder, the classes in order; nothing where there is none."""
    path = root / CLASSES_FILE
    if not path.is_file():
        return ()
    try:
        text = read_regular(path, _MOST_LABELS_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} is not a list of classes in UTF-8: {error}", hint="write one class in a line"
        ) from error
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{path} has the class {twice!r} twice", hint="remove one of the lines")
    return names


def _walk(root: Path, suffixes: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the sorted relative names of files with these suffixes and of others below ``root``."""
    base = root.resolve()
    names: list[str] = []
    ignored: list[str] = []

    def refuse(error: OSError) -> None:
        raise DataError(f"cannot read {error.filename}: {error.strerror}", hint="check the permissions") from error

    for folder, folders, files in os.walk(root, onerror=refuse):
        here, within = Path(folder), set(folders)
        for name in [*folders, *files]:
            path = here / name
            relative = path.relative_to(root).as_posix()
            hidden = name.startswith(".") or name == "__MACOSX"
            if path.is_symlink() and not hidden:
                _check_link(path, base)
            if name in within:
                if hidden or path.is_symlink():
                    ignored.append(relative)
            elif relative not in (LABELS_FILE, CLASSES_FILE):
                (ignored if hidden or not name.lower().endswith(suffixes) else names).append(relative)
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


def _check_class_folders(root: Path, names: tuple[str, ...], folders: list[str], what: str) -> None:
    loose = [name for name in names if "/" not in name]
    if loose:
        raise DataError(
            f"{root} has {what}s both in class folders ({folders[0]}, ...) and beside them ({loose[0]}, ...)",
            hint="move all of them into class folders, or none, or add a labels.csv with the header file,label",
        )
    if len(folders) == 1:
        nested = any(name.count("/") > 1 for name in names)
        then = "whose folders are then the classes" if nested else f"for unlabelled {what}s"
        raise DataError(
            f"all {what}s of {root} are in one subfolder, {folders[0]}",
            hint=f"give {root / folders[0]}, {then}, or add a labels.csv with the header file,label",
        )


def _check_no_parts(root: Path, folders: list[str], what: str) -> None:
    """Raise ``DataError`` where the folders are parts of a data set, or pictures and their masks, and not classes."""
    small = {folder.lower(): root / folder for folder in folders}
    shown = ", ".join(folders)
    if set(small) <= set(_PARTS):
        hint = "give one of them"
        if (train := small.get("train")) and (
            other := next((small[part] for part in _HELD_OUT if part in small), None)
        ):
            hint += f", such as --data {train} --eval {other}"
        raise DataError(f"the folders of {root} are parts of a data set ({shown}), not classes", hint=hint)
    if set(small) <= set(_OF_MASKS):
        raise DataError(
            f"the folders of {root} ({shown}) are not classes of {what}s",
            hint=f"pictures and masks are read for --task semantic-segmentation; else give {root / folders[0]}",
        )


def notes_of_folders(found: PictureFolder, what: str) -> tuple[str, ...]:
    """Return what the user should know of how labels were found: folders below a class, and files that name labels."""
    if found.labels is None:
        beside = [name for name in found.ignored if "/" not in name and name.lower().endswith(_OF_LABELS)]
        return (f"{beside[0]} beside the {what}s is not read: labels stand in {LABELS_FILE}",) if beside else ()
    if any((found.root / file).exists() for file in (LABELS_FILE, *METADATA_FILES)):
        return ()
    notes = []
    deep = next((name for name in found.names if name.count("/") > 1), None)
    if deep is not None:
        notes.append(f"folders below a class folder belong to that class, such as {deep}")
    if empty := _empty_folders(found):
        shown = ", ".join(empty[:_SHOWN]) + (", ..." if len(empty) > _SHOWN else "")
        one = len(empty) == 1
        folders = "1 folder has" if one else f"{len(empty)} folders have"
        notes.append(f"{folders} no {what} and {'is not a class' if one else 'are not classes'}: {shown}")
    return tuple(notes)


def _empty_folders(found: PictureFolder) -> list[str]:
    """Return the folders beside those of the classes that hold no file of theirs: the classes behind them move up."""
    used = {name.partition("/")[0] for name in found.names}
    folders = (path for path in found.root.iterdir() if path.is_dir() and not path.is_symlink())
    names = sorted(path.name for path in folders if not path.name.startswith((".", "__MACOSX")))
    return [name for name in names if name not in used and name not in found.classes]


def _label_values(
    words: list[str], classes: tuple[str, ...], *, folders: bool = False
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Return the label of each word: the number that it is when all are whole numbers, else its place in ``classes``.

    Without classes it is its place among the words. A folder named 1.0 is a name, in a table it is 1. Raises
    ``DataError`` for a word that is not a class.
    """
    unique = sorted(set(words))
    plain = [word for word in unique if word.isdigit() or not folders]
    values = {word: number for word in plain if (number := whole_number(word)) is not None}
    if len(values) == len(unique) and not set(unique) <= set(classes):
        if len(set(values.values())) != len(values):
            raise DataError("two class names mean the same number, such as 1 and 01", hint="rename one of them")
        return values, classes
    if not classes:
        classes = tuple(unique)
    places = {name: place for place, name in enumerate(classes)}
    for word in unique:
        if word not in places:
            raise DataError(
                f"{word!r} is not one of the {len(classes)} classes of the recipe or of {CLASSES_FILE}",
                hint=suggestion(word, classes[:200]),
            )
    return places, classes


def _parse_metadata(path: Path) -> dict[str, tuple[str, int]]:
    """Return file name -> (label, line) of a file as datasets' imagefolder has it; nothing where it has no labels."""
    rows = read_rows(path)
    if not {"file_name", "label"} <= set(rows.columns):
        return {}
    words: dict[str, tuple[str, int]] = {}
    for index, cells in enumerate(rows.cells):
        name, label = (cells.get(column, "").strip() for column in ("file_name", "label"))
        if not name or not label or name in words:
            raise DataError(
                f"{rows.where(index)}: {name or 'no file'} has no label, or is listed twice", hint="correct the line"
            )
        words[name] = (label, rows.lines[index])
    return words


def _labels_of(
    path: Path, words: dict[str, tuple[str, int]], names: tuple[str, ...], order: tuple[str, ...], what: str
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the label of each file by what the file of labels ``path`` says. Raises ``DataError``."""
    known = set(names)
    for name, (_, line) in words.items():
        if name not in known:
            raise DataError(
                f"{path} line {line}: there is no {what} {name!r}", hint=suggestion(name, _near(name, names))
            )
    missing = [name for name in names if name not in words]
    if missing:
        raise DataError(
            f"{path} has no label for {missing[0]}" + (f" and {len(missing) - 1} others" if missing[1:] else ""),
            hint=f"add a line for each {what}, or move unlabelled {what}s elsewhere",
        )
    values, classes = _label_values([word for word, _ in words.values()], order)
    return tuple(values[words[name][0]] for name in names), classes


def parse_labels_file(path: Path) -> dict[str, tuple[str, int]]:
    """Return file name -> (label, line)."""
    words: dict[str, tuple[str, int]] = {}
    try:
        text = read_regular(path, _MOST_LABELS_BYTES).decode("utf-8-sig")
        check_separator(text, str(path), ",", "save it with commas")
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
