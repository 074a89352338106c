"""The profile of a board, and the ids of those that are shipped."""

from __future__ import annotations

from edgepack.base import resources

SHIPPED = sorted(path.stem for path in resources.targets_folder().glob("*.toml"))


GOOD = """
id = "my-board"
title = "My board"
backend = "onnxruntime"
arch = "x86_64"

[engine]
max_opset = 21

[compute]
isa = ["avx2", "avx_vnni"]
cores = 4
precisions = ["fp32", "int8"]
cpu_model = 'My CPU \\d+'

[limits]
memory_bytes = 8_000_000_000

[sources]
"compute.isa" = "its manual"
"""
