"""Which recipe a model probably wants: from its name, the shapes of inputs and outputs, and what its exporter noted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from edgepack.data.annotated import OF_BOXES
from edgepack.data.recipes import list_recipes, load_recipe
from edgepack.data.sized import size_changes
from edgepack.data.suggest_notes import noted_classes, noted_labels, noted_points, noted_size
from edgepack.data.suggest_outputs import boxes_beside_masks, one_by_one
from edgepack.data.suggest_signals import input_changes, suggest_signals

Sure = Literal["nearly sure", "likely", "possible"]
Shape = tuple[int | str, ...]
_ORDER: tuple[Sure, ...] = ("nearly sure", "likely", "possible")
_POSE_POINTS = 17
_MOST_FINAL = 1000  # boxes of a model that gives final ones
_LEAST_SIDE = 32  # networks for ImageNet take 5 halvings
_LINE = (48, 192)  # a line of text, as PP-OCR's classifiers take it
# Boxes, and values of each, of MediaPipe's detectors with points.
_BLAZE = {(896, 16): "blazeface", (2304, 16): "blazeface-full-range", (2016, 18): "palm-detection"}


@dataclass(frozen=True)
class ModelFacts:
    """What a recipe is suggested from: the file's name, shapes by name, and the exporter's notes."""

    name: str
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Suggestion:
    """A recipe with why it fits and how sure that is.

    ``changes`` are the values, as TOML has them, that keys of its preprocessing must have for this model, and
    ``parameters`` those of its decoder. ``classes``
    are the model's own where its exporter noted them; ``unnamed`` is how many it has where nothing names them and the
    recipe names another number, else 0. ``proposed`` is the size (height, width) that was chosen for a model of any.
    ``outputs`` are those of the model's that are read, where it has others. ``inputs`` are values of ``[task.input]``.
    ``labels_say`` is what labelled samples told of its preprocessing, where they were tried, and what to do about it.
    """

    recipe: str
    sure: Sure
    why: str
    changes: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    unnamed: int = 0
    proposed: tuple[int, int] | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    labels_say: tuple[str, ...] = ()

    @property
    def change(self) -> str | None:
        """What must be changed, in words; None where the recipe fits as it is."""
        keys = {**self.changes, **self.parameters, **self.inputs}
        words = [f"{key} = {value}" if value else f"no {key}" for key, value in keys.items()]
        if self.outputs:
            words.append(f"outputs = {', '.join(self.outputs)}")
        if self.classes:
            words.append(f"its {_number(len(self.classes))}")
        if self.unnamed:
            words.append(f"no names of classes: it has {self.unnamed}, the recipe names others")
        return ", ".join(words) or None


def free_sides(facts: ModelFacts) -> tuple[str, tuple[int | str, ...]] | None:
    """Return the input that takes pictures and its shape, where a side of them is free; else None."""
    for name, shape in facts.inputs.items():
        if (sides := _sides(shape)) is not None and any(isinstance(shape[axis], str) for axis in sides):
            return name, shape
        if sides is not None:
            return None
    return None


def with_sides(shape: tuple[int | str, ...], size: tuple[int, int], batch: int | str) -> tuple[int | str, ...]:
    """Return the shape of a batch of pictures whose free sides are those of ``size`` (height, width)."""
    sides = _sides(shape)
    assert sides is not None, "asked of pictures"
    known = {axis: side for axis, side in zip(sides, size, strict=True) if isinstance(shape[axis], str)}
    return (batch, *(known.get(axis, shape[axis]) for axis in range(1, 4)))


def likely_sizes(facts: ModelFacts) -> tuple[tuple[int, int], ...]:
    """Return sizes (height, width) that a model of free sides probably takes, the likeliest first.

    The one that its exporter noted comes first, and that of a line of text for a file that is named so; then 224,
    ImageNet's, where it tells classes, else 640, of detectors.
    """
    noted = noted_size(facts.notes)
    classes = len(facts.outputs) == 1 and all(len(shape) == 2 for shape in facts.outputs.values())
    usual = (224, 256, 320, 640) if classes else (640, 320, 512, 256, 224)
    first = [noted] if all(noted) else [_LINE] if classes and _is_ocr(facts, "cls") else []
    return (*first, *((side, side) for side in usual))


def suggest(facts: ModelFacts) -> tuple[Suggestion, ...]:
    """Return recipes that may fit, the surest first."""
    if (boxes := boxes_beside_masks(facts.outputs)) is not None:
        found = _suggest(replace(facts, outputs={boxes.name: boxes.shape}))
        own, why = {"unread": str(boxes.unread)}, "; its masks are not read"
        return tuple(
            replace(one, why=one.why + why, parameters={**one.parameters, **own}, outputs=(boxes.name,))
            for one in found if _kind_of(one.recipe) in OF_BOXES
        )  # fmt: skip
    return _suggest(facts) or _of_one_output(facts) or _suggest(facts, fallback=True)


def _of_one_output(facts: ModelFacts) -> tuple[Suggestion, ...]:
    """Return what is suggested for one of several outputs, the surest of each recipe; the others are left out."""
    found: dict[str, Suggestion] = {}
    for name, shape in one_by_one(facts.outputs):
        for one in _suggest(replace(facts, outputs={name: shape})):
            surer = one.recipe not in found or _ORDER.index(one.sure) < _ORDER.index(found[one.recipe].sure)
            if surer and _kind_of(one.recipe) not in OF_BOXES:  # whose outputs belong together
                why = f"{one.why}; of {len(facts.outputs)} outputs {name!r} is read"
                found[one.recipe] = replace(one, why=why, outputs=(name,))
    return _surest_first(found.values())


def _kind_of(recipe: str) -> str:
    task = load_recipe(recipe).task
    return task.kind if task is not None else ""


def _surest_first(found: Iterable[Suggestion]) -> tuple[Suggestion, ...]:
    return tuple(sorted(found, key=lambda one: _ORDER.index(one.sure)))


def _suggest(facts: ModelFacts, *, fallback: bool = False) -> tuple[Suggestion, ...]:
    """Return what fits a model's outputs; where nothing does, with ``fallback``, what fits most networks."""
    picture = _picture(facts)
    shipped = set(list_recipes())
    found: dict[str, Suggestion] = {}
    for recipe, sure, why in suggest_signals(facts.inputs, facts.outputs, facts.notes):
        surer, unnamed = _with_name(recipe, facts, sure), _unnamed(recipe, facts, ())
        found[recipe] = Suggestion(recipe, surer, why, unnamed=unnamed, inputs=input_changes(recipe, facts.inputs))
    for recipe, sure, why in _of_pictures(facts, picture, alone=fallback and not found) if picture is not None else ():
        assert picture is not None, "else there are none"
        if recipe in shipped and recipe not in found:
            made = Suggestion(
                recipe, _with_name(recipe, facts, sure), why, _changes(recipe, picture),
                parameters=_parameters(recipe, facts),
            )  # fmt: skip
            found[recipe] = _with_classes(made, facts)
    return _surest_first(found.values())


