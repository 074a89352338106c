"""Names of what a module returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import ModelError
from edgepack.export.outputs import check_tensors, name_outputs


@dataclass
class Found:
    boxes: Any
    extra: Any = None


class Pair(NamedTuple):
    first: Any
    second: Any


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (1, {"output": 1}),
        ((1, 2), {"output_0": 1, "output_1": 2}),
        ([1], {"output_0": 1}),
        ({"a": 1, "b": 2}, {"a": 1, "b": 2}),
        (Pair(1, 2), {"first": 1, "second": 2}),
        (Found(1), {"boxes": 1}),  # None is left out
        ({"out": (1, 2), "aux": None}, {"out_0": 1, "out_1": 2}),
        ({"a": {"b": {"c": 1}}}, {"a_b_c": 1}),
        ([Found(1, 2), 3], {"output_0_boxes": 1, "output_0_extra": 2, "output_1": 3}),
        ({0: 1}, {"0": 1}),
    ],
)
def test_names_are_keys_fields_and_places(value: Any, names: dict[str, Any]) -> None:
    assert name_outputs(value) == names


def test_a_name_of_an_input_is_changed() -> None:
    assert name_outputs({"x": 1, "y": 2}, ("x",)) == {"x_out": 1, "y": 2}
    assert name_outputs(1, ("output",)) == {"output_out": 1}


@pytest.mark.parametrize("value", [{"a_0": 1, "a": [2]}, {"x": 1, "x_out": 2}])
def test_two_outputs_of_one_name_are_refused(value: Any) -> None:
    with pytest.raises(ModelError, match="two outputs named"):
        name_outputs(value, ("x",))


@pytest.mark.parametrize("value", [None, (), {}, [None, ()], {"a": None}])
def test_nothing_at_all_is_refused(value: Any) -> None:
    with pytest.raises(ModelError, match="the module returns no tensor"):
        name_outputs(value)


TREES = st.recursive(
    st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("pqr"), inner, max_size=3),
    max_leaves=8,
)


def leaves(tree: Any) -> list[int]:
    if isinstance(tree, dict):
        return [leaf for child in tree.values() for leaf in leaves(child)]
    return [leaf for child in tree for leaf in leaves(child)] if isinstance(tree, list) else [tree]


@given(TREES)
def test_every_value_is_named_once_and_in_order(tree: Any) -> None:
    if not leaves(tree):
        return
    assert list(name_outputs(tree).values()) == leaves(tree)


def test_only_tensors_are_outputs() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'edgepack[torch]'")
    check_tensors({"y": torch.zeros(1)})
    with pytest.raises(ModelError, match="the output 'n' of the module is of type int, not a tensor"):
        check_tensors({"y": torch.zeros(1), "n": 5})
