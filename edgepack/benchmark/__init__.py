"""Scenarios, statistics, memory and validity of measurements."""
