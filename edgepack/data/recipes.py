"""Reads and checks recipes: how pictures are preprocessed and calibrated for a family of models."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepack.base import documents, resources
from edgepack.base.files import read_regular, write_text
from edgepack.base.missing import nothing_at
from edgepack.data.sized import Size, picture_size_of, resized, size_asked, size_changes
from edgepack.errors import ConfigError
from edgepack.specs.data import Preprocessing, Recipe

MOST_PIXELS_A_SIDE = 8192
MOST_PAD = 255
OF_CLASSES = "image-classification"  # what pictures are for where a recipe says nothing


def list_recipes() -> tuple[str, ...]:
    """Return the names of the recipes that come with edgepack, sorted."""
    return tuple(sorted(path.stem for path in resources.calibration_folder().glob("*.toml")))


def load_recipe(name_or_path: str, shapes: Mapping[str, tuple[int | str, ...]] | None = None) -> Recipe:
    """Return the recipe of that name, or in that TOML file. Raises ``ConfigError`` naming the file and the key.

    Where the shape of a batch of pictures among ``shapes`` (the user's, by input) states another size, it makes these.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml" and "/" not in name_or_path:
        if name_or_path not in list_recipes():
            hint = f"{_meant(name_or_path)} A recipe of your own is the path of a .toml file"
            raise ConfigError(f"unknown recipe {name_or_path!r}", hint=hint)
        path = resources.calibration_folder() / f"{name_or_path}.toml"
    recipe = read_recipe(path)
    size = size_asked(recipe.preprocessing, shapes or {}) if recipe.preprocessing is not None else None
    return recipe if size is None else _with_size(recipe, size)


def _meant(name: str) -> str:
    """Return which recipes an unknown name was probably to be, all that begin with it, else what lists them."""
    known = list_recipes()
    near = documents.nearest(name, known)
    meant = [one for one in known if name and one.startswith(name.casefold())] or ([near] if near else [])
    return f"did you mean {' or '.join(map(repr, meant))}?" if meant else "'edgepack recipes' lists all."


def _with_size(recipe: Recipe, size: Size) -> Recipe:
    assert recipe.preprocessing is not None, "it makes pictures"
    if picture_size_of(recipe.preprocessing) == size:
        return recipe
    return dataclasses.replace(recipe, preprocessing=resized(recipe.preprocessing, size))


def read_recipe(path: Path) -> Recipe:
    """Return the recipe in a TOML file; its name is the file's. Raises ``ConfigError``."""
    try:
        data: dict[str, Any] = documents.parse_toml(read_regular(path, documents.TOML_LIMIT_BYTES).decode("utf-8"))
    except FileNotFoundError:
        message, hint = nothing_at(path, "check the path; 'edgepack recipes' lists ours", what="recipe")
        raise ConfigError(message, hint=hint) from None
    except OSError as error:
        raise ConfigError(f"cannot read the recipe {path}: {error.strerror}", hint="check the path") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} is not valid TOML: {error}", hint="see the recipes in the calibration folder"
        ) from error
    if data.setdefault("name", path.stem) != path.stem:
        raise ConfigError(
            f"{path}: its name is {data['name']!r}", hint=f"a recipe is named like its file: {path.stem!r}"
        )
    recipe: Recipe = documents.decode(Recipe, data, str(path))
    recipe = _with_classes(recipe, path)
    if recipe.samples < 1:
        raise ConfigError(f"{path}: samples = {recipe.samples}", hint="write 1 or more")
    check_percentile(recipe.percentile, str(path))
    if not all(recipe.outputs) or len(set(recipe.outputs)) != len(recipe.outputs):
        raise ConfigError(f"{path}: outputs = {list(recipe.outputs)[:8]}", hint="name each output once")
    if recipe.preprocessing is not None:
        check_preprocessing(recipe.preprocessing, f"{path}: preprocessing")
    return _with_tokenizer(recipe, path.parent)


def _with_tokenizer(recipe: Recipe, folder: Path) -> Recipe:
    """Return a recipe whose tokenizer, named by a path from its own folder, is one from here."""
    named = recipe.task.input.get("tokenizer") if recipe.task is not None else None
    if recipe.task is None or not isinstance(named, str) or not named or not (folder / named).is_file():
        return recipe
    values = {**recipe.task.input, "tokenizer": str(folder / named)}
    return dataclasses.replace(recipe, task=dataclasses.replace(recipe.task, input=values))


