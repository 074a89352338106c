"""Percentiles, intervals and verdicts; pure functions."""
