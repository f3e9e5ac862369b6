"""Latency, file size and memory of fresnel and of other CPU runtimes, measured in turns."""
