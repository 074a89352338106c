"""Says which tool quantized the weights of a file that only this tool can read again, by its bytes alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

from edgepack.errors import ModelError
from edgepack.export.executes import contents
from edgepack.specs.source import SourceOptions

_MOST_JSON = 16 << 20
# What stands in a file of torch.save or in the header of safetensors, by who wrote it there. In a pickle any byte may
# stand in front of a name.
_MARKS = {
    "torchao": rb"torchao\.",
    "NVIDIA's ModelOpt": rb"modelopt_state|modelopt\.torch|weight_quantizer\._amax",
    "NNCF": rb"__nncf_hooks|nncf_module\.|nncf_config|nncf\.torch",
    "torch.ao.quantization": rb"_packed_params|activation_post_process_?\d*\.|_rebuild_qtensor",
    "bitsandbytes": rb"bitsandbytes",
}
_EXPORT = (
    "export it in the program that quantized it, by torch.onnx.export, and build the ONNX file with --precision as-is; "
    "or give the float model"
)


def refuse_torch(source: str, options: SourceOptions) -> None:
    """Raise ``ModelError`` for a file that another quantizer wrote, unless its module and a Python are named."""
    if options.module and options.python:
        return
    for tool, mark in _MARKS.items():
        if any(re.search(mark, data) for data in contents(Path(source))):
            raise ModelError(f"{source} holds a model that {tool} quantized, which is not read by itself", hint=_EXPORT)


def refuse_hugging_face(source: str, options: SourceOptions) -> None:
    """Raise ``ModelError`` for a folder whose weights are quantized by its config.json, unless a Python is named."""
    config = Path(source) / "config.json"
    if options.python or not config.is_file() or config.stat().st_size > _MOST_JSON:
        return
    found = json.loads(config.read_bytes()).get("quantization_config")
    if found:
        method = found.get("quant_method", "an unknown tool") if isinstance(found, dict) else "an unknown tool"
        raise ModelError(
            f"{source} has weights that {method} quantized, which need its package",
            hint="give the folder with the float weights that it was made of: edgepack quantizes them for each engine",
        )
