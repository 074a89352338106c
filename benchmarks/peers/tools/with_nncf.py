"""Quantizes with NNCF, an ONNX or an OpenVINO graph: MODEL CALIBRATION OUT OPTIONS, the last in JSON."""

import json
import sys

import nncf
import numpy as np
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix


def main(model_path: str, calibration: str, out: str, options: str) -> None:
    """Write ``out``, .onnx or .xml. Options: overflow_fix, transformer, fast_bias_correction."""
    words = json.loads(options)
    if out.endswith(".onnx"):
        import onnx

        model = onnx.load(model_path)
    else:
        import openvino

        model = openvino.Core().read_model(model_path)
    with np.load(calibration) as data:
        feeds = [{name: data[name][i : i + 1] for name in data} for i in range(len(data[data.files[0]]))]
    made = nncf.quantize(
        model,
        nncf.Dataset(feeds),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(feeds),
        fast_bias_correction=words.get("fast_bias_correction", True),
        model_type=nncf.ModelType.TRANSFORMER if words.get("transformer") else None,
        advanced_parameters=AdvancedQuantizationParameters(overflow_fix=OverflowFix[words["overflow_fix"]]),
    )
    if out.endswith(".onnx"):
        onnx.save(made, out)
    else:
        openvino.save_model(made, out, compress_to_fp16=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
