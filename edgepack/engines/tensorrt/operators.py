"""Which ONNX operators and types each TensorRT parser takes: onnx-tensorrt, docs/operators.md of 8.5 and 10.15.

Operators that were new between two of the documents are dated by the release notes where those say so; else they
count from the later one, because a refusal here costs a message and one on the device a trip to it.
"""

from __future__ import annotations

from edgepack.base.versions import parse_version

_NAMES_OF_8_5 = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil Celu Clip Concat
Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal
Erf Exp Expand EyeLike Flatten Floor Gather GatherElements GatherND Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool
Greater GreaterOrEqual GridSample GRU HardSwish HardSigmoid Identity If ImageScaler InstanceNormalization IsNaN
LeakyRelu Less LessOrEqual Log LogSoftmax Loop LRN LSTM LpNormalization LpPool MatMul Max MaxPool Mean
MeanVarianceNormalization Min Mod Mul Neg NonMaxSuppression NonZero Not OneHot Or Pad ParametricSoftplus Pow PRelu
QuantizeLinear RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2
ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize
ReverseSequence RNN RoiAlign Round ScaledTanh Scan Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign
Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile
TopK Transpose Trilu Unsqueeze Upsample Where Xor
"""
_SINCE_8_5 = frozenset(_NAMES_OF_8_5.split())

# onnx-tensorrt, docs/Changelog.md: 8.6 EA, 9.2, 10.1, 10.4, 10.5. What it does not date counts from the 10.15 document.
_LATER = {
    "GroupNormalization": "8.6",
    "IsInf": "8.6",
    "LayerNormalization": "8.6",
    "Hardmax": "10.0",
    "CastLike": "10.0",
    "Gelu": "10.0",
    "Mish": "10.0",
    "DeformConv": "10.1",
    "BlackmanWindow": "10.4",
    "HammingWindow": "10.4",
    "HannWindow": "10.4",
    "STFT": "10.5",
    "Attention": "10.15",
    "RMSNormalization": "10.15",
    "RotaryEmbedding": "10.15",
    "TensorScatter": "10.15",
}

# Element types by their numbers in onnx.proto. INT64 is made INT32 before 9.0, DOUBLE is made FLOAT always. UINT8 is
# taken as input or output only, and BFLOAT16 from 9.0 on.
_FLOAT, _UINT8, _INT8, _INT32, _INT64, _BOOL, _FLOAT16, _BFLOAT16 = 1, 2, 3, 6, 7, 9, 10, 16
_TYPES = frozenset({_FLOAT, _UINT8, _INT8, _INT32, _INT64, _BOOL, _FLOAT16})


def operator_since(operator: str) -> str | None:
    """Return the oldest TensorRT that edgepack drives whose parser takes a standard ``operator``; None if none does."""
    return "8.5" if operator in _SINCE_8_5 else _LATER.get(operator)


def takes_operator(operator: str, version: str) -> bool:
    """Say whether the parser of TensorRT ``version`` takes a standard ``operator``."""
    since = operator_since(operator)
    return since is not None and parse_version(version) >= parse_version(since)


def takes_type(data_type: int, version: str) -> bool:
    """Say whether TensorRT ``version`` has tensors of an ONNX element type, DOUBLE not counted: it is made FLOAT."""
    return data_type in _TYPES or (data_type == _BFLOAT16 and parse_version(version) >= (10,))
