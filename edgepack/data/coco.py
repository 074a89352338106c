"""COCO's JSON as samples: pictures with boxes, and points where things have some.

The format: cocodataset.org/#format-data. A file, or a folder with one such file in it or in ``annotations``.
"""

from __future__ import annotations

import codecs
import functools
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from edgepack.base.files import read_regular
from edgepack.base.text import shortened
from edgepack.data.annotated import OF_BOXES, Annotated, Reader, Thing, arrange, as_written, find_sizes
from edgepack.data.source import Asked, Bad, Source, may_read
from edgepack.errors import DataError

_MOST_BYTES = 2 << 30
_HEAD_BYTES = 1 << 16
_FOLDERS = ("", "images", "../images", "..")
_FORMAT = "see cocodataset.org/#format-data"
_MOST_SHOWN = 40
_SIDES = 4


def annotation_file(data: str) -> Path | None:
    """Return the file of COCO's kind that ``data`` is, or that is the only one in it; None where there is none.

    Raises ``DataError`` where a folder has several.
    """
    path = Path(data)
    if "\0" in data:
        return None
    if path.is_file():
        return path if path.suffix.lower() == ".json" and _looks_like_coco(path) else None
    if not path.is_dir():
        return None
    found = [file for folder in (path, path / "annotations") for file in sorted(folder.glob("*.json"))]
    found = [file for file in found if _looks_like_coco(file)]
    if len(found) > 1:
        names = ", ".join(file.relative_to(path).as_posix() for file in found[:4])
        raise DataError(f"{data} has several files of labels: {names}", hint=f"give one of them: {found[0]}")
    return found[0] if found else None


def _looks_like_coco(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            file.seek(max(path.stat().st_size - _HEAD_BYTES, 0))
            both = head + file.read(_HEAD_BYTES)
    except OSError:
        return False
    begins = head.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"{"
    return begins and b'"images"' in both and (b'"annotations"' in both or b'"categories"' in both)


def read_coco(path: Path, order: tuple[str, ...] = (), within: Path | None = None) -> Annotated:
    """Return the pictures that a file lists, with what is labelled in them; ``within`` as in ``Asked``.

    Raises ``DataError``.
    """
    status = path.stat()
    return _read(path, order, within, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=2)
def _read(path: Path, order: tuple[str, ...], within: Path | None, _changed: int, _size: int) -> Annotated:
    data = _parsed(path)
    try:
        images, categories = (_numbered(_rows(data, key, path), key, path) for key in ("images", "categories"))
        _check_once(images, path)
        _check_ids("picture", [(row["id"], str(row["file_name"])) for row in images], path)
        _check_ids("category", [(row["id"], str(row["name"])) for row in categories], path)
        things = _things(_rows(data, "annotations", path), path)
        used = {thing.number for found in things.values() for thing in found}
        places = [place for place in _places(path) if may_read(place, within)]
        return _arranged(path, places, images, things, _classes(categories, used), order)
    except KeyError as error:
        raise DataError(f"{path}: an entry lacks {error}", hint=_FORMAT) from error


def _parsed(path: Path) -> Any:
    try:
        return json.loads(read_regular(path, _MOST_BYTES))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}", hint="write it again") from error


def _arranged(
    path: Path,
    places: Sequence[Path],
    images: list[Mapping[str, Any]],
    things: Mapping[int, list[Thing]],
    classes: Mapping[int, str],
    order: tuple[str, ...],
) -> Annotated:
    """Return the pictures whose files are in one of ``places``, by their names; files that are not are bad."""
    rows = sorted(images, key=lambda row: str(row["file_name"]))
    if not rows:
        raise DataError(f"{path} lists no picture", hint=_FORMAT)
    files = [_find(str(row["file_name"]), places) for row in rows]
    if not any(files):
        raise DataError(
            f"no picture of {path} is found, such as {rows[0]['file_name']}", hint=f"put them into {places[0]}"
        )
    bad = [
        Bad(None, f"{path} has labels for {row['file_name']}, and there is no such file", "remove them, or add it")
        for row, file in zip(rows, files, strict=True)
        if file is None
    ]
    known = {row["id"] for row in rows}
    bad += [
        Bad(None, f"{found[0].where} is of the picture {_shown(number)}, which is not listed", "remove it")
        for number, found in things.items()
        if number not in known
    ]
    pairs = [(row, file) for row, file in zip(rows, files, strict=True) if file is not None]
    stated = [_stated_size(row, f"{path}: the picture {row['id']}") for row, _ in pairs]
    sizes, wrong = find_sizes([file for _, file in pairs], stated, path)
    bad += wrong
    labels = [things.get(row["id"], []) for row, _ in pairs]
    root = path.parent.parent if path.parent.name == "annotations" else path.parent
    return arrange(root, [file for _, file in pairs], sizes, labels, classes, order, bad)


