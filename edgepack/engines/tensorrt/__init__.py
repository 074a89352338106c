"""The TensorRT target: what is checked and shipped by the builder, and how a device builds, keeps and runs its plan."""
