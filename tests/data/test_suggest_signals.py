import pytest

from edgepack.data.recipes import list_recipes, load_recipe, write_recipe
from edgepack.data.suggest import ModelFacts, suggest
from edgepack.tasks import check_task

TOKENS = {"input_ids": ("N", "L"), "attention_mask": ("N", "L")}
CASES = [
    (TOKENS, {"last_hidden_state": ("N", "L", 384)}, {}, "minilm-embedding"),
    (TOKENS, {"last_hidden_state": ("N", "L", 32)}, {}, "minilm-embedding"),
    (TOKENS, {"sentence_embedding": ("N", 384)}, {}, "minilm-embedding"),
    (TOKENS, {"logits": ("N", 3)}, {}, "text-classification"),
    (TOKENS, {"logits": ("N", "L", 9)}, {}, "token-classification"),
    ({"input": ("B", "n"), "state": (2, "B", 128), "sr": ()}, {"output": ("B", 1)}, {}, "silero-vad"),
    ({"input_1": ("N", 49, 10, 1)}, {"y": ("N", 12)}, {}, "speech-commands-mfcc"),
    ({"x": ("N", 1, 49, 40)}, {"y": ("N", 12)}, {}, "speech-commands-log-mel"),
    ({"x": ("N", 96, 64)}, {"y": ("N", 521)}, {}, "yamnet"),
    ({"x": ("N", 3, 48, "W")}, {"y": ("N", "T", 97)}, {}, "pp-ocr-recognition"),
    ({"x": ("N", 3, 32, 100)}, {"y": ("N", "T", 6625)}, {"character": "a\nb"}, "pp-ocr-recognition"),
    ({"input1": (1, 1, 64, 640)}, {"387": (80, 1, 8210)}, {}, "ddddocr"),
    ({"x": ("N", 4)}, {"y": ("N", 3)}, {}, "tabular"),
    ({"x": ("N", 10)}, {"y": ("N", 1)}, {}, "tabular-regression"),
    ({"input_1": ("N", 144160)}, {"y": ("N", 3)}, {}, "waveform"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("inputs", "outputs", "notes", "recipe"), CASES, ids=[f"{n} {case[3]}" for n, case in enumerate(CASES)]
)
def test_the_first_suggestion(inputs, outputs, notes, recipe):
    first = suggest(ModelFacts("model", inputs, outputs, notes))[0]
    assert first.recipe == recipe
    assert first.why
    assert recipe in list_recipes()


@pytest.mark.parametrize(
    ("name", "shape", "change"),
    [
        ("x", ("N", 16000), "length = 16000"),
        ("x", ("N", 1, 43844), "length = 43844"),
        ("x", (1, 43844, 1), "length = 43844"),
        ("audio", ("N", "T"), None),
        ("waveform", ("N", 1, "T"), None),
    ],
)
def test_samples_of_a_sound_have_the_length_of_the_model(name, shape, change, tmp_path):
    (found,) = suggest(ModelFacts("model", {name: shape}, {"y": ("N", 4)}))
    assert (found.recipe, found.sure, found.change) == ("waveform", "possible", change)
    write_recipe(tmp_path / "own.toml", found.recipe, inputs=found.inputs)
    task = load_recipe(str(tmp_path / "own.toml")).task
    check_task(task)
    assert task.input.get("length") == (int(change.split()[-1]) if change else None)


def test_classes_that_the_model_does_not_have_leave_the_recipe_with_what_is_said_of_them(tmp_path):
    write_recipe(tmp_path / "own.toml", "token-classification", unnamed=5)
    text = (tmp_path / "own.toml").read_text()
    assert "# classes = [...] # names of the 5" in text
    assert "CoNLL" not in text.partition("verified")[0]
    assert "task.classes" not in text
    assert load_recipe(str(tmp_path / "own.toml")).task.classes == ()


@pytest.mark.parametrize(("name", "shape"), [("x", ("N", "T")), ("x", ("N", 2048)), ("audio", ("N", 2, 8000))])
def test_other_rows_are_no_sounds(name, shape):
    assert suggest(ModelFacts("model", {name: shape}, {"y": ("N", 4)})) == ()


def test_models_of_pictures_are_suggested_nothing_of_these():
    for size, out in ((224, ("N", 1000)), (640, (1, 84, 8400))):
        found = suggest(ModelFacts("model", {"x": ("N", 3, size, size)}, {"y": out}))
        assert not {one.recipe for one in found} & {case[3] for case in CASES}
    assert suggest(ModelFacts("model", {"x": ("N", 3, 5, 7, 9)}, {"y": ("N", 3)})) == ()
