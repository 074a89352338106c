"""Keyless signatures: Sigstore's certificates and logs, checked offline by a trusted root that the device has."""
