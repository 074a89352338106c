"""Quantizes with NVIDIA's modelopt on the CPU: MODEL CALIBRATION OUT OPTIONS, the last in JSON."""

import json
import sys

import numpy as np
from modelopt.onnx.quantization import quantize


def main(model: str, calibration: str, out: str, options: str) -> None:
    """Write ``out``. Options: method, entropy or max."""
    words = json.loads(options)
    with np.load(calibration) as data:
        feeds = {name: data[name] for name in data}
    quantize(
        model,
        quantize_mode="int8",
        calibration_data=feeds,
        calibration_method=words["method"],
        calibration_eps=["cpu"],
        output_path=out,
        high_precision_dtype="fp32",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
