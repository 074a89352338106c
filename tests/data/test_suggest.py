"""Recipes suggested for the shapes that published networks have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.data.recipes import list_recipes, load_recipe, write_recipe
from edgepack.data.suggest import ModelFacts, free_sides, likely_sizes, suggest, with_sides
from edgepack.tasks import check_task


def facts(size: int, *outputs: tuple, name: str = "model", names: str = "", **notes: str) -> ModelFacts:
    named = names.split() or [f"o{i}" for i in range(len(outputs))]
    return ModelFacts(name, {"images": (1, 3, size, size)}, dict(zip(named, outputs, strict=True)), notes)


YUNET = " ".join(f"{n}_{s}" for n in ("cls", "obj", "bbox", "kps") for s in (8, 16, 32))
CASES = [
    (facts(640, (1, 25200, 85)), "yolov5"),
    (facts(320, (1, 6300, 7)), "yolov5"),
    (facts(640, (1, 84, 8400)), "yolov8"),
    (facts(416, (1, 6, 3549)), "yolov8"),
    (facts(640, (1, 56, 8400)), "yolov8-pose"),
    (facts(640, (1, 300, 6)), "yolov10"),
    (facts(640, (1, 300, 6), author="Ultralytics", task="detect"), "yolov10"),
    (facts(640, (1, "a", "n"), author="Ultralytics", task="detect"), "yolov8"),
    (facts(640, (1, 300, 57)), "yolo26-pose"),
    (facts(640, (1, 300, 57), author="Ultralytics", task="pose"), "yolo26-pose"),
    (facts(640, (1, 56, 8400), author="Ultralytics", task="pose"), "yolov8-pose"),
    (facts(224, (1, 1000), author="Ultralytics", task="classify"), "yolov8-cls"),
    (facts(416, (1, 3549, 85)), "yolox"),
    (facts(352, (1, 85, 22, 22)), "fastestdet"),
    (facts(416, (1, 3598, 112)), "nanodet"),
    (facts(320, *[(1, n, 80) for n in (1600, 400, 100, 25)], *[(1, n, 32) for n in (1600, 400, 100, 25)]), "picodet"),
    (facts(320, *[(1, n, c) for c in (1, 1, 4, 10) for n in (1600, 400, 100)], names=YUNET), "yunet"),
    (facts(800, (1, 100, 92), (1, 100, 4)), "detr"),
    (facts(640, (1, 300, 80), (1, 300, 4), names="logits pred_boxes"), "rt-detr"),
    (facts(320, (1, 4420, 2), (1, 4420, 4), names="scores boxes"), "ultraface"),
    (facts(512, (1, 80, 128, 128), (1, 2, 128, 128), (1, 2, 128, 128)), "centernet"),
    (facts(520, (1, 21, 520, 520)), "deeplab"),
    (facts(256, (1, 1, 256, 256)), "unet"),
    (facts(960, (1, 1, 960, 960), name="ch_PP-OCRv4_det"), "pp-ocr-detection"),
    (facts(960, ("a", "b", "c", "d"), name="PP-OCRv6_det_small"), "pp-ocr-detection"),
    (facts(128, (1, 896, 16), (1, 896, 1)), "blazeface"),
    (facts(192, (1, 2304, 1), (1, 2304, 16)), "blazeface-full-range"),
    (facts(192, (1, 2016, 18), (1, 2016, 1)), "palm-detection"),
    (facts(48, ("N", 2), name="ch_ppocr_mobile_v2.0_cls_mobile"), "pp-ocr-direction"),
    (facts(224, ("N", 1000), name="efficientnet_lite0"), "efficientnet-lite"),
    (facts(224, ("N", 1000)), "imagenet"),
    (facts(224, ("N", 1000), name="vit_base_patch16_224"), "imagenet-half"),
    (facts(32, ("N", 10)), "cifar10"),
]


@pytest.mark.parametrize(("model", "recipe"), CASES, ids=lambda x: x if isinstance(x, str) else "")
def test_the_first_suggestion(model: ModelFacts, recipe: str) -> None:
    first = suggest(model)[0]
    assert first.recipe == recipe, first
    assert first.why


def test_points_are_as_many_as_the_exporter_noted(tmp_path: Path) -> None:
    hands = facts(640, (1, 4 + 1 + 42, 8400), author="Ultralytics", task="pose", kpt_shape="[21, 2]")
    hands = replace(hands, notes={**hands.notes, "names": "{0: 'hand'}"})
    (found,) = suggest(hands)
    assert found.change == "points = 21, point_values = 2, its 1 class"
    write_recipe(tmp_path / "own.toml", found.recipe, parameters=found.parameters, classes=found.classes)
    task = load_recipe(str(tmp_path / "own.toml")).task
    assert task is not None
    assert (task.parameters, task.classes) == ({"points": 21, "point_values": 2}, ("hand",))
    (people,) = suggest(facts(640, (1, 56, 8400), author="Ultralytics", task="pose", kpt_shape="[17, 3]"))
    assert people.change is None
    (final,) = suggest(facts(640, (1, 300, 6 + 63), author="Ultralytics", task="pose", kpt_shape="[21, 3]"))
    assert (final.recipe, final.change) == ("yolo26-pose", "points = 21")
    (odd,) = suggest(facts(640, (1, 56, 8400), author="Ultralytics", task="pose", kpt_shape="['17\\n[x]', 3]"))
    assert odd.change is None


def test_a_noted_task_that_no_recipe_is_for_is_not_taken_for_another() -> None:
    """The output of a detector of turned boxes looks like that of one with a class more."""
    assert suggest(facts(1024, (1, 20, 21504), author="Ultralytics", task="obb")) == ()


SEGMENTING = {"author": "Ultralytics", "task": "segment"}


@pytest.mark.parametrize(
    ("model", "recipe", "change"),
    [
        (facts(640, (1, 116, 8400), (1, 32, 160, 160)), "yolov8", "unread = 32, outputs = o0"),
        (facts(640, (1, 116, 8400), (1, 32, 160, 160), **SEGMENTING), "yolov8", "unread = 32, outputs = o0"),
        (
            facts(640, (1, 37, 8400), (1, 32, 160, 160), **SEGMENTING),
            "yolov8", "unread = 32, outputs = o0, no names of classes: it has 1, the recipe names others",
        ),
        (facts(320, (1, 16, 80, 80), (1, 6300, 101)), "yolov5", "resize = [320, 320], unread = 16, outputs = o1"),
        (facts(640, (1, 300, 38), (1, 32, 160, 160), **SEGMENTING), "yolov10", "unread = 32, outputs = o0"),
    ],
)  # fmt: skip
def test_boxes_beside_masks_are_read_alone(model: ModelFacts, recipe: str, change: str, tmp_path: Path) -> None:
    first = suggest(model)[0]
    assert (first.recipe, first.sure, first.change) == (recipe, "nearly sure", change)
    assert first.why.endswith("; its masks are not read")
    write_recipe(tmp_path / "own.toml", first.recipe, parameters=first.parameters, outputs=first.outputs)
    own = load_recipe(str(tmp_path / "own.toml"))
    assert own.outputs == first.outputs
    assert own.task is not None
    check_task(own.task)


@pytest.mark.parametrize(
    ("model", "recipe", "output"),
    [
        (facts(320, *[(1, 1, 320, 320)] * 7, names="d0 d1 d2 d3 d4 d5 d6", name="u2netp"), "unet", "d0"),
        (facts(520, (1, 21, 520, 520), (1, 21, 520, 520), names="aux out"), "deeplab", "out"),
        (facts(512, (1, 19, 512, 512), (1, 19, 512, 512)), "deeplab", "o0"),
        (facts(224, (1, 1280), (1, 1000), names="features logits"), "imagenet", "logits"),
    ],
)
def test_one_output_of_several_is_read(model: ModelFacts, recipe: str, output: str) -> None:
    first = suggest(model)[0]
    assert (first.recipe, first.outputs) == (recipe, (output,))
    assert f"{output!r} is read" in first.why
    assert first.change is not None
    assert f"outputs = {output}" in first.change


def test_boxes_that_belong_to_scores_are_no_output_of_their_own() -> None:
    """Rows of scores look like YOLOX's; without their boxes they are nothing."""
    (found,) = suggest(facts(416, (1, 3549, 80), (1, 3549, 4)))
    assert (found.recipe, found.sure, found.outputs) == ("ssd", "possible", ())
    assert found.why == "3549 boxes with 80 scores each; fill in how these are written"


