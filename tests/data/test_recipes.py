import pytest

from edgepack.data.recipes import list_recipes, load_recipe
from edgepack.errors import ConfigError


@pytest.mark.parametrize("name", list_recipes())
def test_every_shipped_recipe_is_whole(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.title
    assert recipe.sources


def test_the_usual_recipes_are_there():
    assert {"imagenet", "efficientnet-lite", "cifar10", "fastestdet", "mobilenet-v1"} <= set(list_recipes())


def test_unknown_name_suggests_the_near_one():
    with pytest.raises(ConfigError, match="unknown recipe 'imagnet'") as caught:
        load_recipe("imagnet")
    assert "did you mean 'imagenet'" in caught.value.hint


def test_a_name_that_several_begin_with_suggests_them_all():
    with pytest.raises(ConfigError) as caught:
        load_recipe("YOLOv8")
    assert caught.value.hint.startswith("did you mean 'yolov8' or 'yolov8-cls' or 'yolov8-pose'?")


def write(tmp_path, text, name="own.toml"):
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_own_file_is_read(tmp_path):
    recipe = load_recipe(write(tmp_path, 'title = "mine"\nsamples = 12\n[preprocessing]\nresize = [4, 6]\n'))
    assert recipe.name == "own"
    assert recipe.samples == 12
    assert recipe.preprocessing.resize == (4, 6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title = ", "not valid TOML"),
        ("samples = 3", "the key 'title' is missing"),
        ('title = "x"\nsampels = 3', "unknown key 'sampels'"),
        ('title = "x"\nsamples = 0', "samples = 0"),
        ('title = "x"\nname = "y"', "its name is 'y'"),
        ('title = "x"\noutputs = ["a", "a"]', "outputs = "),
        ('title = "x"\noutputs = [""]', "outputs = "),
        ('title = "x"\npercentile = 20.0', "percentile = 20.0"),
        ('title = "x"\npercentile = nan', "finite number"),
        ('title = "x"\n[preprocessing]\nresize = [4, 4]\nresize_short = 4', "both resize and resize_short"),
        ('title = "x"\n[preprocessing]\nresize = [0, 4]', "a side of 0 pixels"),
        ('title = "x"\n[preprocessing]\nresize_short = 100000', "a side of 100000 pixels"),
        ('title = "x"\n[preprocessing]\nresize = [4, 4]\ncrop = [5, 4]', "larger than resize"),
        ('title = "x"\n[preprocessing]\nresize_short = 4\ncrop = [5, 4]', "larger than resize_short"),
        ('title = "x"\n[preprocessing]\nmean = [1.0]', "mean has 1 numbers, RGB has 3 channels"),
        ('title = "x"\n[preprocessing]\ncolor = "L"\nmean = [1.0, 2.0]', "mean has 2 numbers"),
        ('title = "x"\n[preprocessing]\nstd = [1.0, 0.0, 1.0]', "greater than 0"),
        ('title = "x"\n[preprocessing]\nscale = -1.0', "greater than 0"),
        ('title = "x"\n[preprocessing]\ndtype = "uint8"\nscale = 0.5', "dtype uint8"),
    ],
)
def test_what_is_wrong_in_a_recipe_is_named(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_recipe(path)
    assert "own.toml" in caught.value.message
    assert caught.value.hint


def test_missing_file_and_binary_file(tmp_path):
    with pytest.raises(ConfigError, match="there is no recipe"):
        load_recipe(str(tmp_path / "none.toml"))
    (tmp_path / "bin.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not valid TOML"):
        load_recipe(str(tmp_path / "bin.toml"))


PICTURES = "title = 'x'\n[preprocessing]\nresize = [64, 64]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("letterbox = true\ncrop = [8, 8]\n", "letterbox needs resize, and no crop"),
        ("letterbox = true\npad = 256\n", "pad = 256"),
        ("stride = 32\n", "stride = 32"),
        ("letterbox = true\nstride = 0\n", "stride = 0"),
        ("fixed_height = true\n", "fixed_height needs letterbox"),
        ("letterbox = true\nleast_width = 320\n", "least_width = 320"),
        ("letterbox = true\nscale_up = false\nfixed_height = true\n", "fixed_height needs letterbox"),
        ("resampler = 'opencv'\ninterpolation = 'lanczos'\n", "OpenCV's lanczos"),
        ("resampler = 'skimage'\n", "not one of the allowed"),
    ],
)
def test_letterboxes_and_resamplers_that_cannot_be_meant(tmp_path, text, message):
    (tmp_path / "own.toml").write_text(PICTURES + text)
    with pytest.raises(ConfigError, match=message):
        load_recipe(str(tmp_path / "own.toml"))


def test_classes_come_from_a_file_beside_the_recipe_or_a_shipped_one(tmp_path):
    task = "[task]\nkind = 'object-detection'\ndecoder = 'yolo'\n"
    (tmp_path / "own.toml").write_text("title = 'x'\nclasses = 'names.txt'\n" + task)
    (tmp_path / "names.txt").write_text("cat\n\ndog\n")
    assert load_recipe(str(tmp_path / "own.toml")).task.classes == ("cat", "dog")
    (tmp_path / "own.toml").write_text("title = 'x'\nclasses = 'coco-80.txt'\n" + task)
    assert len(load_recipe(str(tmp_path / "own.toml")).task.classes) == 80


@pytest.mark.parametrize(
    "text",
    [
        "classes = 'nowhere.txt'\n[task]\nkind = 'tensors'\n",
        "classes = '../names.txt'\n[task]\nkind = 'tensors'\n",
        "classes = 'coco-80.txt'\n",
        "classes = 'coco-80.txt'\n[task]\nkind = 'tensors'\nclasses = ['a']\n",
    ],
)
def test_classes_that_cannot_be_meant(tmp_path, text):
    (tmp_path / "own.toml").write_text("title = 'x'\n" + text)
    with pytest.raises(ConfigError, match="classes"):
        load_recipe(str(tmp_path / "own.toml"))
