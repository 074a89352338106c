"""Bytes, documents, references to user functions, intervals and versions; the standard library alone."""
