import dataclasses
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from edgepack.data.samples import find_samples
from edgepack.execution import child
from edgepack.lint import lint
from edgepack.lint.encodings import PLAIN, USUAL
from edgepack.lint.survey import signature
from edgepack.lint.trials import sharpness
from edgepack.specs.data import Preprocessing

pytestmark = pytest.mark.slow

SIDE = 40
CLASSES = 6
UNIT = next(e for e in PLAIN if e.name == "/ 255")
IMAGENET = next(e for e in PLAIN if e.name.startswith("ImageNet"))
RAW = PLAIN[0]


@pytest.fixture
def pixels():
    """Pictures with a dominant colour, one of six, and some texture: [n, height, width, 3], and their classes."""
    return colourful(90)


def colours():
    return np.random.default_rng(42).integers(30, 226, (CLASSES, 3)).astype(np.float64)


def colourful(count, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    blocks = rng.normal(scale=25.0, size=(count, 8, 8, 1)).repeat(5, axis=1).repeat(5, axis=2)
    texture = rng.normal(scale=12.0, size=(count, SIDE, SIDE, 3)) + blocks
    pictures = np.clip(colours()[labels][:, None, None, :] + texture, 0, 255).round()
    pictures[:, 0, 0], pictures[:, 0, 1] = 0, 255  # real pictures reach both ends together
    return pictures, labels


@pytest.fixture
def classifier(make_model):
    """Tells the dominant colour of pictures that are encoded with ImageNet's mean and std."""
    wanted = (colours() - IMAGENET.mean) / np.asarray(IMAGENET.std)
    return make_model(
        """<ir_version: 8, opset_import: ["" : 17]> net (float[N,3,40,40] image) => (float[N,6] logits) {
            stem = Conv(image, eye, offset)
            mean = GlobalAveragePool(stem)
            flat = Flatten(mean)
            logits = Gemm<transB=1, alpha=8.0, beta=8.0>(flat, w, b) }""",
        eye=np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1),
        offset=np.array([1.0, -1.0, 1.0], np.float32),
        w=(2 * wanted).astype(np.float32),
        b=(-(wanted**2).sum(axis=1) - 2 * wanted @ np.array([1.0, -1.0, 1.0])).astype(np.float32),
    )


@pytest.fixture
def check(save_npz, tmp_path):
    """Lint a model with pictures in one encoding."""

    def run(model, pictures, encoding, labels=None, evaluation=None, name="image", known=None):
        def found(file, values, known):
            arrays = {name: np.stack([encoding.encode(p).transpose(2, 0, 1) for p in values])}
            if known is not None:
                arrays["labels"] = known
            return find_samples(save_npz(file, **arrays), model.inputs, None)

        other = None if evaluation is None else found("eval.npz", evaluation, known)
        return lint(model, found("cal.npz", pictures, labels), other, "mse", 99.99, tmp_path / "out")

    return run


def warnings_of(found):
    return [finding.message for finding in found.warnings]


def notes_of(found):
    return [finding.message for finding in found.findings if finding.severity == "note"]


def test_good_samples_are_left_alone(classifier, pixels, check):
    found = check(classifier, pixels[0], IMAGENET, pixels[1], evaluation=colourful(30, seed=9)[0])
    assert warnings_of(found) == []
    assert any(
        "top-1 accuracy" in t and "1.000 (n=48) now, with RGB, ImageNet mean and std" in t for t in notes_of(found)
    )
    assert found.samples == 90
    assert found.eval_samples == 30
    assert found.model_runs == 10 * 16 + 4 * 32 + 64  # encodings in two rounds, then the halves


@pytest.mark.parametrize("encoding", [e for e in USUAL if "mean and std" not in e.name], ids=lambda e: e.title)
def test_a_wrong_encoding_is_found_with_labels(classifier, pixels, check, encoding):
    found = check(classifier, pixels[0], encoding, pixels[1])
    (text,) = [t for t in warnings_of(found) if "does not fit" in t]
    (finding,) = [d for d in found.findings if d.message == text]
    before, after = (float(number) for number in re.findall(r"(\d\.\d\d\d) with", text))
    assert finding.proven == (after - before >= 0.1)
    assert "1.000 with RGB, ImageNet mean and std" in text or "1.000 with BGR, ImageNet mean and std" in text
    hint = next(d.hint for d in found.findings if d.message == text)
    assert "mean = [123.675, 116.28, 103.53], std = [58.395, 57.12, 57.375]" in hint or 'color = "BGR"' in hint


