"""ONNX graphs rewritten into what TVM reads."""
