"""What the machine is doing while it is measured, and whether that spoils the measurement."""