@pytest.fixture
def striped(make_model):
    """Answers with the strength of six patterns in pictures that are encoded with ImageNet's mean and std.

    A threshold before the last layer makes its answers blur when the inputs are of another size.
    """
    return make_model(
        """<ir_version: 8, opset_import: ["" : 17]> net (float[N,3,40,40] image) => (float[N,6] logits) {
            mean = GlobalAveragePool(image)
            flat = Flatten(mean)
            near = Gemm<transB=1>(flat, w, b)
            logits = Relu(near) }""",
        w=((colours() - IMAGENET.mean) / np.asarray(IMAGENET.std)).astype(np.float32),
        b=(-0.5 * (((colours() - IMAGENET.mean) / np.asarray(IMAGENET.std)) ** 2).sum(axis=1)).astype(np.float32),
    )


def test_a_wrong_encoding_is_probable_without_labels(striped, pixels, check):
    (text,) = [t for t in warnings_of(check(striped, pixels[0], UNIT)) if "preprocessing" in t]
    assert "the preprocessing probably does not fit the model" in text
    assert not any(finding.proven for finding in check(striped, pixels[0], UNIT).findings)
    assert "with / 255 (as the values look)" in text
    assert "no labels" in text
    assert not any("preprocessing" in t for t in warnings_of(check(striped, pixels[0], IMAGENET)))


def test_a_model_that_always_answers_the_same_is_not_told_what_fits(make_model, pixels, check):
    """Random weights: what is left of an answer without its mean may be clearer with another encoding by chance."""
    model = make_model(
        """<ir_version: 8, opset_import: ["" : 17]> net (float[N,3,40,40] image) => (float[N,6] logits) {
            mean = GlobalAveragePool(image)
            flat = Flatten(mean)
            logits = Gemm<transB=1>(flat, w, b) }""",
        w=np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32),
        b=np.float32([1000, 0, 0, 0, 0, 0]),
    )
    (text,) = [t for t in warnings_of(check(model, pixels[0], UNIT)) if "preprocessing" in t]
    assert "same answer to 100 % of the" in text
    assert "cannot be told" in text


@pytest.fixture
def picture_folder(tmp_path, pixels):
    root = tmp_path / "pictures"
    for index, (picture, label) in enumerate(zip(*pixels, strict=True)):
        (root / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.astype(np.uint8)).save(root / str(label) / f"{index:03}.png")
    return root


def recipe_of(encoding):
    step = -1 if encoding.bgr else 1  # a recipe's numbers are in the order of its own channels
    color = "BGR" if encoding.bgr else "RGB"
    return Preprocessing(color=color, mean=encoding.mean[::step], std=encoding.std[::step])


def test_the_channel_order_of_a_recipe_is_found(classifier, picture_folder, tmp_path):
    for made, wrong in ((recipe_of(IMAGENET), False), (recipe_of(dataclasses.replace(IMAGENET, bgr=True)), True)):
        found = find_samples(str(picture_folder), classifier.inputs, made)
        said = warnings_of(lint(classifier, found, None, "mse", 99.99, tmp_path / "out"))
        assert (
            any("does not fit the model: top-1 is" in text and "with BGR, ImageNet" in text for text in said) == wrong
        )


def test_unusual_numbers_of_a_recipe_are_tried_as_they_are(classifier, picture_folder, tmp_path):
    made = dataclasses.replace(recipe_of(IMAGENET), mean=(150.0, 110.0, 60.0))
    found = find_samples(str(picture_folder), classifier.inputs, made)
    notes = notes_of(lint(classifier, found, None, "mse", 99.99, tmp_path / "out"))
    assert any("now, with RGB, as in the recipe" in text for text in notes)


def test_labels_in_another_order_are_told_from_a_wrong_encoding(classifier, pixels, check):
    said = warnings_of(check(classifier, pixels[0], IMAGENET, (pixels[1] + 1) % CLASSES))
    assert any("the labels do not fit the model: top-1 is 0.000 (calibration samples, n=" in t for t in said)
    assert not any("preprocessing" in t for t in said)