def _with_classes(recipe: Recipe, path: Path) -> Recipe:
    """Return a recipe whose task has the classes of the file that the recipe names."""
    if not recipe.classes:
        return recipe
    if recipe.task is None or recipe.task.classes or Path(recipe.classes).name != recipe.classes:
        raise ConfigError(
            f"{path}: classes = {recipe.classes!r}",
            hint="name a file beside the recipe, with a [task] that lists no classes itself",
        )
    file = path.parent / recipe.classes
    if not file.is_file():
        file = resources.calibration_folder() / recipe.classes
    try:
        text = read_regular(file, documents.TOML_LIMIT_BYTES).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read its classes {file}: {error}", hint="write one in a line") from error
    names = tuple(line.strip() for line in text.splitlines() if line.strip())
    return dataclasses.replace(recipe, task=dataclasses.replace(recipe.task, classes=names))


def write_recipe(
    path: Path,
    like: str,
    *,
    force: bool = False,
    changes: Mapping[str, str] | None = None,
    parameters: Mapping[str, str] | None = None,
    classes: tuple[str, ...] = (),
    unnamed: int = 0,
    size: Size | None = None,
    outputs: tuple[str, ...] = (),
    inputs: Mapping[str, str] | None = None,
) -> None:
    """Write a copy of the recipe ``like`` to ``path``, to be edited. Raises ``ConfigError``.

    ``changes`` are new values, as TOML has them, of keys of its preprocessing, empty for a key that goes;
    ``parameters`` those of its decoder; ``classes`` replace those of its task,
    which are left out for a model that has ``unnamed`` others. ``size`` is that of the pictures (height, width).
    ``outputs`` are those of the model's that are used, where it has others. ``inputs`` are values of ``[task.input]``.
    """
    if path.suffix != ".toml":
        raise ConfigError(f"{path}: a recipe is a .toml file", hint=f"write {path.with_suffix('.toml')}")
    if path.exists() and not force:
        raise ConfigError(f"{path} already exists", hint="edit it, or overwrite it with --force")
    made = load_recipe(like).preprocessing
    if size is not None:
        if made is None:
            raise ConfigError(f"the recipe {like} is not for pictures", hint="leave --size out")
        changes = {**size_changes(made, size), **(changes or {})}
    source = Path(like) if Path(like).suffix == ".toml" else resources.calibration_folder() / f"{like}.toml"
    lines = read_regular(source, documents.TOML_LIMIT_BYTES).decode("utf-8").splitlines()
    named = [line for line in lines if not line.startswith("name =")]  # a recipe is named like its file
    named = _changed(named, "[preprocessing]", changes or {})
    named = _changed(named, "[task.parameters]", parameters or {})
    named = _changed(named, "[task.input]", inputs or {})
    if classes and "[task]" not in named:
        named = _changed(named, "[task]", {"kind": json.dumps(OF_CLASSES)})
    if classes or unnamed:
        named = _without_classes(named)
        own = f"classes = {json.dumps(classes, ensure_ascii=False)}"
        told = f"# classes = [...] # names of the {unnamed} that the model has, in the order of its outputs"
        named.insert(named.index("[task]") + 1, own if classes else told)
    if outputs:
        named = [f"outputs = {json.dumps(outputs, ensure_ascii=False)}", *named]
    head = f"# From the recipe {Path(like).stem}; 'edgepack schema recipe' describes every key."
    write_text(path, "\n".join([head, *named]) + "\n")


def _changed(lines: list[str], part: str, changes: Mapping[str, str]) -> list[str]:
    """Return the lines of a recipe with other values of keys of one part; keys and part are added where they lack."""
    if not changes:
        return lines
    if part not in lines:
        last = lines.index("[sources]") if "[sources]" in lines else len(lines)
        lines = [*lines[:last], part, "", *lines[last:]]
    begin = lines.index(part) + 1
    end = next((i for i in range(begin, len(lines)) if lines[i].startswith("[")), len(lines))
    kept = [line for line in lines[begin:end] if _key(line) not in changes]
    new = [f"{key} = {value}" for key, value in changes.items() if value]
    return [*lines[:begin], *new, *kept, *lines[end:]]


