"""Quantizes with ONNX Runtime's quantize_static: MODEL CALIBRATION OUT OPTIONS, the last in JSON."""

import json
import sys

import numpy as np
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)


class Reader(CalibrationDataReader):
    """One sample at a time."""

    def __init__(self, path: str) -> None:
        with np.load(path) as data:
            self._feeds = iter([{name: data[name][i : i + 1] for name in data} for i in range(_count(data))])

    def get_next(self) -> dict:
        """Return the next feed, or None after the last."""
        return next(self._feeds, None)


def _count(data: dict) -> int:
    return len(data[next(iter(data))])


def main(model: str, calibration: str, out: str, options: str) -> None:
    """Write ``out``. Options: method, reduce_range, and transformer: its matrix products alone are quantized."""
    words = json.loads(options)
    quantize_static(
        model,
        out,
        Reader(calibration),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["MatMul", "Gemm"] if words.get("transformer") else None,
        per_channel=True,
        reduce_range=words["reduce_range"],
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod[words["method"]],
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
