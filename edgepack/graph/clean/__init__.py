"""Brings every exporter's dialect into one: small passes that change how a graph is written, never what it computes.

Each pass takes a ``View``, does one rewrite and says whether it did; it is repeated until it finds nothing more. How
often each did is told. What they make is compared with the original by ``prepare``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgepack.graph import passes
from edgepack.graph.clean.affine import fold_affine
from edgepack.graph.clean.attention import join_scales, project_apart
from edgepack.graph.clean.attributes import spell_attributes
from edgepack.graph.clean.classical import arithmetic_from_classical
from edgepack.graph.clean.einsums import product_from_einsum
from edgepack.graph.clean.layers import bias_before_reshape, drop_reshape, multiply_unflattened, transpose_unflattened
from edgepack.graph.clean.means import mean_from_pool, mean_from_sum
from edgepack.graph.clean.norms import spell_layer_norm, spell_rms_norm
from edgepack.graph.clean.pads import fold_pad, pool_from_mean
from edgepack.graph.clean.scales import fold_scale, scale_first_factor
from edgepack.graph.clean.spellings import spell_activation
from edgepack.graph.clean.transposes import drop_identity, merge_transposes, push_transpose
from edgepack.graph.clean.view import View

if TYPE_CHECKING:
    import onnx

_MOST = 20_000  # rewrites of one pass: no graph needs as many, and a pass that undoes itself would not end

# In this order, over and over: what one pass moves, another takes away.
# Those come first that need sizes, which are forgotten where transposes move.
PASSES: dict[str, Callable[[View], bool]] = {
    "classical operators as arithmetic": arithmetic_from_classical,
    "sums as means": mean_from_sum,
    "pools of layer norms as means": mean_from_pool,
    "Einsums as products": product_from_einsum,
    "attributes in one spelling": spell_attributes,
    "layers of rows multiplied as they come": multiply_unflattened,
    "biases moved to their products": bias_before_reshape,
    "reshapes dropped": drop_reshape,
    "transposes of all axes": transpose_unflattened,
    "identities dropped": drop_identity,
    "transposes merged": merge_transposes,
    "scales and offsets folded into convolutions": fold_affine,
    "transposes moved": push_transpose,
    "paddings folded": fold_pad,
    "means as pools": pool_from_mean,
    "activations in one spelling": spell_activation,
    "layer norms in one spelling": spell_layer_norm,
    "RMS norms in one spelling": spell_rms_norm,
    "attentions scaled in one place": join_scales,
    "scores scaled in front": scale_first_factor,
    "scales folded into layers": fold_scale,
    "projections taken out of attentions": project_apart,
}


# Once more, when simplifying has made shapes known that the graph computed.
SETTLING = {
    name: PASSES[name]
    for name in (
        "layers of rows multiplied as they come", "biases moved to their products", "reshapes dropped",
        "transposes of all axes", "transposes merged", "attentions scaled in one place", "scores scaled in front",
        "scales folded into layers",
    )
}  # fmt: skip


def clean(proto: onnx.ModelProto, chosen: dict[str, Callable[[View], bool]] = PASSES) -> dict[str, int]:
    """Apply passes to ``proto`` in place, until none finds anything; return how often each did something.

    A graph whose transposes only multiplied keeps them where they were.
    """
    import onnx

    before = onnx.ModelProto()
    before.CopyFrom(proto)
    counts = _apply(proto, chosen)
    if _transposes(proto) > _transposes(before):
        proto.CopyFrom(before)
        counts = _apply(proto, {name: one for name, one in chosen.items() if one is not push_transpose})
    passes.drop_unused_initializers(proto)
    return counts


def in_words(counts: dict[str, int]) -> str:
    """Return how often each pass did something; empty where none did."""
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count)


def _apply(proto: onnx.ModelProto, chosen: dict[str, Callable[[View], bool]]) -> dict[str, int]:
    counts = dict.fromkeys(chosen, 0)
    passes.infer_shapes(proto)
    changed = True
    while changed and sum(counts.values()) < _MOST:
        changed = False
        for name, one in chosen.items():
            while counts[name] < _MOST and one(View(proto)):
                counts[name] += 1
                changed = True
    return counts


def _transposes(proto: onnx.ModelProto) -> int:
    return sum(node.op_type == "Transpose" for node in proto.graph.node)