def _of_pictures(facts: ModelFacts, picture: _Picture, *, alone: bool) -> _Found:
    """Yield what the rules find; where that is nothing and nothing else was, what fits most networks."""
    if _of_ultralytics(facts):
        yield from _ultralytics(facts)  # shapes of another of its tasks may look like those of this one
        return
    found = [one for rule in _RULES for one in rule(facts, picture)]
    yield from found or (_any(picture) if alone else ())


@dataclass(frozen=True)
class _Picture:
    """The input that takes pictures; sides are 0 where they are free and its exporter noted none."""

    height: int
    width: int
    layout: Literal["NCHW", "NHWC"]
    channels: int = 3

    def grid(self, *strides: int, up: bool = False) -> int:
        """Return how many cells the grids of some strides have together; 0 where a side is free."""
        whole: Callable[[float], int] = math.ceil if up else math.floor
        return sum(whole(self.height / s) * whole(self.width / s) for s in strides)


_Found = Iterator[tuple[str, Sure, str]]


def _picture(facts: ModelFacts) -> _Picture | None:
    height, width = noted_size(facts.notes)
    for shape in facts.inputs.values():
        if (sides := _sides(shape)) is not None:
            layout: Literal["NCHW", "NHWC"] = "NCHW" if sides == _SIDES_NCHW else "NHWC"
            channels = int(shape[1 if layout == "NCHW" else 3])
            return _Picture(_side(shape[sides[0]]) or height, _side(shape[sides[1]]) or width, layout, channels)
    return None


