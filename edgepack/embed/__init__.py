"""Puts preprocessing and postprocessing into a model's own graph, and checks that its answers stay the same."""
