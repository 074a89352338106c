"""Texts that are longer than what a model reads of one: a network that takes rows of four tokens."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx
import onnx.parser
import pytest
from inspections import inspected
from tokenizers_made import tokenizer_bytes

from edgepack.data.samples import find_samples
from edgepack.graph.load import load_model
from edgepack.lint.texts import check
from edgepack.specs.data import Finding
from edgepack.specs.task import Task


def findings(tmp_path: Path, texts: list[str], tokens: str, **settings: object) -> list[Finding]:
    proto = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        net (int64[N, {tokens}] input_ids) => (int64[N, {tokens}] scores) {{ scores = Identity(input_ids) }}"""
    )
    onnx.save(proto, tmp_path / "net.onnx")
    model = load_model(tmp_path / "net.onnx")
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_bytes())
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"{text},a\n" for text in texts))
    task = Task("text-classification", input=settings)
    samples = find_samples(str(tmp_path / "texts.csv"), model.inputs, None, task=task)
    asked = inspected(model, samples, tmp_path)
    evaluation = dataclasses.replace(asked.calibration, title="evaluation samples")
    found = check(asked).findings
    assert len(check(dataclasses.replace(asked, evaluation=evaluation)).findings) == 2 * len(found)
    return list(found)


def test_texts_that_a_model_cuts_are_counted(tmp_path: Path) -> None:
    (found,) = findings(tmp_path, ["the card", "the card the card", "card", "the the the"], "4")
    assert (found.check, found.severity) == ("texts", "warning")
    assert "2 of 4 calibration samples (50.0 %) are longer than the 4 tokens" in found.message
    assert "export the model" in str(found.hint)


def test_where_the_recipe_cuts_it_is_named(tmp_path: Path) -> None:
    (found,) = findings(tmp_path, ["the card"] * 3, "L", max_length=3)
    assert "max_length" in str(found.hint)


def test_a_few_are_a_note(tmp_path: Path) -> None:
    (found,) = findings(tmp_path, ["the card the card", *["card"] * 150], "4")
    assert found.severity == "note"


@pytest.mark.parametrize("tokens", ["4", "L"])
def test_nothing_is_said_where_nothing_is_cut(tmp_path: Path, tokens: str) -> None:
    assert findings(tmp_path, ["the card", "card"], tokens) == []