_SIDES_NCHW, _SIDES_NHWC = (2, 3), (1, 2)


def _sides(shape: Shape) -> tuple[int, int] | None:
    """Return the axes of height and width of a batch of pictures; None for another input."""
    if len(shape) != 4:
        return None
    return _SIDES_NCHW if shape[1] in (1, 3) else _SIDES_NHWC if shape[3] in (1, 3) else None


def _parameters(recipe: str, facts: ModelFacts) -> dict[str, str]:
    """Return what parameters of a decoder of points must be for the model's points; nothing where they fit."""
    if recipe not in ("yolov8-pose", "yolo26-pose"):
        return {}
    usual, own = ("points", "point_values"), noted_points(facts.notes, _POSE_POINTS)
    return {key: str(n) for key, n, fits in zip(usual, own, (_POSE_POINTS, 3), strict=True) if n != fits}


def _side(side: int | str) -> int:
    return side if isinstance(side, int) else 0


def _with_name(recipe: str, facts: ModelFacts, sure: Sure) -> Sure:
    """Return how sure it is, one step surer where the file is named like the recipe."""
    words = facts.name.lower().replace("_", "").replace("-", "")
    named = recipe.replace("-", "") in words
    return _ORDER[max(_ORDER.index(sure) - 1, 0)] if named else sure


def _with_classes(made: Suggestion, facts: ModelFacts) -> Suggestion:
    """Return a suggestion with the noted classes where its recipe's task has others, if the outputs are of as many."""
    noted, task = noted_classes(facts.notes), load_recipe(made.recipe).task
    if unnamed := _unnamed(made.recipe, facts, noted):
        return replace(made, unnamed=unnamed)
    if task is None:
        return replace(made, classes=noted_labels(facts.notes, _single(facts, 2)))
    return made if noted == task.classes else replace(made, classes=noted)


def _unnamed(recipe: str, facts: ModelFacts, noted: tuple[str, ...]) -> int:
    """Return how many classes the model has where neither its notes nor the recipe name as many; else 0."""
    task = load_recipe(recipe).task
    shapes = [tuple(_side(side) for side in shape) for shape in facts.outputs.values()]
    if recipe == "hrnet-pose" and shapes and len(shapes[0]) == 4 and shapes[0][1] != _POSE_POINTS:
        return 1  # a thing of other points than a person's
    count = _COUNTS[recipe](shapes) if recipe in _COUNTS and shapes and len(shapes[0]) > 1 else 0
    named = noted or (task.classes if task is not None else ())
    return count if count > 0 and named and len(named) != count else 0


def _changes(recipe: str, picture: _Picture) -> dict[str, str]:
    """Return what keys of a recipe's preprocessing must be for the input's size and layout; nothing where it fits."""
    made = load_recipe(recipe).preprocessing
    if made is None:
        return {}
    size = (picture.height, picture.width)
    changes = size_changes(made, size) if all(size) and (made.crop or made.resize) != size else {}
    if made.layout != picture.layout:
        changes["layout"] = f'"{picture.layout}"'
    return changes


_Shapes = list[tuple[int, ...]]


def _scores_beside_boxes(shapes: _Shapes) -> int:
    """Return the last axis of the one of two outputs that is not of four numbers a box."""
    last = [shape[-1] for shape in shapes]
    return next((size for size in last if size != 4), 4 if len(last) > 1 else 0)


def _yolov8_classes(shapes: _Shapes) -> int:
    """Return how many there are of one output [1, 4 + classes, cells]; maps of several strides do not show it."""
    plain = len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][1] <= shapes[0][2]
    return shapes[0][1] - 4 if plain else 0


