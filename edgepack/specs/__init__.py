"""The frozen values that flow between stages, one module a subject."""
