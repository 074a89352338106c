"""edgepack: from a trained model to verified, measured bundles for edge devices."""

__version__ = "0.1.0"