def test_classes_that_paddle_notes_are_taken_where_there_is_one_for_each_score(tmp_path: Path) -> None:
    turned = facts(224, ("N", 4), character="0\n90\n180\n270")
    first = suggest(turned)[0]
    assert (first.recipe, first.change) == ("imagenet", "its 4 classes")
    write_recipe(tmp_path / "own.toml", first.recipe, classes=first.classes)
    task = load_recipe(str(tmp_path / "own.toml")).task
    assert task is not None
    assert (task.kind, task.classes) == ("image-classification", ("0", "90", "180", "270"))
    check_task(task)
    assert suggest(facts(224, ("N", 5), character="0\n90\n180\n270"))[0].classes == ()
    assert suggest(facts(224, ("N", 2), character="0\n\x1b[2J"))[0].classes == ()


def test_maps_of_a_part_of_the_size_are_of_classes_or_of_points() -> None:
    found = suggest(facts(512, (1, 19, 128, 128)))
    assert [(one.recipe, one.sure) for one in found] == [("deeplab", "possible"), ("hrnet-pose", "possible")]
    assert "19 maps at 1/4" in found[0].why
    assert (found[1].unnamed, suggest(facts(256, (1, 17, 64, 64)))[0].unnamed) == (1, 0)  # no person's points
    assert suggest(facts(512, (1, 19, 100, 100)))[0].recipe == "imagenet"