def test_labels_of_the_evaluation_samples_serve_where_calibration_has_none(classifier, picture_folder, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for number, picture in enumerate(colourful(20, seed=5)[0]):
        Image.fromarray(picture.astype(np.uint8)).save(bare / f"{number}.png")
    made = recipe_of(dataclasses.replace(UNIT))
    calibration, evaluation = (find_samples(str(p), classifier.inputs, made) for p in (bare, picture_folder))
    said = warnings_of(lint(classifier, calibration, evaluation, "mse", 99.99, tmp_path / "out"))
    assert any("the preprocessing does not fit" in t and "(evaluation samples, n=" in t for t in said)


def test_copies_are_found(classifier, pixels, check):
    pictures = pixels[0].copy()
    pictures[7] = pictures[3]
    pictures[20:22] = np.clip(pictures[11:13] + 1, 0, 255)
    said = warnings_of(check(classifier, pictures, IMAGENET))
    assert any("1 of 90 samples repeat others exactly: sample 7 = sample 3" in text for text in said)
    assert any("2 of 90 samples nearly repeat others" in text and "sample 20 = sample 11" in text for text in said)


def test_copies_in_the_evaluation_set_are_found(classifier, pixels, check):
    evaluation = colourful(30, seed=9)[0]
    evaluation[4] = pixels[0][50]
    evaluation[9] = np.clip(pixels[0][60] * 0.9, 0, 255)
    said = warnings_of(check(classifier, pixels[0], IMAGENET, evaluation=evaluation))
    assert any("1 of 90 calibration samples are in the evaluation set: sample 50 = sample 4" in text for text in said)
    assert any("nearly in the evaluation set: sample 60 = sample 9" in text for text in said)


def test_pictures_that_all_look_alike_are_no_copies(classifier, pixels, check):
    noise = np.random.default_rng(1).normal(scale=4.0, size=pixels[0].shape)
    film = np.clip(pixels[0][:1] + noise, 0, 255)
    found = check(classifier, film[:45], UNIT, evaluation=film[45:])
    assert any("44 of 45 pictures nearly repeat others: a fixed camera or a video?" in t for t in notes_of(found))
    assert not any("repeat" in t or "in the evaluation set" in t for t in warnings_of(found))


def test_copied_and_recompressed_picture_files(classifier, picture_folder, tmp_path):
    names = sorted(picture_folder.rglob("*.png"))
    shutil.copyfile(names[0], names[0].with_name("copy.png"))
    Image.open(names[40]).save(names[40].with_suffix(".jpg"), quality=40)
    Image.open(names[41]).save(names[41].with_suffix(".jpg"), quality=40)
    found = find_samples(str(picture_folder), classifier.inputs, recipe_of(IMAGENET))
    said = warnings_of(lint(classifier, found, None, "mse", 99.99, tmp_path / "out"))
    assert any("1 of 93 samples repeat others exactly: 0/copy.png = 0/000.png" in text for text in said)
    assert any("2 of 93 samples nearly repeat others" in text and ".png = " in text for text in said)


@pytest.fixture
def detector(make_model):
    """A convolution with a bias that suits inputs of about 1, and no class scores."""
    rng = np.random.default_rng(0)
    return make_model(
        """<ir_version: 8, opset_import: ["" : 17]> net (float[N,3,40,40] image) => (float[N,4,38,38] map) {
            map = Conv(image, w, b) }""",
        w=rng.normal(scale=0.3, size=(4, 3, 3, 3)).astype(np.float32),
        b=rng.normal(size=4).astype(np.float32),
    )


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        (RAW, "the inputs, 0 to 255, are probably too large for the model"),
        (dataclasses.replace(UNIT, std=(65025.0,) * 3), "are probably too small for the model"),
        (UNIT, None),
        (IMAGENET, None),
        (next(e for e in PLAIN if e.name == "Caffe means"), None),
    ],
    ids=["bare pixels", "divided twice", "0 to 1", "ImageNet", "Caffe"],
)
def test_values_that_cannot_fit_the_first_layer(detector, pixels, check, encoding, expected):
    said = [t for t in warnings_of(check(detector, pixels[0], encoding)) if "the inputs" in t]
    assert len(said) == (expected is not None)
    assert expected is None or expected in said[0]


