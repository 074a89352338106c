"""Samples: where they come from, how they are preprocessed, which are used for what."""