def test_what_must_be_changed_for_the_model_is_said() -> None:
    assert suggest(facts(416, (1, 3549, 85)))[0].change == "resize = [416, 416]"
    assert suggest(facts(640, (1, 84, 8400)))[0].change is None
    channels_last = ModelFacts(
        "x", {"x": (1, 300, 300, 3)}, {"detection_boxes": (1, 10, 4), "detection_classes": (1, 10)}
    )
    assert suggest(channels_last)[0].recipe == "ssd-mobilenet"
    assert suggest(channels_last)[0].change is None


def test_free_sizes_are_no_zeros_in_what_is_said() -> None:
    free = ModelFacts("x", {"x": (1, 3, 640, 640)}, {"logits": (1, "queries", "labels"), "boxes": (1, "queries", 4)})
    assert suggest(free)[0].why == "a set of any number of boxes with any number of scores each"


def test_a_file_named_like_the_recipe_makes_it_surer() -> None:
    assert suggest(facts(352, (1, 85, 22, 22)))[0].sure == "likely"
    assert suggest(facts(352, (1, 85, 22, 22), name="FastestDet-352"))[0].sure == "nearly sure"


@pytest.mark.parametrize(
    "model",
    [
        ModelFacts("x", {"ids": (1, 128)}, {"logits": (1, 128, 30522)}),
        ModelFacts("x", {}, {}),
        ModelFacts("ocr", {"x": (1, 1, 64, "image_width")}, {"387": (1, "seqlen")}),
    ],
)
def test_nothing_is_suggested_for_what_is_not_known(model: ModelFacts) -> None:
    assert suggest(model) == ()


@pytest.mark.parametrize(
    "model",
    [
        ModelFacts("x", {"x": (1, 3, "h", "w")}, {"a": (1, "n"), "b": ()}),
        ModelFacts("x", {"x": (1, 3, 224, 224)}, {"a": (1, 7, 7, 7, 7)}),
        ModelFacts("age", {"x": (1, 3, 224, 224)}, {"age": (1, 1)}),
        ModelFacts("age", {"x": (1, 224, 224, 3)}, {"age": (1, 1)}),
    ],
)
def test_pictures_of_an_unknown_kind_are_perhaps_prepared_as_most_are(model: ModelFacts) -> None:
    (found,) = suggest(model)
    assert (found.recipe, found.sure) == ("imagenet", "possible")
    assert "nothing here shows" in found.why


@pytest.mark.parametrize(
    ("shape", "free", "sized"),
    [
        (("N", 3, "h", "w"), True, (1, 3, 320, 480)),
        (("N", "h", "w", 3), True, (1, 320, 480, 3)),
        (("N", 3, 48, "w"), True, (1, 3, 48, 480)),
        (("N", 3, 48, 48), False, (1, 3, 48, 48)),
    ],
)
def test_free_sides_get_a_size(shape: tuple, free: bool, sized: tuple) -> None:
    model = ModelFacts("x", {"ids": (1, 8), "x": shape}, {"y": ("N", 10)})
    assert free_sides(model) == (("x", shape) if free else None)
    assert with_sides(shape, (320, 480), 1) == sized