def test_a_first_layer_whose_bias_is_no_row_is_not_judged(make_model, save_npz, tmp_path):
    model = make_model(
        """<ir_version: 8, opset_import: ["" : 17]> net (float[N,4] x) => (float[N,3] y) {
            y = Gemm<transB=1>(x, w, b) }""",
        w=np.ones((3, 4), np.float32),
        b=np.ones(1, np.float32),
    )
    x = np.random.default_rng(0).uniform(0, 255, size=(20, 4)).astype(np.float32)
    found = find_samples(save_npz(x=x), model.inputs, None)
    assert not any("probably" in t for t in warnings_of(lint(model, found, None, "minmax", 99.99, tmp_path / "out")))


def test_sets_on_different_scales(detector, pixels, save_npz, tmp_path):
    sets = [
        find_samples(
            save_npz(f"{i}.npz", image=np.stack([e.encode(p).transpose(2, 0, 1) for p in part])), detector.inputs, None
        )
        for i, (e, part) in enumerate(((RAW, pixels[0][:45]), (UNIT, pixels[0][45:])))
    ]
    said = warnings_of(lint(detector, *sets, "minmax", 99.99, tmp_path / "out"))
    assert any("'image' spans 0 to 255 in the calibration set and 0 to 1 in the evaluation set" in t for t in said)
    assert any("calibration samples are 0 to 255, those for evaluation / 255" in t for t in said)


def test_constant_blank_and_grey(classifier, pixels, check):
    missing = pixels[0].copy()
    missing[:, :, :, 1] = 7
    assert any("1 of 3 channels of 'image' never change: 1" in t for t in warnings_of(check(classifier, missing, UNIT)))
    grey = pixels[0].copy()
    grey[:] = grey.mean(axis=3, keepdims=True).round()
    assert any("all calibration pictures are grey" in t for t in notes_of(check(classifier, grey, IMAGENET)))
    said = warnings_of(check(classifier, grey, IMAGENET, evaluation=pixels[0][:40]))
    assert any("all calibration pictures are grey" in t and "those for evaluation have colour" in t for t in said)
    blank = pixels[0].copy()
    blank[5] = 100
    said = warnings_of(check(classifier, blank, UNIT))
    assert any("1 of 90 samples are blank, one single value: sample 5" in t for t in said)
    said = warnings_of(check(classifier, blank[5:6].repeat(10, 0), UNIT))
    assert any("constant over all samples" in t for t in said)


def test_features_that_never_change_are_a_note(make_model, save_npz, tmp_path):
    model = make_model('<ir_version: 8, opset_import: ["" : 17]> net (float[N,4] x) => (float[N,4] y) { y = Relu(x) }')
    x = np.random.default_rng(0).uniform(-1, 1, size=(40, 4)).astype(np.float32)
    x[:, 2] = 0
    said = lint(model, find_samples(save_npz(x=x), model.inputs, None), None, "mse", 99.99, tmp_path / "out")
    assert any("1 of 4 channels of 'x' never change: 2" in t for t in notes_of(said))
    assert not said.warnings


def test_labels_out_of_range_and_uneven_classes(classifier, pixels, check):
    pictures, labels = pixels
    said = warnings_of(check(classifier, pictures, IMAGENET, labels + 1))
    assert any("the label 6 is not one of the model's 6 classes" in t for t in said)
    uneven = np.zeros_like(labels)
    uneven[:2] = 1
    assert any("0 has 88 samples, 1 has 2" in t for t in notes_of(check(classifier, pictures, IMAGENET, uneven)))


def test_classes_that_only_calibration_has_are_counted_too(classifier, pixels, check):
    pictures, labels = pixels
    zero, five = labels == 0, labels == 5
    found = check(classifier, pictures[zero], IMAGENET, labels[zero], pictures[five], known=labels[five])
    assert any("1 of 2 classes have no sample: 5" in text for text in warnings_of(found))


def test_missing_classes(classifier, pixels, check):
    pictures, labels = pixels
    present = labels != 5
    said = warnings_of(check(classifier, pictures[present], IMAGENET, labels[present]))
    assert "1 of 6 classes have no sample: 5" in said
    found = check(classifier, pictures[:10][present[:10]], IMAGENET, labels[:10][present[:10]])
    assert any(
        "1 of 6 classes have no sample: 5 (with so few samples this may be chance)" in t for t in notes_of(found)
    )


