"""Compares a compiled model with the fp32 model: golden vectors, closeness without labels, accuracy with labels."""
