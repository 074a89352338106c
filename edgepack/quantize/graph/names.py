"""New names beside those of a graph."""

from __future__ import annotations

from typing import Any


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
    names = {value.name for value in [*graph.input, *graph.output, *graph.initializer]}
    for node in graph.node:
        names.update((node.name, *node.input, *node.output))
        for item in node.attribute:
            for body in ([item.g] if item.HasField("g") else []) + list(item.graphs):
                names |= _all_names(body)
    return names
