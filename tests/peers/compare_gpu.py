#!/usr/bin/env python3
"""Measures fresnel on a GPU beside PyTorch and burn; see README.md in this folder.

Runs in the Python that starts it, so that a PyTorch which is there is used. It needs NumPy and safetensors;
rows whose package is missing are listed with the reason.
"""

from __future__ import annotations

import sys

from gpu_peers.main import main

if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
