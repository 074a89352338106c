"""What the worker of Keras does to a model, on a double of Keras: the real one is in a Python of its own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from worker_files import worker_file


class Double:
    """A model of some layers that says how it was called."""

    name = "net"

    def __init__(self, *layers: Any) -> None:
        self._layers = layers

    def _flatten_layers(self) -> Any:
        return self._layers

    def __call__(self, inputs: Any, training: bool | None = None) -> tuple[Any, bool | None]:
        return inputs, training


def keras() -> Any:
    return SimpleNamespace(
        Input=lambda **named: named["name"],
        Model=lambda inputs, outputs, name: SimpleNamespace(inputs=inputs, outputs=outputs, name=name),
    )


def test_a_model_that_would_train_in_its_export_is_told_to_infer(monkeypatch: Any) -> None:
    module = worker_file("keras_file")
    monkeypatch.setattr(module, "_packed", lambda _model, values: values)
    augments = SimpleNamespace(call=lambda x, training=True: (x, training))
    rests = SimpleNamespace(call=lambda x, training=None: (x, training))
    specs = [SimpleNamespace(shape=(None, 4), dtype="float32", name="image")]
    told = module._at_rest(keras(), Double(rests, augments), specs)
    assert (told.name, told.inputs, told.outputs) == ("net", ["image"], (["image"], False))
    model = Double(rests, SimpleNamespace(call=lambda x: x))
    assert module._at_rest(keras(), model, specs) is model