# How many classes a model of a recipe's kind has, by the shapes of its outputs; 0 or less where they do not show it.
_COUNTS: Mapping[str, Callable[[_Shapes], int]] = {
    "yolov5": lambda shapes: shapes[0][-1] - 5,
    "yolox": lambda shapes: shapes[0][-1] - 5,
    "yolov8": _yolov8_classes,
    "nanodet": lambda shapes: shapes[0][-1] - 32,
    "fastestdet": lambda shapes: shapes[0][1] - 5,
    "picodet": lambda shapes: next((s[2] for s in shapes if len(s) == 3 and s[2] != 32), 32),
    "centernet": lambda shapes: shapes[0][1],
    "rt-detr": _scores_beside_boxes,
    "detr": lambda shapes: _scores_beside_boxes(shapes) - 1,  # the last is none
    "deeplab": lambda shapes: shapes[0][1],
    "token-classification": lambda shapes: shapes[0][-1],
    "speech-commands-mfcc": lambda shapes: shapes[0][-1],
}


def _number(classes: int) -> str:
    return "1 class" if classes == 1 else f"{classes} classes"


def _single(facts: ModelFacts, axes: int) -> tuple[int, ...] | None:
    """Return the shape of the only output without its batch, free sides as 0; None for several or another rank."""
    shapes = list(facts.outputs.values())
    if len(shapes) != 1 or len(shapes[0]) != axes:
        return None
    return tuple(_side(side) for side in shapes[0][1:])


def _ultralytics(facts: ModelFacts) -> _Found:
    """What Ultralytics' exporter notes: the task in a word. Of one that no recipe is for, nothing."""
    task, out = facts.notes.get("task", ""), _single(facts, 3)
    why = f"Ultralytics' exporter notes the task {task!r}"
    values = out[1] if out is not None and out[0] <= _MOST_FINAL else 0
    points, each = noted_points(facts.notes, _POSE_POINTS)
    if task == "classify":
        yield "yolov8-cls", "nearly sure", why
    elif task == "pose" and each == 3 and values == 6 + 3 * points:
        yield "yolo26-pose", "nearly sure", f"{why}, and the output has final boxes"
    elif task == "pose":
        yield "yolov8-pose", "nearly sure", why
    elif task in ("detect", "segment") and values == 6:
        yield "yolov10", "nearly sure", f"{why}, and the output has final boxes"
    elif task == "detect" or (task == "segment" and out is not None):  # of which boxes are left, see suggest()
        yield "yolov8", "nearly sure", why


def _of_ultralytics(facts: ModelFacts) -> bool:
    return "ultralytics" in facts.notes.get("author", "").lower() and bool(facts.notes.get("task"))


def _yolo(facts: ModelFacts, picture: _Picture) -> _Found:
    out = _single(facts, 3)
    if out is None:
        return
    rows, values = out
    cells = picture.grid(8, 16, 32)
    if cells and rows == 3 * cells and values > 5:
        yield "yolov5", "nearly sure", f"{rows} rows are three anchors in every cell of strides 8, 16 and 32"
    if cells and rows == cells and values > 5:
        yield "yolox", "nearly sure", f"{rows} rows are the cells of strides 8, 16 and 32, with {_number(values - 5)}"
    if cells and values == cells and rows == 5 + 3 * _POSE_POINTS:
        yield "yolov8-pose", "nearly sure", f"{rows} values are a box, a score and {_POSE_POINTS} points"
    elif cells and values == cells and rows > 4:
        yield "yolov8", "nearly sure", f"{values} columns are the cells of strides 8, 16, 32, with {_number(rows - 4)}"
    if values == 6 + 3 * _POSE_POINTS and 0 < rows <= _MOST_FINAL:
        yield "yolo26-pose", "likely", f"{rows} rows of {values} values: final boxes with {_POSE_POINTS} points"
    if values == 6 and 0 < rows <= _MOST_FINAL:
        yield "yolov10", "likely", f"{rows} rows of six values: final boxes with score and class"
    cells = picture.grid(8, 16, 32, 64, up=True)
    if cells and rows == cells and values > 32:
        yield "nanodet", "nearly sure", f"{rows} rows are the cells of strides 8 to 64, with {_number(values - 32)}"


