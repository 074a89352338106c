"""OpenVINO, for Intel's processors."""
