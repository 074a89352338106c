"""Quantizes with edgepack: MODEL CALIBRATION OUT OPTIONS, the last in JSON."""

import json
import sys
from pathlib import Path

from edgepack.calibrate import calibrate
from edgepack.data.samples import find_samples
from edgepack.graph.load import load_model
from edgepack.quantize import quantize
from edgepack.specs.target import QuantizationRules


def main(model_path: str, calibration: str, out: str, options: str) -> None:
    """Write ``out``. Options: engine, saturates, observer, percentile, method."""
    words = json.loads(options)
    model, folder = load_model(Path(model_path)), Path(out).parent
    samples = find_samples(calibration, model.inputs, None)
    rules = QuantizationRules(saturates=words["saturates"], engine=words["engine"])
    ranges = calibrate(model, samples, words.get("observer", "auto"), words.get("percentile", 99.99), folder)
    if words.get("method", "plain") == "auto":
        from edgepack.quantize.correct import quantize_corrected

        corrected = quantize_corrected(model, ranges, rules, samples, "medium", folder)
        print(corrected.steps)
        made = corrected.model
    else:
        made = quantize(model, ranges, rules, folder)
    made.path.rename(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