def test_a_line_of_text_is_the_likeliest_for_a_file_that_is_named_so() -> None:
    of_lines = facts(0, ("N", 2), name="ch_ppocr_mobile_v2.0_cls_mobile")
    assert likely_sizes(of_lines)[0] == (48, 192)
    assert likely_sizes(replace(of_lines, name="model"))[0] == (224, 224)


def test_the_size_that_an_exporter_noted_is_the_likeliest() -> None:
    classes, boxes = {"y": ("N", 10)}, {"y": ("N", 84, "n")}
    assert likely_sizes(ModelFacts("x", {}, classes))[0] == (224, 224)
    assert likely_sizes(ModelFacts("x", {}, boxes))[0] == (640, 640)
    assert likely_sizes(ModelFacts("x", {}, boxes, {"imgsz": "[320, 416]"}))[0] == (320, 416)


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_has_a_task_that_can_be_meant_or_none(name: str) -> None:
    recipe = load_recipe(name)
    if recipe.task is not None:
        check_task(recipe.task)
        assert len(set(recipe.task.classes)) == len(recipe.task.classes)
        assert recipe.sources


NAMED = {"author": "Ultralytics", "task": "detect"}


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        ("{0: 'cat', 1: \"dog's\"}", ("cat", "dog's")),
        ("['cat', 'dog']", ("cat", "dog")),
        ("{1: 'dog', 0: 'cat'}", ("cat", "dog")),
        ("{1: 'cat', 2: 'dog'}", ()),
        ("{'0': 'cat', '1': 'dog'}", ()),
        ("{0: 1}", ()),
        ("__import__('os').system('true')", ()),
        ("(" * 5000, ()),
        ("{0: 'a" + chr(27) + "'}", ()),
        (str(dict(enumerate(load_recipe("yolov8").task.classes))), ()),
        ("['" + "x" * 100_000 + "']", ()),
    ],
    ids=lambda value: str(value)[:20],
)
def test_the_classes_that_an_exporter_noted(names: str, classes: tuple[str, ...]) -> None:
    assert suggest(facts(640, (1, 6, 8400), names="o", **NAMED))[0].classes == ()
    model = facts(640, (1, 6, 8400), **NAMED)
    noted = ModelFacts(model.name, model.inputs, model.outputs, {**NAMED, "names": names})
    assert suggest(noted)[0].classes == classes


def test_a_recipe_is_written_for_the_model(tmp_path: Path) -> None:
    notes = {**NAMED, "names": "{0: 'cat', 1: 'dog'}"}
    (first,) = suggest(ModelFacts("net", {"images": (1, 3, 256, 320)}, {"o": (1, 6, 1680)}, notes))
    assert first.change == "resize = [256, 320], its 2 classes"
    write_recipe(tmp_path / "own.toml", first.recipe, changes=first.changes, classes=first.classes)
    own, other = load_recipe(str(tmp_path / "own.toml")), load_recipe("yolov8")
    assert own.preprocessing == replace(other.preprocessing, resize=(256, 320))
    assert own.task == replace(other.task, classes=("cat", "dog"))
    channels_last = ModelFacts("net", {"x": (1, 352, 352, 3)}, {"o": (1, 85, 22, 22)})
    (first,) = suggest(channels_last)
    write_recipe(tmp_path / "last.toml", first.recipe, changes=first.changes)
    assert load_recipe(str(tmp_path / "last.toml")).preprocessing.layout == "NHWC"


FREE = {"images": ("batch", 3, "height", "width")}


@pytest.mark.parametrize(
    ("noted", "size"),
    [
        ("[320, 320]", "[320, 320]"),
        ("(256, 416)", "[256, 416]"),
        ("320", "[320, 320]"),
        ("[640, 640]", None),
        ("", None),
        ("[320]", None),
        ("[0, 320]", None),
        ("[-320, 320]", None),
        ("[True, 320]", None),
        ("[320.0, 320.0]", None),
        ("[99999, 320]", None),
        ("{1: 2, 3: 4}", None),
        ("{[]: 1}", None),
        ("320 x 320", None),
        ("[" + "1, " * 100_000 + "]", None),
    ],
    ids=lambda value: str(value)[:20],
)
def test_free_sides_are_those_that_an_exporter_noted(noted: str, size: str | None) -> None:
    model = ModelFacts("x", FREE, {"o": ("batch", 22, "cells")}, {**NAMED, "imgsz": noted})
    assert suggest(model)[0].changes == ({"resize": size} if size else {})


