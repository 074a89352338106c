"""What a device needs: open a bundle, load it, run it, verify it."""
