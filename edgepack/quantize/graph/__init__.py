"""The graph that is quantized: index, normal form, rewrites, replay."""
