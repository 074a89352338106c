"""Pictures with things labelled in them: what COCO's JSON, YOLO folders and Pascal VOC have in common."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgepack.base.documents import suggestion
from edgepack.base.text import shortened
from edgepack.data.geometry import frame_of
from edgepack.data.labels import Labels
from edgepack.data.pictures import (
    check_inputs,
    digest_of_file,
    find_broken,
    find_size,
    frame_of_file,
    read_files,
)
from edgepack.data.preprocess import read_picture_file
from edgepack.data.source import Asked, Bad, Contents, Item, may_read
from edgepack.errors import DataError
from edgepack.specs.answer import Boxes
from edgepack.specs.data import Preprocessing

if TYPE_CHECKING:
    from edgepack.specs.model import TensorSpec
    from edgepack.specs.types import Array

LISTS = "ImageSets"  # the folder of Pascal VOC with folders of lists of pictures
OF_BOXES = ("object-detection", "keypoints")  # the tasks that boxes and points are labels of

_OUTSIDE = 2.0  # pixels: labels are rounded, also by a little beyond the picture's side
_MOST_AREA = 1e10  # what is larger pycocotools leaves out, without a word
_NAMED = 4
_MOST_SHOWN = 60  # of a name: whoever labels can write one of any length
_RENAME = "give each class a name of its own, or remove the one that is not used"


@dataclass(frozen=True)
class Thing:
    """One labelled thing: its class as the source numbers it, and its sides in pixels of the picture.

    ``points`` are x, y and whether it is labelled (0 no, 1 hidden, 2 visible). ``where`` is for messages.
    """

    number: int
    corners: tuple[float, float, float, float]
    where: str
    points: tuple[tuple[float, float, float], ...] = ()
    crowd: bool = False
    area: float | None = None


@dataclass(frozen=True)
class Annotated:
    """The pictures of a source with what is labelled in each; sizes are (height, width) as pictures are looked at.

    ``labels`` is None where nothing is labelled at all. ``classes`` are in the order of the labels' numbers.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    labels: Labels | None
    sizes: tuple[tuple[int, int], ...]
    classes: tuple[str, ...]
    bad: tuple[Bad, ...] = ()
    notes: tuple[str, ...] = ()


def arrange(
    root: Path,
    paths: Sequence[Path],
    sizes: Sequence[tuple[int, int]],
    things: Sequence[Sequence[Thing]],
    classes: Mapping[int, str],
    order: tuple[str, ...],
    bad: Sequence[Bad] = (),
    remarks: Sequence[str] = (),
) -> Annotated:
    """Return pictures with their things as labels, numbered like the model's classes ``order``, where it has names.

    ``classes`` are the source's names by its numbers. Without ``order`` they keep the source's order. What is wrong
    with a thing makes its picture a bad sample. ``remarks`` are notes of the source. Raises ``DataError`` when no class
    of the source is one of the model's, or when two of either have one name.
    """
    _check_names(classes, order, root)
    numbers, names, notes = _numbers(classes, order, root)
    labels, wrong = [], list(bad)
    known = {found.index for found in bad}
    for index, (size, found) in enumerate(zip(sizes, things, strict=True)):
        problem = next(filter(None, (_problem(thing, size, numbers, classes) for thing in found)), None)
        if problem is not None and index not in known:
            wrong.append(Bad(index, problem, "correct the label"))
        labels.append(_boxes([] if problem else found, size, numbers, names))
    counts = Counter(int(n) for label in labels for n in label.numbers)
    if empty := [name for n, name in enumerate(names) if not counts[n]]:
        some = _some(empty)
        notes = (*notes, f"nothing of {len(empty)} of {len(names)} classes is labelled in {root}: {some}")
    notes = (*notes, *_note_of_duplicates(things, root))
    relative = tuple(path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name for path in paths)
    return Annotated(
        tuple(paths), relative, tuple(labels), tuple(sizes), names, tuple(wrong), notes=(*remarks, *notes)
    )  # fmt: skip


def find_sizes(
    paths: Sequence[Path], stated: Sequence[tuple[int, int] | None], where: Path
) -> tuple[list[tuple[int, int]], list[Bad]]:
    """Return the sizes of pictures, and those that are not of the size that ``where`` states: its boxes are of others.

    A picture that is turned when it is looked at (EXIF) has sides that are exchanged; labels are of what is seen.
    Some programs state no size, or 0 x 0.
    """
    sizes, bad = [], []
    for index, (path, size) in enumerate(zip(paths, stated, strict=True)):
        try:
            found = find_size(path)
        except DataError as error:
            found = size or (1, 1)
            bad.append(Bad(index, error.message, error.hint))
        else:
            if size is not None and any(size) and found != size:
                reason = f"{path} has {found[1]}x{found[0]} pixels, and {where} labels one of {size[1]}x{size[0]}"
                bad.append(Bad(index, reason, "label the picture as it is"))
        sizes.append(found)
    return sizes, bad


