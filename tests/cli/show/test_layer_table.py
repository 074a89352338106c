"""The layers of a bundle on the terminal."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from edgepack.cli.show.console import PlainConsole
from edgepack.cli.show.layer_table import show_layers
from edgepack.profiling.layers import LayerRow, LayersReport


def layer(name: str, **changes: Any) -> LayerRow:
    fields = {field.name: None for field in dataclasses.fields(LayerRow)}
    known = {
        "name": name,
        "operator": "Conv",
        "weighted": True,
        "asked": "int8",
        "executed": "int8",
        "identical": False,
    }
    return LayerRow(**{**fields, **known, **changes})  # type: ignore[arg-type]


def report(*rows: LayerRow, **changes: Any) -> LayersReport:
    fields = {field.name: None for field in dataclasses.fields(LayersReport)}
    known = {
        "bundle": "net", "precision": "int8", "cpu": "M-1000", "versions": {"engine": "1.2"}, "layers": rows, "runs": 7,
        "time_ns": 2_000_000, "conversion_share": 0.25, "other_share": 0.0, "sqnr_samples": 8, "sqnr_engine": "ort 1",
    }  # fmt: skip
    return LayersReport(**{**fields, **known, **changes})  # type: ignore[arg-type]


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("COLUMNS", "200")

    def show(*rows: LayerRow, **changes: Any) -> str:
        show_layers(PlainConsole(), report(*rows, **changes))
        return capsys.readouterr().out

    return show


def test_what_matters_has_a_line_and_the_rest_is_counted(shown: Any) -> None:
    text = shown(
        layer("weighted", sqnr_db=31.25, time_share=0.5),
        layer("slow", weighted=False, time_share=0.02),
        layer("quick", weighted=False, time_share=0.001),
        layer("elsewhere", weighted=False, asked="int8", executed="fp32", reason="no int8 kernel here"),
        layer("gone", weighted=False, asked="int8", executed="fused"),
    )
    for name in ("weighted", "slow", "elsewhere"):
        assert name in text
    for name in ("quick", "gone"):
        assert name not in text
    assert "in 5 operators (2 not shown); 25.0 % of it converts" in text
    assert "31.2" in text
    assert "no int8 kernel here" in text
    assert "one inference takes 2 ms" in text
    assert "7 inferences" in text


def test_layers_that_do_not_differ_are_exact(shown: Any) -> None:
    assert "exact" in shown(layer("a", identical=True))


def test_the_end_of_a_long_name_is_kept(shown: Any) -> None:
    text = shown(layer("x" * 40 + "/tail"))
    assert "…" + "x" * 24 + "/tail" in text
    assert "x" * 30 not in text


@pytest.mark.parametrize(
    ("samples", "words"), [(None, "SQNR: not in this bundle"), (8, "8 samples, ort 1, measured at build time")]
)
def test_where_sqnr_is_from(shown: Any, samples: int | None, words: str) -> None:
    assert words in shown(layer("a"), sqnr_samples=samples)


def test_time_of_the_engines_own_nodes_is_said(shown: Any) -> None:
    assert "is spent in nodes added by the engine" not in shown(layer("a"))
    assert "10.0 % is spent in nodes added by the engine" in shown(layer("a"), other_share=0.1)
