"""Loads, checks, describes and simplifies ONNX graphs; precision casts; operator and byte counts."""