def as_written(name: str) -> tuple[str, ...]:
    """Return the names that a path in a file of labels may be here: as it is, and with slashes if it is Windows'."""
    return (name, name.replace("\\", "/")) if "\\" in name else (name,)


def _check_names(classes: Mapping[int, str], order: tuple[str, ...], root: Path) -> None:
    """Raise ``DataError`` where two classes have one name, or a name is that of two of the model's.

    Things of both would be counted as one class, and what a model confuses of the two as right.
    """
    seen: dict[str, int] = {}
    for number, name in sorted(classes.items()):
        if name in seen:
            raise DataError(f"{root}: the classes {seen[name]} and {number} are both named {name!r}", hint=_RENAME)
        seen[name] = number
    twice = next((name for name, count in Counter(order).items() if count > 1 and name in seen), None)
    if twice is not None:
        raise DataError(f"two of the model's classes are named {twice!r}, as a class of {root} is", hint=_RENAME)


def _numbers(
    classes: Mapping[int, str], order: tuple[str, ...], root: Path
) -> tuple[Mapping[int, int | None], tuple[str, ...], tuple[str, ...]]:
    """Return the label of each number of the source, None for a class that the model does not have; names; notes."""
    if not classes:  # numbers alone are the model's
        return {i: i for i in range(len(order) or 1_000_000)}, order, ()
    if not order:
        ordered = sorted(classes)
        return {number: place for place, number in enumerate(ordered)}, tuple(classes[n] for n in ordered), ()
    exact = {name: place for place, name in enumerate(order)}
    places = {_plain(name): place for place, name in enumerate(order)}
    found = {number: exact.get(name, places.get(_plain(name))) for number, name in classes.items()}
    unknown = [classes[number] for number, place in found.items() if place is None]
    if len(unknown) == len(classes):
        raise DataError(
            f"no class of {root} is one of the model's {len(order)}: {unknown[0]!r}, for example",
            hint=f"{suggestion(unknown[0], order[:200])}; list the model's own in [task] classes of a recipe, which "
            "'edgepack recipes new' begins",
        )
    what = "a class" if len(unknown) == 1 else f"{len(unknown)} classes"
    notes = (f"things of {what} that the model does not have are not counted: {_some(unknown)}",)
    return found, order, notes if unknown else ()


def _some(names: Sequence[str]) -> str:
    return ", ".join(shortened(name, _MOST_SHOWN) for name in names[:_NAMED]) + (", ..." if names[_NAMED:] else "")


def _note_of_duplicates(things: Sequence[Sequence[Thing]], root: Path) -> tuple[str, ...]:
    """Return a note of things that are labelled twice: the second one is never found, as a box answers one label."""
    duplicates = []
    for found in things:
        seen: set[tuple[int, tuple[float, ...]]] = set()
        for thing in found:
            if (key := (thing.number, thing.corners)) in seen:
                duplicates.append(thing)
            seen.add(key)
    if not duplicates:
        return ()
    count = "a thing is" if len(duplicates) == 1 else f"{len(duplicates)} things are"
    return (f"{count} labelled twice in {root}, and counted as missed by the best model: {duplicates[0].where}",)


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())


def _problem(
    thing: Thing, size: tuple[int, int], numbers: Mapping[int, int | None], classes: Mapping[int, str]
) -> str | None:
    if thing.number not in numbers:
        known = f"{min(numbers)} to {max(numbers)}" if numbers else "none"
        return f"{thing.where}: there is no class {shortened(str(thing.number), _MOST_SHOWN)}; there are {known}"
    left, top, right, bottom = thing.corners
    if not np.isfinite(thing.corners).all() or right <= left or bottom <= top:
        return f"{thing.where}: a box from ({left:g}, {top:g}) to ({right:g}, {bottom:g}) has no area"
    if not all(math.isfinite(x) and math.isfinite(y) and 0 <= seen < math.inf for x, y, seen in thing.points):
        return f"{thing.where}: its points are not all numbers"
    if thing.area is not None and not 0 <= thing.area <= _MOST_AREA:
        return f"{thing.where}: its area is {thing.area:g}"
    height, width = size
    if min(left, top) < -_OUTSIDE or right > width + _OUTSIDE or bottom > height + _OUTSIDE:
        name = shortened(classes.get(thing.number, f"class {thing.number}"), _MOST_SHOWN)
        place = f"from ({left:.1f}, {top:.1f}) to ({right:.1f}, {bottom:.1f})"
        return f"{thing.where}: the box of {name} {place} lies outside its picture of {width}x{height}"
    return None