def _without_classes(lines: list[str]) -> list[str]:
    """Return the lines of a recipe without its classes, what a comment above says of them, and their source."""
    kept: list[str] = []
    for line in lines:
        if _key(line) not in ("classes", '"task.classes"'):
            kept.append(line)
            continue
        while kept and kept[-1].startswith("#"):
            kept.pop()
    return kept


def _key(line: str) -> str:
    return line.partition("=")[0].strip()


def check_percentile(percentile: float, where: str) -> None:
    """Raise ``ConfigError`` unless a percentile of a tensor's values can be a range."""
    if not 50.0 < percentile <= 100.0:
        raise ConfigError(
            f"{where}: percentile = {percentile}", hint="write more than 50 and at most 100, such as 99.99"
        )


def check_preprocessing(made: Preprocessing, where: str) -> None:
    """Raise ``ConfigError`` for settings that contradict each other or make no picture."""
    if made.resize is not None and made.resize_short is not None:
        raise ConfigError(f"{where}: both resize and resize_short are given", hint="keep one of them")
    sides = [*(made.resize or ()), *(made.crop or ()), *([made.resize_short] if made.resize_short is not None else [])]
    for side in sides:
        if not 1 <= side <= MOST_PIXELS_A_SIDE:
            raise ConfigError(f"{where}: a side of {side} pixels", hint=f"write 1 to {MOST_PIXELS_A_SIDE}")
    _check_crop(made, where)
    _check_letterbox(made, where)
    channels = 1 if made.color == "L" else 3
    for key, values in (("mean", made.mean), ("std", made.std)):
        if len(values) != channels and not (channels == 1 and set(values) in ({0.0}, {1.0})):
            raise ConfigError(
                f"{where}: {key} has {len(values)} numbers, {made.color} has {channels} channels",
                hint=f"write {channels} number{'s' if channels > 1 else ''}, in the order of color",
            )
    if not all(value > 0 for value in (*made.std, made.scale)):
        raise ConfigError(f"{where}: std and scale must be greater than 0", hint="write 1.0 where nothing is divided")
    plain = made.scale == 1.0 and not any(made.mean) and set(made.std) == {1.0}
    if made.dtype == "uint8" and not plain:
        raise ConfigError(
            f"{where}: dtype uint8 cannot hold scaled or normalised pixels",
            hint="remove scale, mean and std, or write dtype = 'float32'",
        )


def _check_letterbox(made: Preprocessing, where: str) -> None:
    if made.resampler == "opencv" and made.interpolation == "lanczos":
        raise ConfigError(f"{where}: OpenCV's lanczos is not known", hint="write resampler = 'pillow', or 'bicubic'")
    if made.letterbox and (made.resize is None or made.crop is not None):
        raise ConfigError(f"{where}: letterbox needs resize, and no crop", hint="write resize = [height, width]")
    if not 0 <= made.pad <= MOST_PAD:
        raise ConfigError(f"{where}: pad = {made.pad}", hint="a pixel's value is 0 to 255")
    if made.stride is not None and (not made.letterbox or not 1 <= made.stride <= MOST_PIXELS_A_SIDE):
        raise ConfigError(f"{where}: stride = {made.stride}", hint="it needs letterbox; write 32, for example")
    if made.least_width is not None and (made.stride is None or not 1 <= made.least_width <= MOST_PIXELS_A_SIDE):
        raise ConfigError(f"{where}: least_width = {made.least_width}", hint="it needs stride; write 320, for example")
    if made.fixed_height and not (made.letterbox and made.scale_up):
        raise ConfigError(f"{where}: fixed_height needs letterbox and scale_up", hint="remove fixed_height")


def _check_crop(made: Preprocessing, where: str) -> None:
    if made.crop is None:
        return
    if made.resize is not None and (made.crop[0] > made.resize[0] or made.crop[1] > made.resize[1]):
        raise ConfigError(f"{where}: the crop {made.crop} is larger than resize {made.resize}", hint="make it smaller")
    if made.resize_short is not None and max(made.crop) > made.resize_short:
        raise ConfigError(
            f"{where}: the crop {made.crop} is larger than resize_short = {made.resize_short}", hint="make it smaller"
        )
