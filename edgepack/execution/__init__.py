"""How a stage runs: cached, in a child process, watched."""