def _boxes(
    things: Sequence[Thing], size: tuple[int, int], numbers: Mapping[int, int | None], names: tuple[str, ...]
) -> Boxes:
    kept = [thing for thing in things if numbers[thing.number] is not None]
    height, width = size
    corners = np.array([thing.corners for thing in kept], np.float64).reshape(-1, 4)
    most = max((len(thing.points) for thing in kept), default=0)
    return Boxes(
        corners=np.clip(corners, 0, np.array([width, height, width, height])),
        scores=np.ones(len(kept)),
        numbers=np.array([numbers[thing.number] for thing in kept], np.int64),
        height=height,
        width=width,
        names=names,
        points=_points(kept, most) if most else None,
        crowd=np.array([thing.crowd for thing in kept], bool),
        areas=np.array([_area(thing) for thing in kept], np.float64),
    )


def _area(thing: Thing) -> float:
    left, top, right, bottom = thing.corners
    return (right - left) * (bottom - top) if thing.area is None else thing.area


def _points(things: Sequence[Thing], most: int) -> Array:
    found = np.zeros((len(things), most, 3))
    for row, thing in zip(found, things, strict=True):
        row[: len(thing.points)] = np.array(thing.points).reshape(-1, 3)
    return found


def contents_of(
    found: Annotated, asked: Asked, inputs: tuple[TensorSpec, ...] | None, digest: Callable[[Path], str]
) -> Contents:
    """Return annotated pictures as the contents of a source."""
    if inputs is not None:
        check_inputs(asked.source, asked.preprocessing, inputs)
    bad = found.bad
    if asked.thorough:
        known = {one.index for one in bad}
        bad = (*bad, *(one for one in find_broken(found.paths) if one.index not in known))
    made = asked.preprocessing or Preprocessing()
    return Contents(
        count=len(found.paths),
        digest=lambda index: digest_of_file(found.paths[index], digest),
        labels=found.labels,
        classes=found.classes,
        names=found.names,
        bad=bad,
        frame=lambda index: (
            frame_of(*found.sizes[index], made) if found.sizes else frame_of_file(found.paths[index], made)
        ),
        notes=(*found.notes, *_note_of_outside(asked.source, found.paths)),
    )


def _note_of_outside(source: str, paths: Sequence[Path]) -> tuple[str, ...]:
    """Return a note of pictures far from what the user named: whoever wrote its files may have meant other ones."""
    named = Path(source).resolve()
    levels = 3 if named.parent.parent.name == LISTS else 2  # pictures may lie beside the folder of a file
    base = named if named.is_dir() else named.parents[min(levels, len(named.parents)) - 1]
    folders = {folder: folder.resolve().is_relative_to(base) for folder in {path.parent for path in paths}}
    inside = (path.resolve().is_relative_to(base) if path.is_symlink() else folders[path.parent] for path in paths)
    outside = [path for path, is_inside in zip(paths, inside, strict=True) if not is_inside]
    verb = "lies" if len(outside) == 1 else "lie"
    if not outside:
        return ()
    return (f"{len(outside)} of {len(paths)} pictures {verb} outside of {base}, such as {outside[0]}",)


def read_annotated(
    found: Annotated, asked: Asked, inputs: tuple[TensorSpec, ...], indices: Sequence[int]
) -> Iterator[Item]:
    """Yield annotated pictures as samples. Raises ``DataError``."""
    if indices and max(indices) >= len(found.paths):
        raise DataError(f"{asked.source} has fewer pictures than before", hint="do not change the data during a run")
    labels = found.labels if asked.labels is not None else None
    yield from read_files(
        asked.source,
        [found.paths[i] for i in indices],
        asked.preprocessing,
        inputs,
        None if labels is None else [labels[i] for i in indices],
    )


@dataclass(frozen=True)
class Reader:
    """How one form of labels is read: ``find`` reads what is asked for, with classes in the order of the task's.

    It must itself read nothing beyond ``Asked.within``; its pictures are checked here, whatever it finds.
    """

    find: Callable[[Asked, tuple[str, ...]], Annotated]

    def scan(self, asked: Asked, inputs: tuple[TensorSpec, ...] | None, digest: Callable[[Path], str]) -> Contents:
        """Return all samples, as ``Source.scan``."""
        return contents_of(self._found(asked), asked, inputs, digest)

    def read(self, asked: Asked, inputs: tuple[TensorSpec, ...], indices: Sequence[int]) -> Iterator[Item]:
        """Yield samples, as ``Source.read``."""
        return read_annotated(self._found(asked), asked, inputs, indices)

    def picture(self, asked: Asked, index: int) -> tuple[bytes, str]:
        """Return the bytes and the name of a picture, as ``Source.picture``."""
        path = self._found(asked).paths[index]
        return read_picture_file(path), str(path)

    def _found(self, asked: Asked) -> Annotated:
        found = self.find(asked, asked.task.classes if asked.task is not None else ())
        refuse_outside(found.paths, asked.within)
        return found


def refuse_outside(paths: Iterable[Path], within: Path | None) -> None:
    """Raise ``DataError`` for a file that may not be read for an archive."""
    if (path := next((path for path in paths if not may_read(path, within)), None)) is not None:
        raise DataError(f"{path} lies outside of what was unpacked", hint="put it into the archive")
