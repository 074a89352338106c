"""Bundles in OCI registries and OCI layout folders; standard library and numpy only, as devices pull."""
