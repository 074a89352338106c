"""What a build does around the stages: which to run for what was asked, and the few that only a build has."""
