"""The pipeline: from settings to bundles, results and a report."""
