"""How operators that move values are drawn: their inputs, constants and attributes."""

from __future__ import annotations

import numpy as np
from operator_maker import Maker, operator


@operator("Concat")
def _concat(m: Maker, name: str) -> bool:
    x = m.find("fiub", (1, 5))
    if x is None:
        return False
    rank = m.values[x].ndim
    return m.add(name, [x, m.find("fiub", like=x) or x, x][: m.whole(1, 3)], axis=m.whole(-rank, rank - 1))


@operator("Split")
def _split(m: Maker, name: str) -> bool:
    x = m.find("fi", (2, 5))
    if x is None:
        return False
    axis = m.whole(1, m.values[x].ndim - 1)
    extent = m.values[x].shape[axis]
    if extent < 2:
        return False
    cut = m.whole(1, extent - 1)
    return m.add(name, [x, m.constant([cut, extent - cut], np.int64)], 2, axis=axis)


@operator("Slice")
def _slice(m: Maker, name: str) -> bool:
    x = m.find("fi", (2, 5))
    if x is None:
        return False
    axis = m.whole(1, m.values[x].ndim - 1)
    start, end, step = m.pick([(0, 2, 1), (1, 1 << 40, 1), (-2, 99, 1), (0, -1, 2), (-1, -99, -1), (99, -99, -2)])
    return m.add(name, [x, *(m.constant([v], np.int64) for v in (start, end, axis, step))])


@operator("Transpose")
def _transpose(m: Maker, name: str) -> bool:
    x = m.find("fiub", (2, 5))
    if x is None:
        return False
    rest = (1 + m.random.permutation(m.values[x].ndim - 1)).tolist()
    return m.add(name, [x], perm=[0, *rest] if m.chance(0.8) else m.random.permutation(m.values[x].ndim).tolist())


@operator("Reshape")
def _reshape(m: Maker, name: str) -> bool:
    x = m.find("fiub", (2, 5))
    if x is None:
        return False
    shape = m.values[x].shape
    target = m.pick([[0, -1], [0, 0, -1], [-1, shape[-1]], [0, -1, 1, shape[-1]], [0, shape[1], 1, -1]])
    return m.add(name, [x, m.constant(target, np.int64)])


@operator("Squeeze", "Unsqueeze")
def _squeeze(m: Maker, name: str) -> bool:
    x = m.find("fiub", (1, 4))
    if x is None:
        return False
    ones = [axis for axis, extent in enumerate(m.values[x].shape) if extent == 1 and axis]
    axes = [m.pick([1, -1])] if name == "Unsqueeze" else ones[:1]
    return bool(axes) and m.add(name, [x, m.constant(axes, np.int64)])


@operator("Expand", "Tile")
def _repeat(m: Maker, name: str) -> bool:
    x = m.find("fiub", (2, 4))
    if x is None:
        return False
    shape = m.values[x].shape
    times = [1, *(m.whole(1, 2) for _ in shape[1:])]
    wanted = times if name == "Tile" else [1, *(3 if extent == 1 else extent for extent in shape[1:])]
    return m.add(name, [x, m.constant(wanted, np.int64)])


@operator("Pad")
def _pad(m: Maker, name: str) -> bool:
    x = m.find("f", (2, 5))
    if x is None:
        return False
    rank = m.values[x].ndim
    pads = [[0, *(m.whole(-1 if m.chance(0.1) else 0, 2) for _ in range(rank - 1))] for _ in "be"]
    mode = m.pick(["constant", "reflect", "edge"])
    fill = [m.constant(m.pick([0.0, -1.5]))] if mode == "constant" and m.chance(0.6) else []
    return m.add(name, [x, m.constant(np.ravel(pads), np.int64), *fill], mode=mode)


@operator("Gather", "GatherElements", "ScatterElements")
def _gather(m: Maker, name: str) -> bool:
    x = m.find("fi", (2, 4))
    if x is None:
        return False
    value = m.values[x]
    axis = m.whole(1, value.ndim - 1)
    extent = value.shape[axis]
    if name == "Gather":
        indices = m.random.integers(-extent, extent, m.pick([(), (1,), (3,), (2, 2)]))
        return m.add(name, [x, m.constant(indices, np.int64)], axis=axis)
    indices = m.random.permuted(
        np.broadcast_to(np.arange(extent), (*value.shape[:axis], *value.shape[axis + 1 :], extent)), axis=-1
    )
    places = m.constant(np.moveaxis(indices, -1, axis), m.pick([np.int64, np.int32]))
    if name == "GatherElements":
        return m.add(name, [x, places], axis=axis)
    updates = m.constant(m.random.integers(-3, 4, value.shape), value.dtype)
    more = {"reduction": m.pick(["none", "add", "mul"])} if m.opset >= 16 else {}
    return m.add(name, [x, places, updates], axis=axis, **more)


@operator("GatherND", "ScatterND")
def _nd(m: Maker, name: str) -> bool:
    x = m.find("f", (2, 4))
    if x is None:
        return False
    shape = m.values[x].shape
    if name == "GatherND":
        return m.add(name, [x, m.constant(m.random.integers(0, shape[1], (shape[0], 1)), np.int64)], batch_dims=1)
    places = m.constant(np.stack([m.random.integers(0, e, 2) for e in shape], -1), np.int64)
    return m.add(name, [x, places, m.constant([1.5, -2.0])])


@operator("OneHot")
def _one_hot(m: Maker, name: str) -> bool:
    x = m.find("i", (1, 3))
    return x is not None and m.add(name, [x, m.constant(5, np.int64), m.constant([m.pick([0.0, -1.0]), 2.0])], axis=-1)


@operator("Shape", "Size", "NonZero", "EyeLike", "Trilu")
def _of_shape(m: Maker, name: str) -> bool:
    x = m.find("f", 2 if name == "EyeLike" else (2, 4))
    if x is None:
        return False
    more = {"k": m.whole(-1, 1)} if name == "EyeLike" else {"upper": m.whole(0, 1)} if name == "Trilu" else {}
    return m.add(name, [x], **more)


@operator("DepthToSpace", "SpaceToDepth")
def _blocks(m: Maker, name: str) -> bool:
    x = m.find("f", 4)
    more = {"mode": m.pick(["DCR", "CRD"])} if name == "DepthToSpace" else {}
    return x is not None and m.add(name, [x], blocksize=2, **more)
