"""Code generation: schedules and integer arithmetic by rule for TVM on CPUs."""
