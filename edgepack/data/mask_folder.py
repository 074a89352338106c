"""Pictures with masks as samples, for segmentation: a mask is a picture of the same size whose values are classes.

Masks are in a folder ``masks`` (or ``labels``, ``annotations``, ``SegmentationClass``) with pictures in ``images`` (or
``JPEGImages``) and have their names, or lie beside them as ``NAME_mask.png``. Palette pictures count by their indices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgepack.base.text import shortened
from edgepack.data.annotated import Annotated, contents_of, read_annotated
from edgepack.data.image_folder import CLASSES_FILE, read_class_names
from edgepack.data.pictures import SUFFIXES, find_size
from edgepack.data.preprocess import decode_indices, read_picture_file
from edgepack.data.source import Asked, Bad, Contents, Item, Source
from edgepack.errors import DataError
from edgepack.specs.answer import Mask
from edgepack.specs.task import Task

if TYPE_CHECKING:
    from edgepack.specs.model import TensorSpec
    from edgepack.specs.types import Array

SEGMENTATION = "semantic-segmentation"
_PICTURES = ("images", "JPEGImages")
_MASKS = ("masks", "labels", "annotations", "SegmentationClass")
_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")  # a mask does not survive being a JPEG
_BESIDE = ("_mask", "_label", "-mask")
_IGNORE = 255
_MOST_SHOWN = 60  # of a name
_LOOKED_AT = 8  # masks
_MOST_CLASSES = 4096  # where nothing names them: what is counted of each picture and class takes memory


@dataclass(frozen=True)
class Masks(Sequence[Mask]):
    """Masks in files, each read when it is asked for."""

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    ignore: int
    values: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Masks(self.paths[index], self.names, self.ignore, self.values)
        return read_mask(self.paths[index], self.names, self.ignore, self.values)


def read_mask(path: Path, names: tuple[str, ...], ignore: int, values: tuple[int, ...] = ()) -> Mask:
    """Return the mask in a picture file; ``ignore`` is the value of pixels of no class.

    ``values`` are those of the classes, in their order; without them a class is its own. Raises ``DataError``.
    """
    pixels = decode_indices(read_picture_file(path), str(path))
    labels = _numbered(pixels, values, ignore, path) if values else np.where(pixels == ignore, Mask.IGNORED, pixels)
    labels = labels.astype(np.uint16)
    known = labels[labels != Mask.IGNORED]
    most = len(names) or _MOST_CLASSES
    if known.size and int(known.max()) >= most:
        raise DataError(
            f"{path} has the value {int(known.max())}, and there are {'' if names else 'at most '}{most} classes",
            hint="a mask's values are numbers of classes, unless values = [...] of [task.settings] has one for each; "
            "ignore is the value that counts for none",
        )
    return Mask(labels, names)


def _numbered(pixels: Array, values: tuple[int, ...], ignore: int, path: Path) -> Array:
    """Return the place of each pixel's value among ``values``. Raises ``DataError`` for one that is none of them."""
    labels = np.full(pixels.shape, Mask.IGNORED)
    for number, value in enumerate(values):
        labels[pixels == value] = number
    wrong = (labels == Mask.IGNORED) & (pixels != ignore)
    if wrong.any():
        raise DataError(
            f"{path} has the value {int(pixels[wrong][0])}, which is none of {list(values)}",
            hint="[task.settings] values are those of the classes, ignore is the one that counts for none",
        )
    return labels


def _check_not_all_ignored(paths: Sequence[Path], ignore: int) -> None:
    """Raise ``DataError`` where the first masks have 0 and the value that counts for no class, and nothing else.

    Masks of one thing are often 0 and 255: all that is asked for would be left out, without a word.
    """
    found: set[int] = set()
    for path in paths[:_LOOKED_AT]:
        try:
            found |= set(np.unique(decode_indices(read_picture_file(path), str(path))).tolist())
        except DataError:  # said where it is read
            continue
    if found == {0, ignore}:
        raise DataError(
            f"the masks of {paths[0].parent} have the values 0 and {ignore} alone, and {ignore} counts for no class",
            hint=f"write values = [0, {ignore}] in [task.settings] of the recipe if it is class 1, "
            f"else ignore = {ignore}",
        )


def _check_order(root: Path, listed: tuple[str, ...], classes: tuple[str, ...]) -> None:
    """Raise ``DataError`` where a folder's own list numbers the classes otherwise than the model does.

    A mask has numbers alone, so that no label would be seen to be wrong. Other words for a class are let pass.
    """
    if not listed or not classes:
        return
    hint = "a mask's values are numbers of the model's classes: correct the list that is wrong, or remove labels.txt"
    if len(listed) != len(classes):
        raise DataError(
            f"{root / CLASSES_FILE} names {len(listed)} classes, and the model has {len(classes)}",
            hint=hint,
        )
    for number, name in enumerate(listed):
        if name != classes[number] and name in classes:
            raise DataError(
                f"{root / CLASSES_FILE} has {shortened(name, _MOST_SHOWN)!r} as class {number}, which is class "
                f"{classes.index(name)} of the model",
                hint=hint,
            )


