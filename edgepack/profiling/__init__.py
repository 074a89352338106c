"""What each layer of a bundle asks for, what this host's engine makes of it, and why int8 gains nothing there."""
