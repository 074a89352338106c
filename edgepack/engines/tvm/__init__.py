"""Around TVM's code generation: import, runtime libraries, and running models without TVM's package."""
