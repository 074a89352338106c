"""ONNX Runtime: the reference, and a target of its own."""