def _stated_size(row: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    if row.get("height") is None and row.get("width") is None:
        return None
    return _whole(row, "height", where), _whole(row, "width", where)


def _rows(data: Any, key: str, path: Path) -> list[Mapping[str, Any]]:
    found = data.get(key, []) if isinstance(data, dict) else None
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise DataError(f"{path} has no list of {key}", hint=_FORMAT)
    return found


def _numbered(rows: list[Mapping[str, Any]], key: str, path: Path) -> list[Mapping[str, Any]]:
    """Return rows whose ids are whole numbers."""
    return [{**row, "id": _whole(row, "id", f"{path}: number {n} of {key}")} for n, row in enumerate(rows, 1)]


def _whole(row: Mapping[str, Any], key: str, where: str) -> int:
    """Return a whole number, which may be written as text. Raises ``DataError``; an id that is cut is another's."""
    value = row.get(key)
    try:
        number = int(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else None
    except (ValueError, OverflowError):  # no number, NaN, or infinite
        number = None
    if number is None or (isinstance(value, float) and number != value):
        raise DataError(f"{where}: {key} is {_shown(value)}, not a whole number", hint=_FORMAT)
    return number


def _reals(value: Any, what: str, where: str) -> list[float]:
    """Return a list of numbers. Raises ``DataError``."""
    real = isinstance(value, list) and all(isinstance(n, int | float) and not isinstance(n, bool) for n in value)
    try:
        if real:
            return [float(n) for n in value]
    except OverflowError:
        pass
    raise DataError(f"{where}: {what} is {_shown(value)}, not a list of numbers", hint=_FORMAT)


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # a whole number of thousands of digits
        text = "a number of too many digits"
    return shortened(text, _MOST_SHOWN)


def _check_once(images: list[Mapping[str, Any]], path: Path) -> None:
    """Raise ``DataError`` where one file is listed twice: it would be two samples, each with a part of the labels."""
    seen: dict[str, Any] = {}
    for row in images:
        name = str(PurePosixPath(str(row["file_name"])))
        if name in seen:
            raise DataError(
                f"{path} lists {name} twice, as the pictures {seen[name]} and {row['id']}",
                hint="list each file once, with the labels of both under one id",
            )
        seen[name] = row["id"]


def _check_ids(what: str, named: list[tuple[int, str]], path: Path) -> None:
    """Raise ``DataError`` where two things have one id: labels of one would be the other's too."""
    seen: dict[int, str] = {}
    for number, name in named:
        if number in seen:
            raise DataError(
                f"{path}: {seen[number]!r} and {name!r} have one id as {what}, {number}", hint="give each its own id"
            )
        seen[number] = name


def _classes(categories: list[Mapping[str, Any]], used: set[int]) -> Mapping[int, str]:
    """Return the names of the categories by id, without one that only groups another of its name.

    Roboflow writes the data set's name as the first category, the supercategory of all others, and labels nothing with
    it; a class of that name is another category.
    """
    above: dict[str, set[Any]] = defaultdict(set)
    for row in categories:
        if row.get("supercategory") == row["name"]:
            above[str(row["name"])].add(row["id"])
    return {
        row["id"]: str(row["name"])
        for row in categories
        if row.get("supercategory") != "none" or row["id"] in used or not above[str(row["name"])] - {row["id"]}
    }


def _things(rows: list[Mapping[str, Any]], path: Path) -> Mapping[int, list[Thing]]:
    found: dict[int, list[Thing]] = defaultdict(list)
    for row in rows:
        where = f"{path}: the annotation {_shown(row['id']) if 'id' in row else ''}".rstrip()
        found[_whole(row, "image_id", where)].append(_thing(row, where))
    return found


def _thing(row: Mapping[str, Any], where: str) -> Thing:
    flat = _reals(row.get("keypoints") or [], "keypoints", where)
    if len(flat) % 3:
        raise DataError(f"{where}: keypoints has {len(flat)} numbers, not three for each point", hint=_FORMAT)
    points = tuple((flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat), 3))
    crowd, area = row.get("iscrowd") or 0, row.get("area")
    if crowd not in (0, 1, "0", "1"):
        raise DataError(f"{where}: iscrowd is {_shown(crowd)}, not 0 or 1", hint=_FORMAT)
    return Thing(
        _whole(row, "category_id", where),
        _corners(row, where),
        where,
        points,
        bool(int(crowd)),
        None if area is None else _reals([area], "area", where)[0],
    )


def _corners(row: Mapping[str, Any], where: str) -> tuple[float, float, float, float]:
    """Return the sides of a box, or of what its polygons span where nothing but these is labelled."""
    given, areas = row.get("bbox"), row.get("segmentation")
    if not given and isinstance(areas, list) and areas:
        flat = [_reals(area, "segmentation", where) for area in areas]
        across, down = [n for area in flat for n in area[0::2]], [n for area in flat for n in area[1::2]]
        if across and len(across) == len(down):
            return min(across), min(down), max(across), max(down)
    sides = _reals(given, "bbox", where)
    if len(sides) != _SIDES:
        raise DataError(
            f"{where}: bbox has {len(sides)} numbers, not {_SIDES}", hint="write [left, top, width, height]"
        )
    left, top, width, height = sides
    return left, top, left + width, top + height


def _places(path: Path) -> list[Path]:
    """Return the folders that pictures may be in: beside the file, in images, or in that which its name ends with."""
    split = path.stem.rpartition("_")[2]
    return [path.parent / folder for folder in (*_FOLDERS, split, f"../{split}", f"../images/{split}")]


def _find(name: str, places: Sequence[Path]) -> Path | None:
    if Path(name).is_absolute() or ".." in re.split(r"[/\\]", name):
        raise DataError(f"the file name {name!r} leads outside the folder", hint="name files below it")
    return next((place / each for each in as_written(name) for place in places if (place / each).is_file()), None)


def _recognises(data: str, _task: object) -> bool:
    return annotation_file(data) is not None


def _annotated(asked: Asked, classes: tuple[str, ...]) -> Annotated:
    path = annotation_file(asked.source)
    if path is None:
        raise DataError(f"{asked.source} no longer has labels in COCO's format", hint="do not change data during a run")
    return read_coco(path, classes, asked.within)


_READER = Reader(_annotated)
SOURCE = Source(_recognises, _READER.scan, _READER.read, pictures=True, picture=_READER.picture, tasks=OF_BOXES)
