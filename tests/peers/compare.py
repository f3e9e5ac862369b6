#!/usr/bin/env python3
"""Measures fresnel beside other CPU runtimes; see README.md in this folder.

Installs the peers into a virtual environment of their own, and runs the package `peers` in it.
"""

from __future__ import annotations

import os
import subprocess
import sys

from peers import arguments, environment


def main() -> int:
    """Installs what is missing, then hands the same arguments on; returns the exit status."""
    parsed = arguments.parse(sys.argv[1:])
    parsed.work.mkdir(parents=True, exist_ok=True)
    python = environment.ensure(parsed.work / "venv", parsed.torch)
    path = os.pathsep.join(filter(None, [str(environment.FOLDER), os.environ.get("PYTHONPATH")]))
    command = [str(python), "-m", "peers", *sys.argv[1:]]
    try:
        return subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, check=False).returncode
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
