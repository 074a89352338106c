"""The demonstration: real networks and real data that come inside installed packages."""