def _text_maps(facts: ModelFacts, _picture: _Picture) -> _Found:
    """A finder of text gives one map as others do: its name tells it."""
    shapes = list(facts.outputs.values())
    one_map = len(shapes) == 1 and len(shapes[0]) == 4 and (shapes[0][1] == 1 or isinstance(shapes[0][1], str))
    if one_map and _is_ocr(facts, "det"):
        yield "pp-ocr-detection", "likely", "one map, of a file that is named as a finder of text"


def _direction(facts: ModelFacts, _picture: _Picture) -> _Found:
    if _single(facts, 2) == (2,) and _is_ocr(facts, "cls"):
        yield "pp-ocr-direction", "likely", "2 classes, of a file that is named as a classifier of lines of text"


def _is_ocr(facts: ModelFacts, part: str) -> bool:
    """Say whether a file is named as a part ("det", "cls") of what reads text."""
    name = facts.name.lower().replace("-", "").replace("_", "")
    return part in name and any(word in name for word in ("ocr", "dbnet"))


def _maps(facts: ModelFacts, picture: _Picture) -> _Found:
    out = _single(facts, 4)
    if out is None or not picture.height:
        return
    channels, height, width = out
    if channels > 5 and (height, width) == (picture.height // 16, picture.width // 16):
        yield "fastestdet", "likely", f"one map of stride 16 with {channels} values: a box and {_number(channels - 5)}"
    if channels == _POSE_POINTS and height == picture.height // 4:
        yield "hrnet-pose", "likely", f"{channels} maps at a quarter of the input's size"
    whole = height == picture.height and width == picture.width
    if channels == 1 and whole:
        yield "unet", "likely", "one map of the input's own size"
    if channels == 21:
        yield "deeplab", "likely", "21 maps are Pascal VOC's classes"
    elif channels > 1 and whole:
        yield "deeplab", "possible", f"{channels} maps of the input's own size"
    elif channels > 1 and channels != _POSE_POINTS and (scale := _part_of(picture, height, width)):
        yield "deeplab", "possible", f"{channels} maps at 1/{scale} of the input's size, one of each class"
        yield "hrnet-pose", "possible", f"{channels} maps at 1/{scale} of the input's size, one of each point"


def _part_of(picture: _Picture, height: int, width: int) -> int:
    """Return how many times smaller a map is than the input, 2, 4 or 8; else 0."""
    parts = (2, 4, 8)
    return next((n for n in parts if (height * n, width * n) == (picture.height, picture.width)), 0)


def _several(facts: ModelFacts, picture: _Picture) -> _Found:
    shapes = [tuple(_side(s) for s in shape) for shape in facts.outputs.values()]
    names = [name.lower() for name in facts.outputs]
    if len(names) == 12 and all(any(n.startswith(w) for n in names) for w in ("cls", "obj", "bbox", "kps")):
        yield "yunet", "nearly sure", "twelve outputs cls, obj, bbox and kps of three strides"
    if any("detection_boxes" in n for n in names) and any("detection_classes" in n for n in names):
        yield "ssd-mobilenet", "nearly sure", "outputs detection_boxes and detection_classes"
    elif len(shapes) == 4 and shapes[0][-1:] == (4,) and all(s[1:] == shapes[0][1:2] for s in shapes[1:3]):
        yield "ssd-mobilenet", "likely", "boxes, two numbers for each, and their count"
    sides = [s for s in shapes if len(s) == 3 and s[2] == 32]
    cells = [picture.grid(s, up=True) for s in (8, 16, 32, 64)]
    if len(shapes) == 8 and sorted((s[1] for s in sides), reverse=True) == cells:
        yield "picodet", "nearly sure", "scores and distributions of 8 bins for strides 8 to 64"
    if [len(s) for s in shapes] == [4, 4, 4] and [s[1] for s in shapes[1:]] == [2, 2] and shapes[0][1]:
        yield "centernet", "likely", f"a heat map of {_number(shapes[0][1])}, sides and offsets"
    if len(shapes) == 2 and all(len(s) == 3 for s in shapes) and shapes[0][1] == shapes[1][1]:
        yield from _pairs(shapes, names)
        yield from _blaze(shapes)


def _pairs(shapes: list[tuple[int, ...]], names: list[str]) -> _Found:
    """Boxes and scores: a set of DETR's kind where there are few, SSD's where there are many."""
    last = sorted(s[2] for s in shapes)
    rows, classes = shapes[0][1], last[1] if last[0] == 4 else last[0]
    if 4 not in last:
        return
    if classes == 92:
        yield "detr", "nearly sure", f"{rows} boxes and scores of COCO's 91 ids and none"
    elif any("pred" in n or "logits" in n for n in names) or 0 < rows <= 300:
        why = f"a set of {rows or 'any number of'} boxes with {classes or 'any number of'} scores each"
        yield "rt-detr", "likely", why
        yield "detr", "possible", why
    elif classes == 2:
        yield "ultraface", "likely", f"{rows} boxes with two scores each, one of them of a face"
    else:
        why = f"{rows or 'any number of'} boxes with {classes or 'any number of'} scores each"
        yield "ssd", "possible", f"{why}; fill in how these are written"


def _blaze(shapes: list[tuple[int, ...]]) -> _Found:
    """Boxes with points, and one score each."""
    wide, narrow = sorted((shape for shape in shapes), key=lambda shape: -shape[2])
    if narrow[2] == 1 and (recipe := _BLAZE.get((wide[1], wide[2]))):
        yield recipe, "nearly sure", f"{wide[1]} boxes with {wide[2] // 2 - 2} points and a score each: MediaPipe's"


def _classes(facts: ModelFacts, picture: _Picture) -> _Found:
    out = _single(facts, 2)
    if out is None:
        return
    name, count = facts.name.lower(), out[0]
    if count < 2:  # a free side, such as the letters of a line, or a single number
        return
    if (picture.height, picture.width) == (32, 32) and count == 10:
        yield "cifar10", "likely", "10 classes of pictures of 32 x 32"
        return
    if not _is_photograph(picture):
        return
    if count not in (1000, 1001):
        yield "imagenet", "possible", f"{count} classes: most networks are trained from ImageNet's"
        return
    if "lite" in name and "efficientnet" in name:
        yield "efficientnet-lite", "likely", "its name, and ImageNet's classes"
    if count == 1001 or "inception" in name:
        yield "mobilenet-v1", "likely", "1001 classes are TensorFlow's" if count == 1001 else "its name"
    if "vit" in name or "deit" in name or "swin" in name:
        yield "imagenet-half" if "vit" in name else "imagenet-bicubic", "likely", "its name, and ImageNet's classes"
    if picture.layout == "NHWC":
        yield "imagenet-caffe", "possible", "ImageNet's classes, channels last: Keras' ResNet and VGG"
        yield "mobilenet-v1", "possible", "ImageNet's classes, channels last: Keras' MobileNet"
    yield "imagenet", "likely" if picture.layout == "NCHW" else "possible", "ImageNet's 1000 classes"
    yield "imagenet-bicubic", "possible", "ImageNet's 1000 classes; timm resizes by bicubic"


def _any(picture: _Picture) -> _Found:
    """What most networks of photographs take, where nothing else is known."""
    if _is_photograph(picture):
        why = "it takes pictures; most networks are trained from ImageNet's, which nothing here shows"
        yield "imagenet", "possible", why


def _is_photograph(picture: _Picture) -> bool:
    """Say whether it may be one in three colours: what is grey or tiny is not a crop of one."""
    return picture.channels == 3 and min(picture.height or _LEAST_SIDE, picture.width or _LEAST_SIDE) >= _LEAST_SIDE


_RULES: tuple[Callable[[ModelFacts, _Picture], _Found], ...] = (  # a name says more than a shape
    _yolo, _text_maps, _direction, _maps, _several, _classes,
)  # fmt: skip
