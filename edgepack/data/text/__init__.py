"""Sentences: a tokenizer.json read in plain Python, so that a device makes the same token ids as the build machine."""