def test_too_few_samples(classifier, pixels, check):
    assert any(
        "there are only 3 calibration samples" in t for t in warnings_of(check(classifier, pixels[0][:3], IMAGENET))
    )
    assert any(
        "there is only one calibration sample" in t for t in warnings_of(check(classifier, pixels[0][:1], IMAGENET))
    )


def test_ranges_of_halves_that_disagree(make_model, save_npz, tmp_path):
    model = make_model('<ir_version: 8, opset_import: ["" : 17]> net (float[N,4] x) => (float[N,4] y) { y = Relu(x) }')
    wild = np.random.default_rng(0).standard_t(1, size=(40, 4)).astype(np.float32)
    calm = np.random.default_rng(0).uniform(-1, 1, size=(40, 4)).astype(np.float32)
    for x, few in ((wild, True), (calm, False)):
        found = find_samples(save_npz(x=x), model.inputs, None)
        said = lint(model, found, None, "minmax", 99.99, tmp_path / "out")
        assert any("too few samples: the minmax ranges of two halves of 40" in t for t in warnings_of(said)) == few
        assert any("two halves of 40 calibration samples differ by" in finding.message for finding in said.findings)


def test_ignored_files_are_noted(classifier, picture_folder, tmp_path):
    (picture_folder / "notes.txt").write_text("x")
    found = find_samples(str(picture_folder), classifier.inputs, recipe_of(IMAGENET))
    said = lint(classifier, found, None, "mse", 99.99, tmp_path / "out")
    assert any("1 files" in text and "notes.txt" in text for text in notes_of(said))


def test_warnings_come_first_and_each_says_what_to_do(classifier, pixels, check):
    found = check(classifier, pixels[0], RAW, pixels[1])
    order = [finding.severity for finding in found.findings]
    assert order == sorted(order, reverse=True)
    assert found.warnings
    assert all(finding.hint for finding in found.warnings)


def test_models_that_take_no_pictures(make_model, save_npz, tmp_path):
    model = make_model(
        """<ir_version: 8, opset_import: ["" : 17]> net (int64[N,5] ids, float[N,5] mask) => (float[N,5,3] y) {
            e = Gather(table, ids) y = MatMul(e, w) }""",
        table=np.random.default_rng(0).normal(size=(9, 4)).astype(np.float32),
        w=np.ones((4, 3), np.float32),
    )
    rng = np.random.default_rng(0)
    arrays = {"ids": rng.integers(0, 9, (20, 5)), "mask": np.ones((20, 5), np.float32), "labels": rng.random((20, 2))}
    found = find_samples(save_npz(**arrays), model.inputs, None)
    said = lint(model, found, found, "percentile", 99.9, tmp_path / "out")
    assert any("'mask' is constant over all samples" in t for t in warnings_of(said))  # its only input of numbers
    assert any("20 of 20 calibration samples are in the evaluation set" in t for t in warnings_of(said))


def test_it_runs_in_a_child_process(classifier, pixels, save_npz, tmp_path):
    images = np.stack([IMAGENET.encode(p).transpose(2, 0, 1) for p in pixels[0][:12]])
    found = find_samples(save_npz(image=images), classifier.inputs, None)
    arguments = (classifier, found, None, "minmax", 99.9, tmp_path / "out")
    assert child.call(lint, *arguments, limit_s=60, log=tmp_path / "log") == lint(*arguments)


def test_sharpness_knows_no_scale_and_no_habit():
    scores = np.random.default_rng(0).normal(size=(50, 10))
    clear = scores + 8 * np.eye(10)[np.arange(50) % 10]
    assert sharpness(clear).mean() > 1.3 * sharpness(scores).mean()
    np.testing.assert_allclose(sharpness(clear * 255), sharpness(clear))
    np.testing.assert_allclose(sharpness(clear + 100 * np.eye(10)[3]), sharpness(clear))
    powers = np.exp(clear)
    np.testing.assert_allclose(sharpness(powers / powers.sum(axis=1, keepdims=True)), sharpness(clear))
    assert not sharpness(np.eye(10)[np.arange(50) % 10]).any()  # probabilities that underflowed tell nothing
    assert not sharpness(np.full((5, 10), np.nan)).any()


def test_signature_of_small_and_blank_pictures():
    assert signature(np.zeros((16, 64, 3))) is None
    assert not signature(np.full((64, 64, 3), 5.0)).any()
