"""TVM is imported without PyTorch, which stays as it was."""

from __future__ import annotations

import subprocess
import sys

import pytest
from installed_engines import skip_without

AFTER = """
import sys
{before}
from edgepack.engines.tvm.installed import import_tvm
import_tvm("tvm.relax.frontend.onnx")
print("torch" in sys.modules)
import torch
print(int(torch.ones(2).sum()), int(import_tvm().runtime.tensor([3]).numpy()[0]))
"""


@pytest.mark.parametrize(("before", "loaded"), [("", "False"), ("import torch", "True")])
def test_torch_is_loaded_only_by_who_wants_it(before: str, loaded: str) -> None:
    skip_without("tvm")
    words = [sys.executable, "-c", AFTER.format(before=before)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [loaded, "2", "3"]