def _pairs(root: Path) -> tuple[list[tuple[Path, Path]], list[Bad], list[str]]:
    """Return pictures with their masks, in the order of their names; what is a mask alone, and the pictures without."""
    folder = next((root / name for name in _PICTURES if (root / name).is_dir()), None)
    masks = next((root / name for name in _MASKS if (root / name).is_dir()), None)
    if folder is not None and masks is not None:
        found = {p.relative_to(masks).with_suffix("").as_posix(): p for p in _files(masks, _SUFFIXES)}
        pictures = {p.relative_to(folder).with_suffix("").as_posix(): p for p in _files(folder, SUFFIXES)}
        found = {key if key in pictures else _without_ending(key): p for key, p in found.items()}
    else:
        files = _files(root, SUFFIXES)
        found = {_without(p): p for p in files if _is_beside(p)}
        pictures = {p.with_suffix("").as_posix(): p for p in files if not _is_beside(p)}
    bad = [
        Bad(None, f"{found[key]} has no picture", "remove it, or add it") for key in sorted(set(found) - set(pictures))
    ]
    lacking = [pictures[key].relative_to(root).as_posix() for key in sorted(set(pictures) - set(found))]
    return [(pictures[key], found[key]) for key in sorted(pictures) if key in found], bad, lacking


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes and not p.name.startswith("."))


def _is_beside(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES and path.stem.endswith(_BESIDE)


def _without(path: Path) -> str:
    return path.with_name(_without_ending(path.stem)).as_posix()


def _without_ending(name: str) -> str:
    return name.removesuffix(next((end for end in _BESIDE if name.endswith(end)), ""))


def read_masks(root: Path, task: Task | None) -> Annotated:
    """Return the pictures of a folder that have masks. Raises ``DataError``."""
    pairs, bad, lacking = _pairs(root)
    if not pairs:
        raise DataError(f"no picture of {root} has a mask", hint="put masks into 'masks', with the pictures' names")
    listed, classes = read_class_names(root), task.classes if task is not None else ()
    names = classes or listed
    settings = task.settings if task is not None else {}
    given, values = settings.get("ignore", _IGNORE), settings.get("values", ())
    if not values:  # else the recipe says which number is which class
        _check_order(root, listed, classes)
    ignore = given if isinstance(given, int) else _IGNORE
    numbers = tuple(int(value) for value in values) if isinstance(values, tuple) else ()  # type: ignore[arg-type]
    if "ignore" not in settings and not numbers:
        _check_not_all_ignored([mask for _, mask in pairs], ignore)
    sizes = []
    for index, (picture, mask) in enumerate(pairs):
        try:
            size, other = find_size(picture), find_size(mask)
            if size != other:
                bad.append(Bad(index, f"{mask} is {other[1]}x{other[0]} and its picture {size[1]}x{size[0]} pixels"))
        except DataError as error:
            size = (1, 1)
            bad.append(Bad(index, error.message, error.hint))
        sizes.append(size)
    return Annotated(
        paths=tuple(picture for picture, _ in pairs),
        names=tuple(picture.relative_to(root).as_posix() for picture, _ in pairs),
        labels=Masks(tuple(mask for _, mask in pairs), names, ignore, numbers),
        sizes=tuple(sizes),
        classes=names,
        bad=tuple(bad),
        notes=_note_of_lacking(lacking, root),
    )


def _note_of_lacking(lacking: Sequence[str], root: Path) -> tuple[str, ...]:
    if not lacking:
        return ()
    if len(lacking) == 1:
        return (f"{lacking[0]} of {root} has no mask and is left out",)
    return (f"{len(lacking)} pictures of {root} have no mask and are left out: {lacking[0]}, for example",)


def _recognises(data: str, task: Task | None) -> bool:
    if task is None or task.kind != SEGMENTATION or "\0" in data or not Path(data).is_dir():
        return False
    return bool(_pairs(Path(data))[0])


def _scan(asked: Asked, inputs: tuple[TensorSpec, ...] | None, digest: Callable[[Path], str]) -> Contents:
    return contents_of(read_masks(Path(asked.source), asked.task), asked, inputs, digest)


def _read(asked: Asked, inputs: tuple[TensorSpec, ...], indices: Sequence[int]) -> Iterator[Item]:
    return read_annotated(read_masks(Path(asked.source), asked.task), asked, inputs, indices)


def _picture(asked: Asked, index: int) -> tuple[bytes, str]:
    path = _pairs(Path(asked.source))[0][index][0]
    return read_picture_file(path), str(path)


SOURCE = Source(_recognises, _scan, _read, pictures=True, picture=_picture, tasks=(SEGMENTATION,))
