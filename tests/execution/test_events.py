"""What watches a build may stay silent."""

from __future__ import annotations

import inspect

import pytest

from edgepack.execution.events import Events, Silent

NAMES = [name for name, _ in inspect.getmembers(Events, inspect.isfunction) if not name.startswith("_")]


def test_there_are_events() -> None:
    assert set(NAMES) == {"begin", "progress", "end", "row", "note", "said"}


@pytest.mark.parametrize("name", NAMES)
def test_silence_takes_every_event_as_it_is_told(name: str) -> None:
    told, taken = (inspect.signature(getattr(of, name)) for of in (Events, Silent))
    assert taken == told


def test_silence_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    events = Silent()
    events.begin("export", "model.onnx")
    events.progress("export", 1, 2)
    events.end("done", "")
    events.row(1, 2, "board int8", 90.0)
    events.note("a note")
    events.said("a line of theirs")
    assert capsys.readouterr() == ("", "")
