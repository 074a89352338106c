"""Trained models of any framework to a checked fp32 ONNX file; one module a source framework."""
