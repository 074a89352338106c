"""Around TVM's code generation: import, linking, runtime libraries, and running models without TVM's package."""
