"""Samples, preprocessing, observers and ranges."""
