"""fresnel beside PyTorch and burn on one GPU; `compare_gpu.py` runs it."""
