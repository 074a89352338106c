"""Measured tiles of the kernels that edgepack generates through TVM, kept from one model to the next."""
