"""A folder of pictures of lines of text as samples; labels.csv says what stands in each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.files import read_regular
from edgepack.data.image_folder import LABELS_FILE, list_files, parse_labels_file
from edgepack.data.pictures import (
    SUFFIXES,
    check_inputs,
    digest_of_file,
    find_broken,
    frame_of_file,
    read_files,
)
from edgepack.data.preprocess import read_picture_file
from edgepack.data.source import Asked, Bad, Contents, Item, Source
from edgepack.errors import DataError

if TYPE_CHECKING:
    from edgepack.specs.model import TensorSpec
    from edgepack.specs.task import Task

KINDS = ("text-recognition",)
CHARSET_FILE = "charset.txt"
_MOST_CHARSET_BYTES = 16 << 20


def read_texts(root: Path) -> tuple[tuple[Path, ...], tuple[str, ...] | None, tuple[Bad, ...], tuple[str, ...]]:
    """Return the pictures of a folder, their texts (None without labels.csv), what is wrong, and what is ignored."""
    found = list_files(root, (), SUFFIXES, "picture", labelled=False)
    paths = tuple(root / name for name in found.names)
    if not (root / LABELS_FILE).exists():
        return paths, None, (), found.ignored
    words = parse_labels_file(root / LABELS_FILE)
    bad = [
        Bad(i, f"{root / LABELS_FILE} has no text for {name}", "add a line for it, or move the picture elsewhere")
        for i, name in enumerate(found.names)
        if name not in words
    ]
    there = set(found.names)
    lost = [name for name in words if name not in there]
    bad += [Bad(None, f"{root / LABELS_FILE} line {words[name][1]}: there is no picture {name!r}") for name in lost]
    return paths, tuple(words.get(name, ("", 0))[0] for name in found.names), tuple(bad), found.ignored


def read_charset(root: Path) -> tuple[str, ...]:
    """Return the lines of charset.txt in a folder, a letter each in the order of the model's classes, or nothing.

    The blank of CTC is none of them. A line may be white space, as that of the ideographic space.
    """
    path = root / CHARSET_FILE
    if not path.is_file():
        return ()
    try:
        text = read_regular(path, _MOST_CHARSET_BYTES).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} is not a list of letters in UTF-8: {error}", hint="write one letter in a line"
        ) from error
    return tuple(text.removesuffix("\n").replace("\r\n", "\n").split("\n"))


def _recognises(data: str, task: Task | None) -> bool:
    return task is not None and task.kind in KINDS and "\0" not in data and Path(data).is_dir()


def _scan(asked: Asked, inputs: tuple[TensorSpec, ...] | None, digest: Callable[[Path], str]) -> Contents:
    if inputs is not None:
        check_inputs(asked.source, asked.preprocessing, inputs)
    root = Path(asked.source)
    paths, texts, bad, ignored = read_texts(root)
    return Contents(
        len(paths),
        lambda index: digest_of_file(paths[index], digest),
        texts,
        read_charset(root) or (asked.task.classes if asked.task is not None else ()),
        tuple(name for name in ignored if name != CHARSET_FILE),
        tuple(path.relative_to(root).as_posix() for path in paths),
        (*bad, *(find_broken(paths) if asked.thorough else ())),
        frame=lambda index: frame_of_file(paths[index], asked.preprocessing),
    )


def _read(asked: Asked, inputs: tuple[TensorSpec, ...], indices: Sequence[int]) -> Iterator[Item]:
    paths, texts, _, _ = read_texts(Path(asked.source))
    if indices and max(indices) >= len(paths):
        raise DataError(f"{asked.source} has only {len(paths)} pictures left", hint="do not change it during a run")
    chosen = None if texts is None else [texts[index] for index in indices]
    yield from read_files(asked.source, [paths[i] for i in indices], asked.preprocessing, inputs, chosen)


def _picture(asked: Asked, index: int) -> tuple[bytes, str]:
    path = read_texts(Path(asked.source))[0][index]
    return read_picture_file(path), str(path)


SOURCE = Source(_recognises, _scan, _read, pictures=True, picture=_picture)
