import dataclasses

import made_up

from edgepack.report.entries import make_groups
from edgepack.report.text.model import model_text
from edgepack.specs.model import TensorSpec


def test_a_line_says_what_the_model_is():
    (group,) = make_groups(*made_up.full_build())
    assert model_text(group.entries) == (
        "4.65 M parameters · 391 M multiply-adds a sample · input float32 [N, 3, 224, 224] → "
        "logits float32 [N, 1000] · opset 18"
    )


def test_what_is_not_known_is_left_out_and_many_inputs_are_counted():
    tensors = tuple(TensorSpec(f"x{i}", "float32", (1,)) for i in range(5))
    facts = dataclasses.replace(made_up.FACTS, macs=None, parameters=7, inputs=tensors)
    (group,) = make_groups((), (made_up.row(facts=facts),))
    assert model_text(group.entries).startswith(
        "7 parameters · x0 float32 [1], x1 float32 [1], x2 float32 [1] and 2 more"
    )
    (bare,) = make_groups((), (made_up.row(),))
    assert model_text(bare.entries) == ""


def test_a_free_size_whose_name_tells_nothing_is_any():
    inputs = (TensorSpec("x", "float32", ("DynamicDimension.0", 3, "height", "unk__6")),)
    (group,) = make_groups((), (made_up.row(facts=dataclasses.replace(made_up.FACTS, inputs=inputs)),))
    assert "x float32 [any, 3, height, any] \u2192" in model_text(group.entries)
