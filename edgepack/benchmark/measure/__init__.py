"""Loops, processes and scenarios: from a bundle to raw latencies to a result."""
