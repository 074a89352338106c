"""Who made a bundle, and whether this device takes it: keys, signatures, the root of trust, the device's policy."""