def test_the_sides_of_the_graph_come_before_those_noted() -> None:
    model = ModelFacts("x", {"images": (1, 3, 256, "w")}, {"o": (1, 22, "n")}, {**NAMED, "imgsz": "[320, 320]"})
    assert suggest(model)[0].changes == {"resize": "[256, 320]"}


COUNTED = [
    (facts(416, (1, 3549, 6)), "yolox", 1),
    (facts(640, (1, 25200, 7)), "yolov5", 2),
    (facts(640, (1, 22, 8400)), "yolov8", 18),
    (facts(416, (1, 3598, 35)), "nanodet", 3),
    (facts(352, (1, 9, 22, 22)), "fastestdet", 4),
    (facts(320, *[(1, n, c) for c in (5, 32) for n in (1600, 400, 100, 25)]), "picodet", 5),
    (facts(512, (1, 6, 128, 128), (1, 2, 128, 128), (1, 2, 128, 128)), "centernet", 6),
    (facts(640, (1, 300, 7), (1, 300, 4)), "rt-detr", 7),
    (facts(640, (1, 300, 4), (1, 300, 7)), "rt-detr", 7),
    (facts(640, (1, 300, 4), (1, 300, 4), names="pred_boxes pred_logits"), "rt-detr", 4),
    (facts(520, (1, 8, 520, 520)), "deeplab", 8),
    (ModelFacts("x", {"input_ids": (1, 128)}, {"logits": (1, 128, 5)}), "token-classification", 5),
    (ModelFacts("x", {"x": (1, 49, 10, 1)}, {"y": (1, 35)}), "speech-commands-mfcc", 35),
]


@pytest.mark.parametrize(("model", "recipe", "count"), COUNTED, ids=lambda x: x if isinstance(x, str | int) else "")
def test_a_recipe_of_another_number_of_classes_is_written_without_names(
    model: ModelFacts, recipe: str, count: int, tmp_path: Path
) -> None:
    first = suggest(model)[0]
    assert (first.recipe, first.classes, first.unnamed) == (recipe, (), count)
    assert f"no names of classes: it has {count}" in (first.change or "")
    write_recipe(tmp_path / "own.toml", recipe, changes=first.changes, unnamed=first.unnamed)
    assert f"names of the {count} that the model has" in (tmp_path / "own.toml").read_text()
    own, other = load_recipe(str(tmp_path / "own.toml")), load_recipe(recipe)
    assert own.task == replace(other.task, classes=())
    check_task(own.task)


@pytest.mark.parametrize(("model", "recipe"), CASES, ids=lambda x: x if isinstance(x, str) else "")
def test_a_recipe_of_as_many_classes_keeps_its_names(model: ModelFacts, recipe: str) -> None:
    others = {(1, 6300, 7): 2, (1, 6, 3549): 2}
    assert suggest(model)[0].unnamed == others.get(next(iter(model.outputs.values())), 0)


def test_noted_classes_of_another_number_than_the_outputs_are_not_taken() -> None:
    model = ModelFacts("x", {"images": (1, 3, 640, 640)}, {"o": (1, 22, 8400)}, {**NAMED, "names": "['a', 'b']"})
    first = suggest(model)[0]
    assert (first.classes, first.unnamed) == ((), 18)


@pytest.mark.parametrize(
    "outputs",
    [
        {"a": (1, 144, 80, 80), "b": (1, 144, 40, 40), "c": (1, 144, 20, 20)},
        {"o": (1, 8400, 84)},
        {"o": (1, "values", "cells")},
        {"o": ()},
    ],
    ids=str,
)
def test_outputs_that_show_no_number_of_classes_leave_the_names(outputs: dict) -> None:
    model = ModelFacts("x", {"images": (1, 3, 640, 640)}, outputs, NAMED)
    assert [one.unnamed for one in suggest(model) if one.recipe == "yolov8"] == [0]


@pytest.mark.parametrize("shape", [(1, 1, 49, 10), ("N", 1, 224, 224)])
def test_what_is_no_photograph_is_not_taken_for_imagenets(shape: tuple[int | str, ...]) -> None:
    found = suggest(ModelFacts("kws", {"x": shape}, {"y": (1, 12)}))
    assert "imagenet" not in [one.recipe for one in found]
    assert "imagenet" in [one.recipe for one in suggest(facts(96, ("N", 12)))]
