"""A YOLO folder as samples: pictures in ``images``, a text file for each in ``labels``, perhaps a ``data.yaml``.

Without these folders labels lie beside the pictures, as darknet has them.

The format: docs.ultralytics.com/datasets/detect. A line is a class and center x, center y, width and height from 0 to
1, then points where ``kpt_shape`` says so; or a class and a polygon, whose box is taken. ``data.yaml:train`` names a
part. Its paths may be absolute or lead out of the folder, as is usual, but not where the folder came in an archive.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepack.base.files import read_regular
from edgepack.data.annotated import OF_BOXES, Annotated, Reader, Thing, arrange, as_written, refuse_outside
from edgepack.data.pictures import SUFFIXES, find_size
from edgepack.data.rows import is_number
from edgepack.data.source import Bad, Source, may_read
from edgepack.errors import DataError, ToolchainError
from edgepack.specs.task import Task

_MOST_BYTES = 8 << 20
_MOST_VALUES = 1_000_000  # of data.yaml
_PARTS = ("val", "train", "test")
_YAML = ("data.yaml", "dataset.yaml", "data.yml")
_LINE = "write class, center x, center y, width, height"
_NAMES = ("classes.txt", "labels.txt", "obj.names", "_darknet.labels")
_LEAST = 5  # numbers in a line
_LOOKED_AT = 50  # pictures, until one has labels


def _settings_file(data: str) -> tuple[Path, str] | None:
    """Return the data.yaml that is meant and which part, "" for the usual one; None where there is none."""
    before, _, part = data.rpartition(":")
    if before and part in _PARTS and Path(before).suffix.lower() in (".yaml", ".yml") and Path(before).is_file():
        return Path(before), part
    path = Path(data)
    if path.is_file() and path.suffix.lower() in (".yaml", ".yml"):
        return path, ""
    return next(((path / name, "") for name in _YAML if (path / name).is_file()), None)


def _recognises(data: str, task: Task | None) -> bool:
    if "\0" in data:
        return False
    if _settings_file(data) is not None:
        return True
    path = Path(data)
    if (path / "images").is_dir() and (path / "labels").is_dir():
        return any((path / "labels").rglob("*.txt"))
    return task is not None and task.kind in OF_BOXES and path.is_dir() and _has_labels_beside(path)


def _has_labels_beside(root: Path) -> bool:
    """Say whether labels lie beside the pictures, as darknet and CVAT write them: one of the first has some."""
    paths = ((picture, _label_path(picture)) for picture in _walk(root)[:_LOOKED_AT])
    return any(label.parent == picture.parent and _is_labels(label) for picture, label in paths)


def _is_labels(path: Path) -> bool:
    """Say whether the first line of a file is one of labels, and not a text or a list of pictures."""
    if not path.is_file():
        return False
    words = next(iter(read_regular(path, _MOST_BYTES).decode("utf-8-sig", "replace").split("\n")), "").split()
    return len(words) >= _LEAST and all(is_number(word) for word in words)


def read_yolo(data: str, order: tuple[str, ...] = (), within: Path | None = None) -> Annotated:
    """Return the pictures of a folder with what is labelled in them; ``within`` as in ``Asked``.

    Raises ``DataError``.
    """
    found = _settings_file(data)
    root = Path(data) if found is None else found[0].parent
    settings: Mapping[str, Any] = {} if found is None else _read_yaml(found[0])
    pictures = _pictures(root, settings, found[1] if found else "", within)
    refuse_outside((place for path in pictures for place in (path, _label_path(path))), within)
    if not pictures:
        raise DataError(f"there is no picture in {data}", hint="pictures end in " + ", ".join(SUFFIXES))
    points = _point_shape(settings)
    bad: list[Bad] = []
    sizes, things = [], []
    for index, path in enumerate(pictures):
        size, problem = _size(path)
        try:
            found_things = [] if problem else _things(_label_path(path), size, points)
        except DataError as error:
            problem, found_things = Bad(index, error.message, error.hint), []
        if problem is not None:
            bad.append(Bad(index, problem.reason, problem.hint))
        sizes.append(size)
        things.append(found_things)
    bad += _without_picture(pictures)
    remarks = (*_without_labels(pictures, root), *_sharing_labels(pictures, root))
    return arrange(root, pictures, sizes, things, _class_names(root, settings), order, bad, remarks)


def _size(path: Path) -> tuple[tuple[int, int], Bad | None]:
    """Return height and width of a picture, or what is wrong with it."""
    try:
        return find_size(path), None
    except DataError as error:
        return (1, 1), Bad(None, error.message, error.hint)


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise ToolchainError(
            "PyYAML is not installed, so data.yaml cannot be read", hint="pip install pyyaml"
        ) from error
    try:
        text = read_regular(path, _MOST_BYTES).decode("utf-8-sig")
        found = yaml.safe_load(text)
        if _values(found, _MOST_VALUES) >= _MOST_VALUES:
            raise DataError(f"{path} holds more than a data.yaml does", hint="write names out, without references")
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:  # ValueError: no date, too many digits
        words = " ".join(str(error).split())[:200]
        raise DataError(f"{path} is not valid YAML: {words}", hint="correct it") from error
    if not isinstance(found, dict):
        raise DataError(f"{path} is not a table", hint="it has keys such as train, val and names")
    return found


def _values(found: Any, most: int) -> int:
    """Return how many values a document has, each reference counted as what it stands for; no more than ``most``."""
    inner = [*found.keys(), *found.values()] if isinstance(found, dict) else found if isinstance(found, list) else ()
    count = 1
    for each in inner:
        count += _values(each, most - count)
        if count >= most:
            return most
    return count


def _pictures(root: Path, settings: Mapping[str, Any], part: str, within: Path | None) -> list[Path]:
    """Return the pictures of one part: val where there is one, else train; without settings all there are.

    No place out of ``within`` is looked at. Raises ``DataError``.
    """
    if not settings:
        return _walk(root / "images" if (root / "images").is_dir() else root)
    wanted = part or next((name for name in _PARTS if settings.get(name)), "")
    places = settings.get(wanted) or []
    base = _base(root, settings.get("path"), within)
    found: list[Path] = []
    for place in places if isinstance(places, list) else [places]:
        path = _place(root, base, str(place), within)
        if path is None:
            allowed = may_read(base / str(place), within)
            outside = "" if allowed else ": it lies outside of the archive, where nothing is read"
            raise DataError(
                f"there is no {base / str(place)}, which data.yaml has as {wanted}{outside}", hint="correct its path"
            )
        found += _listed(path) if path.is_file() else _walk(path)
    if not found and not places:
        raise DataError(f"{root}: data.yaml has no {part or 'val or train'}", hint="write val: images/val")
    return sorted(set(found))


def _place(root: Path, base: Path, given: str, within: Path | None) -> Path | None:
    """Return the folder or list that a part of data.yaml is; None where none that may be read is there."""
    for name in as_written(given):
        own = [root / name.removeprefix("../")] if name.startswith("../") else []  # Roboflow's ../train/images
        for place in (base / name, root / name, *own):
            if may_read(place, within) and place.exists():
                return place
    return None


def _base(root: Path, given: Any, within: Path | None) -> Path:
    paths = [place for name in as_written(str(given)) for place in (root / name, Path(name))] if given else []
    return next((path for path in paths if may_read(path, within) and path.is_dir()), root)


def _listed(path: Path) -> list[Path]:
    """Return the pictures that a text file lists, one in a line, relative to its folder."""
    text = read_regular(path, _MOST_BYTES).decode("utf-8", "replace")
    if "\0" in text:
        raise DataError(f"{path} is not a list of pictures", hint="write the path of one picture in a line")
    return [_one_listed(path.parent, line.strip()) for line in text.splitlines() if line.strip()]


def _one_listed(folder: Path, name: str) -> Path:
    """Return the file that a line of a list names, by its own name where there is none: that is what is missing."""
    paths = [folder / each for each in as_written(name)]
    return next((path for path in paths if path.is_file()), paths[0])


def _walk(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))


def _label_path(picture: Path) -> Path:
    """Return where the labels of a picture are: the last folder ``images`` of its path is ``labels``."""
    parts = list(picture.parts)
    places = [i for i, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    path = Path(*parts).with_suffix(".txt")
    upper = path.with_suffix(".TXT")
    return upper if not path.exists() and upper.exists() else path


def _without_picture(pictures: Sequence[Path]) -> list[Bad]:
    folders = {path.parent for path in pictures}  # pictures of another part may lie there too
    beside = {entry for folder in folders if folder.is_dir() for entry in folder.iterdir()}
    wanted = {_label_path(path) for path in {*pictures, *beside} if path.suffix.lower() in SUFFIXES}
    found = {file for folder in {path.parent for path in wanted} for file in folder.glob("*.[tT][xX][tT]")}
    extra = sorted(file for file in found - wanted if file.name not in _NAMES and _is_labels(file))
    return [Bad(None, f"{file} has labels, and there is no picture for it", "remove it, or add it") for file in extra]


def _without_labels(pictures: Sequence[Path], root: Path) -> tuple[str, ...]:
    """Return a note of pictures without a file of labels: the format allows it, and a lost file looks the same.

    Raises ``DataError`` where none has one.
    """
    count = sum(not _label_path(path).is_file() for path in pictures)
    if count == len(pictures):
        raise DataError(
            f"none of the {count} pictures of {root} has a label file",
            hint=f"that of {pictures[0].name} would be {_label_path(pictures[0])}; of pictures without labels give "
            f"the folder: {pictures[0].parent}",
        )
    verb = "has" if count == 1 else "have"
    return (f"{count} of {len(pictures)} pictures of {root} {verb} no label file (taken as empty)",) if count else ()


def _sharing_labels(pictures: Sequence[Path], root: Path) -> tuple[str, ...]:
    """Return a note of pictures that differ in their suffixes alone, and so have one file of labels."""
    of: dict[Path, Path] = {}
    for path in pictures:
        if (first := of.setdefault(path.with_suffix(""), path)) != path:
            file = _label_path(path).name
            return (f"{first.name} and {path.name} of {root} have one label file, {file}, and so the same labels",)
    return ()


def _class_names(root: Path, settings: Mapping[str, Any]) -> Mapping[int, str]:
    given = settings.get("names")
    if given is not None:
        names = _named(root, given)
        count = settings.get("nc", len(names))
        if count != len(names):
            raise DataError(f"{root}: data.yaml has nc: {count} and {len(names)} names", hint="correct one of them")
        return names
    for file in (root / name for name in _NAMES):
        if file.is_file():
            text = read_regular(file, _MOST_BYTES).decode("utf-8-sig", "replace")
            return dict(enumerate(line.strip() for line in text.splitlines() if line.strip()))
    return {}


def _named(root: Path, given: Any) -> Mapping[int, str]:
    """Return names by number. Raises ``DataError``: YAML reads a bare no as False, and a name lost is a class lost."""
    pairs = enumerate(given) if isinstance(given, list) else given.items() if isinstance(given, dict) else None
    if pairs is None:
        raise DataError(f"{root}: names of data.yaml is neither a list nor a table", hint="write names: [person, ...]")
    names: dict[int, str] = {}
    for given_number, name in pairs:
        word = str(given_number)
        if not (word.isascii() and word.isdigit()) or int(word) in names:
            raise DataError(f"{root}: names of data.yaml are not numbered", hint="write 0: person, ...")
        if isinstance(name, bool) or not isinstance(name, str | int | float):
            raise DataError(
                f"{root}: data.yaml has {name!r:.40} as the name of class {word}",
                hint="write names such as no, yes, on and null between quotes",
            )
        names[int(word)] = str(name)
    return names


def _point_shape(settings: Mapping[str, Any]) -> tuple[int, int] | None:
    shape = settings.get("kpt_shape")
    if shape is None:
        return None
    if (
        not isinstance(shape, list)
        or len(shape) != 2
        or not all(isinstance(n, int) for n in shape)
        or shape[1] not in (2, 3)
    ):
        raise DataError(f"kpt_shape of data.yaml is {shape}", hint="write [points, 2] or [points, 3]")
    return shape[0], shape[1]


def _things(path: Path, size: tuple[int, int], points: tuple[int, int] | None) -> list[Thing]:
    """Return what a file of labels says; one that is not there says that there is nothing in the picture."""
    if not path.is_file():
        return []
    lines = read_regular(path, _MOST_BYTES).decode("utf-8-sig", "replace").splitlines()
    return [_thing(line.split(), f"{path} line {n}", size, points) for n, line in enumerate(lines, 1) if line.strip()]


def _thing(words: list[str], where: str, size: tuple[int, int], points: tuple[int, int] | None) -> Thing:
    number, *values = (_number(word, where) for word in words)
    height, width = size
    wanted = 4 + (points[0] * points[1] if points else 0)
    polygon = len(values) >= 6 and len(values) % 2 == 0 and not points
    if not (len(values) == wanted or polygon):
        raise DataError(f"{where} has {len(words)} values, not {wanted + 1}", hint=_LINE)
    if number != int(number):
        raise DataError(f"{where}: the class {words[0]} is not a whole number", hint=_LINE)
    if polygon:
        across, down = values[0::2], values[1::2]
        corners = (min(across) * width, min(down) * height, max(across) * width, max(down) * height)
        return Thing(int(number), corners, where)
    x, y, w, h = values[:4]
    corners = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
    return Thing(int(number), corners, where, _of_points(values[4:], size, points))


def _number(word: str, where: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{where}: {word[:40]!r} is not a number", hint=_LINE)
    return value


def _of_points(
    values: list[float], size: tuple[int, int], points: tuple[int, int] | None
) -> tuple[tuple[float, float, float], ...]:
    if points is None:
        return ()
    step = points[1]
    rows = [values[i : i + step] for i in range(0, len(values), step)]
    return tuple((row[0] * size[1], row[1] * size[0], row[2] if step == 3 else 2.0) for row in rows)


_READER = Reader(lambda asked, classes: read_yolo(asked.source, classes, asked.within))
SOURCE = Source(_recognises, _READER.scan, _READER.read, pictures=True, picture=_READER.picture, tasks=OF_BOXES)
