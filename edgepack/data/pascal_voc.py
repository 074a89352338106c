"""Pascal VOC as samples: an XML file a picture, in ``Annotations`` with pictures in ``JPEGImages``, or beside it.

The format: host.robots.ox.ac.uk/pascal/VOC, development kit, "Annotation files". Pixels are counted from 1 there, and
the last one of a box belongs to it. Things that are ``difficult`` are asked of nobody.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree  # entities are refused before it sees a file

from edgepack.base.files import read_regular
from edgepack.data.annotated import LISTS, OF_BOXES, Annotated, Reader, Thing, arrange, find_sizes
from edgepack.data.image_folder import read_class_names
from edgepack.data.pictures import SUFFIXES
from edgepack.data.source import Bad, Source
from edgepack.errors import DataError

_MOST_BYTES = 4 << 20
_LOOKED_AT = 8  # files, until one is an annotation: the first may be empty or damaged
_ANNOTATIONS, _PICTURES = "Annotations", "JPEGImages"


def _folders(root: Path) -> tuple[Path, Path]:
    if (root / _ANNOTATIONS).is_dir():
        return root / _ANNOTATIONS, root / _PICTURES if (root / _PICTURES).is_dir() else root
    return root, root


def _recognises(data: str, _task: object) -> bool:
    if "\0" in data:
        return False
    root = _root(Path(data))
    if not root.is_dir():
        return False
    first = _files(_folders(root)[0])[:_LOOKED_AT]
    return any(b"<annotation" in read_regular(path, _MOST_BYTES).replace(b"\0", b"") for path in first)  # UTF-16 too


def _files(folder: Path) -> list[Path]:
    """Return the annotations in a folder; ``Annotations`` may have folders of them, as ``JPEGImages`` then has."""
    everywhere = folder.name == _ANNOTATIONS
    return sorted(path for path in folder.glob("**/*" if everywhere else "*") if path.suffix.lower() == ".xml")


def _root(path: Path) -> Path:
    """Return the folder of a data set, of which a list in ``ImageSets/Main`` may be given in its place."""
    is_list = path.suffix == ".txt" and path.parent.parent.name == LISTS and path.is_file()
    return path.parent.parent.parent if is_list else path


def _listed(path: Path) -> set[str]:
    """Return the pictures of a list, without their suffixes; a class's own has 1 or -1 behind each."""
    lines = read_regular(path, _MOST_BYTES).decode("utf-8-sig", "replace").splitlines()
    return {line.split()[0] for line in lines if line.split()}


def read_voc(data: Path, order: tuple[str, ...] = ()) -> Annotated:
    """Return the pictures of a folder, or of a list in it, with what is labelled in them. Raises ``DataError``."""
    root = _root(data)
    annotations, pictures = _folders(root)
    order = order or read_class_names(root)
    files = _files(annotations)
    if root != data:
        listed = _listed(data)
        files = [path for path in files if path.stem in listed]
        if not files:
            raise DataError(f"nothing that {data} lists is in {annotations}", hint="write names without a suffix")
    found = [(path, *_read(path)) for path in files]
    names = sorted({name for _, _, _, things in found for name, _ in things})
    numbers = {name: number for number, name in enumerate(names)}
    paths, stated, labels, bad = [], [], [], []
    of: dict[Path, Path] = {}
    for path, file_name, size, things in found:
        beside = pictures / path.parent.relative_to(annotations)
        picture = _find(beside, path, file_name) or _find(pictures, path, file_name)
        if picture is None:
            bad.append(
                Bad(None, f"{path} has labels for {file_name}, and there is no such file", "remove it, or add it")
            )
            continue
        if (first := of.setdefault(picture, path)) != path:
            raise DataError(
                f"{first.name} and {path.name} in {annotations} are both of {picture.name}",
                hint="correct <filename>, or write all that is in a picture into one of them",
            )
        paths.append(picture)
        stated.append(size)
        labels.append([Thing(numbers[name], *rest) for name, rest in things])
    if not paths:
        raise DataError(f"no picture of {root} is found, such as {found[0][1]}", hint=f"put them into {pictures}")
    sizes, wrong = find_sizes(paths, stated, annotations)
    bad += wrong
    classes = {n: name for name, n in numbers.items()}
    notes = _without_labels(pictures, paths) + _note_of_parts(root) if root == data else ()
    return arrange(root, paths, sizes, labels, classes, order, bad, notes)


def _note_of_parts(root: Path) -> tuple[str, ...]:
    """Return a note where the data set has parts, all of which were taken."""
    lists = [path for name in ("train", "val") for path in sorted((root / LISTS).glob(f"*/{name}.txt"))]
    return (f"the pictures of all parts of {root} are taken; {lists[-1]} names those of one",) if lists[1:] else ()


def _without_labels(folder: Path, labelled: Sequence[Path]) -> tuple[str, ...]:
    """Return a note of the pictures in ``folder`` that no annotation is of: they are not samples."""
    pictures = [p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]
    count = len(set(pictures) - set(labelled))
    verb = "has no annotation and is" if count == 1 else "have no annotation and are"
    return (f"{count} of {len(pictures)} pictures of {folder} {verb} left out",) if count else ()


_Rest = tuple[tuple[float, float, float, float], str, tuple[()], bool]


def _read(path: Path) -> tuple[str, tuple[int, int] | None, list[tuple[str, _Rest]]]:
    """Return the picture's name, its size and the things in it: class, and the other fields of ``Thing``."""
    data = read_regular(path, _MOST_BYTES)
    if b"\0" in data:  # in UTF-16 or 32 a DOCTYPE has other bytes
        raise DataError(f"{path} is not in UTF-8", hint="save it in UTF-8")
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise DataError(f"{path} defines entities, which are not read", hint="remove the DOCTYPE")
    try:
        root = ElementTree.fromstring(data)
        size = _stated_size(root)
        things = [_thing(item, path) for item in root.iter("object")]
    except (ElementTree.ParseError, LookupError, ValueError, RecursionError) as error:  # LookupError: of encodings
        raise DataError(
            f"{path} is not an annotation that can be read: {error}", hint="correct it, or remove it"
        ) from error
    return root.findtext("filename") or path.stem, size, things


def _stated_size(root: ElementTree.Element) -> tuple[int, int] | None:
    if root.find("size") is None:
        return None
    return int(_number(root, "size/height")), int(_number(root, "size/width"))


def _thing(item: ElementTree.Element, path: Path) -> tuple[str, _Rest]:
    name = (item.findtext("name") or "").strip()
    if not name:
        raise ValueError("an object has no name")
    left, top, right, bottom = (_number(item, f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax"))
    difficult = (item.findtext("difficult") or "0").strip().lower() in ("1", "true")
    return name, ((left - 1, top - 1, right, bottom), f"{path}: {name}", (), difficult)


def _number(item: ElementTree.Element, place: str) -> float:
    text = item.findtext(place)
    value = float(text) if text is not None else math.nan
    if not math.isfinite(value):
        raise ValueError(f"{place} is {text}")
    return value


def _find(folder: Path, path: Path, name: str) -> Path | None:
    """Return the picture of an annotation: the file that it names, else one with its own name."""
    candidates = [folder / Path(name).name, *(folder / (path.stem + suffix) for suffix in SUFFIXES)]
    return next((file for file in candidates if file.suffix.lower() in SUFFIXES and file.is_file()), None)


_READER = Reader(lambda asked, classes: read_voc(Path(asked.source), classes))
SOURCE = Source(
    _recognises, _READER.scan, _READER.read, pictures=True, picture=_READER.picture, tasks=OF_BOXES, unnumbered=True
)
