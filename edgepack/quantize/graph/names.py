"""New names beside those of a graph."""

from __future__ import annotations

from typing import Any

from edgepack.graph.walk import all_graphs


class Names:
    """The names of a graph's tensors and nodes, those in bodies of control flow too, and new ones beside them."""

    def __init__(self, graph: Any) -> None:
        self._taken = _all_names(graph)

    def new(self, wish: str) -> str:
        """Return ``wish``, with a number behind it where that name is taken."""
        name = wish
        number = 0
        while name in self._taken:
            number += 1
            name = f"{wish}_{number}"
        self._taken.add(name)
        return name


def _all_names(graph: Any) -> set[str]:
    """Return every name of a tensor or node, in bodies of control flow too."""
    names: set[str] = set()
    for one in all_graphs(graph):
        names.update(value.name for value in [*one.input, *one.output, *one.initializer])
        for node in one.node:
            names.update((node.name, *node.input, *node.output))
    return names
