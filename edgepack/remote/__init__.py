"""Other machines over ssh: bundles sent and installed there, commands run there, fleets."""
