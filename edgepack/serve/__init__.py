"""Answers other processes over the Open Inference Protocol (KServe v2), by HTTP and gRPC."""
