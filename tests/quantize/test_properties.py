"""Random small graphs: every rule holds in the result, both engines run it in int8, and near the float model."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from executed import executed_precision
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from quantize_models import minmax_ranges, random_feeds, run_onnxruntime, run_openvino, sqnr_db
from random_graphs import GraphMaker, graphs

from edgepack.engines.int8 import MOVES
from edgepack.quantize import quantize
from edgepack.specs.model import OnnxModel
from edgepack.specs.target import QuantizationRules

pytestmark = pytest.mark.slow

CAREFUL = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
# saturates: so that the numbers are the same on hosts with and without VNNI.
ORT = QuantizationRules(engine="onnxruntime", saturates=True)
OPENVINO = QuantizationRules(engine="openvino", saturates=True)
TENSORRT = QuantizationRules(engine="tensorrt", activation_type="int8", activation_symmetric=True, quantize_bias=False)
ARM = QuantizationRules(engine="onnxruntime", activation_type="int8")


class Graph:
    """A quantized graph to ask questions of."""

    def __init__(self, model: OnnxModel) -> None:
        graph = onnx.load(model.path).graph
        self.nodes = list(graph.node)
        self.makers = {name: node for node in graph.node for name in node.output}
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self.users: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self.users.setdefault(name, []).append(node)

    def dequantize(self, name: str) -> Any:
        """The DequantizeLinear that makes ``name``, else None."""
        maker = self.makers.get(name)
        return maker if maker is not None and maker.op_type == "DequantizeLinear" else None

    def layers(self) -> list[Any]:
        return [n for n in self.nodes if n.op_type in ("Conv", "Gemm", "MatMul") and self.dequantize(n.input[1])]


def check_layers(graph: Graph, rules: QuantizationRules) -> None:
    for node in graph.layers():
        data, weight = graph.dequantize(node.input[0]), graph.dequantize(node.input[1])
        if weight.input[0] not in graph.constants:
            assert node.op_type == "MatMul", "only a product of two activations has no constant weights"
            continue
        values, scale = graph.constants[weight.input[0]], graph.constants[weight.input[1]]
        assert values.dtype == np.int8
        assert np.abs(values.astype(int)).max() <= 127
        axis = 0 if node.op_type == "Conv" else next((1 - a.i for a in node.attribute if a.name == "transB"), 1)
        assert scale.shape == (values.shape[axis],)
        assert next(a.i for a in weight.attribute if a.name == "axis") == axis
        assert not graph.constants[weight.input[2]].any()
        if data is not None and len(node.input) > 2 and rules.quantize_bias:
            bias = graph.dequantize(node.input[2])
            assert graph.constants[bias.input[0]].dtype == np.int32
            product = graph.constants[data.input[1]] * scale
            np.testing.assert_array_equal(graph.constants[bias.input[1]], product)
        elif len(node.input) > 2:
            assert graph.constants[node.input[2]].dtype == np.float32


def check_activations(graph: Graph, rules: QuantizationRules) -> None:
    product = any(n.op_type == "MatMul" and n.input[1] not in graph.constants for n in graph.nodes)
    for node in graph.nodes:
        if node.op_type == "QuantizeLinear":
            zero = graph.constants[node.input[2]]
            symmetric = rules.engine == "openvino" and product and zero.dtype == np.int8
            assert symmetric or zero.dtype == rules.activation_type
            if rules.activation_symmetric or symmetric:
                assert zero == 0
            assert [user.op_type for user in graph.users[node.output[0]]] == ["DequantizeLinear"]


def check_moves(graph: Graph) -> None:
    """An operator that moves values between Q/DQ has one scale on both sides."""
    for node in graph.nodes:
        before = graph.dequantize(node.input[0])
        after = [user for user in graph.users.get(node.output[0], []) if user.op_type == "QuantizeLinear"]
        if node.op_type in MOVES and before is not None and after:
            assert before.input[1] in graph.constants
            for index in (1, 2):
                assert graph.constants[before.input[index]] == graph.constants[after[0].input[index]]


def quantized(maker: GraphMaker, rules: QuantizationRules, folder: str) -> tuple[OnnxModel, OnnxModel, list[Any]]:
    model = maker.save(Path(folder) / "model.onnx")
    feeds = random_feeds(model, 4)
    note(f"operators: {[n.op_type for n in maker.nodes]}")
    return model, quantize(model, minmax_ranges(model, feeds), rules, Path(folder) / "out"), feeds


@CAREFUL
@given(graphs(), st.sampled_from([ORT, OPENVINO, TENSORRT, ARM]))
def test_every_rule_holds(maker: GraphMaker, rules: QuantizationRules) -> None:
    with tempfile.TemporaryDirectory() as folder:
        _, result, _ = quantized(maker, rules, folder)
        graph = Graph(result)
        asked = [n for n in maker.nodes if n.op_type in ("Conv", "Gemm", "MatMul") and n.input[1] in maker.constants]
        assert {node.name for node in graph.layers()} >= {node.name for node in asked}
        check_layers(graph, rules)
        check_activations(graph, rules)
        check_moves(graph)


@pytest.mark.parametrize("rules", [ORT, OPENVINO], ids=lambda rules: rules.engine)
def test_the_engine_runs_every_layer_in_int8(rules: QuantizationRules) -> None:
    @CAREFUL
    @given(graphs())
    def check(maker: GraphMaker) -> None:
        with tempfile.TemporaryDirectory() as folder:
            _, result, _ = quantized(maker, rules, folder)
            layers = [layer for layer in executed_precision(result, rules.engine) if layer.weighted]
            assert [(la.name, la.asked, la.executed) for la in layers] == [(la.name, "int8", "int8") for la in layers]

    check()


@pytest.mark.parametrize("rules", [ORT, OPENVINO], ids=lambda rules: rules.engine)
def test_the_engine_computes_nearly_what_the_float_model_does(rules: QuantizationRules) -> None:
    run = {"onnxruntime": run_onnxruntime, "openvino": run_openvino}[rules.engine]

    @CAREFUL
    @given(graphs())
    def check(maker: GraphMaker) -> None:
        with tempfile.TemporaryDirectory() as folder:
            model, result, feeds = quantized(maker, rules, folder)
            reference = run_onnxruntime(model, feeds, optimized=False)
            simulated = sqnr_db(reference, run_onnxruntime(result, feeds, optimized=False))
            executed = sqnr_db(reference, run(result, feeds))
            assert simulated > 5, "a mean of values around zero may lose that much, an error in the graph loses more"
            assert executed > min(simulated, 35) - 3

    check()
