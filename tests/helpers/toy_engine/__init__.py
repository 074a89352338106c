"""TEST DOUBLE: an engine of another package. It evaluates ONNX by onnx.reference, in numpy, and is slow."""
