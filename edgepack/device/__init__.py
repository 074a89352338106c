"""The machines: this host, and the profiles of targets."""
