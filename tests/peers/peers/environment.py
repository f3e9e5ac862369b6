"""A virtual environment with the peers in it.

Runs under whatever Python starts `compare.py`, so it uses the standard library only. A package that cannot
be installed does not stop the others: the reason is kept in `not_installed.json` and ends up beside the
contenders that needed it.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import venv
from pathlib import Path

#: Where the requirement files lie.
FOLDER = Path(__file__).resolve().parents[1]


def not_installed_file(environment: Path) -> Path:
    """The file with the packages that could not be installed, a JSON object from package to reason."""
    return environment / "not_installed.json"


def ensure(environment: Path, torch: bool) -> Path:
    """Makes `environment` hold the pinned packages; returns its Python."""
    python = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        print(f"creating {environment}", file=sys.stderr)
        venv.create(environment, with_pip=True)
    _install(python, environment, FOLDER / "requirements.txt")
    if torch:
        _install(python, environment, FOLDER / "requirements-torch.txt")
    return python


def _install(python: Path, environment: Path, requirements: Path) -> None:
    """Installs `requirements`, unless they were installed before."""
    stamp = environment / f"{requirements.stem}.sha256"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == digest:
        return
    print(f"installing {requirements.name}", file=sys.stderr)
    failures = _failures(environment)
    lines = [line.split("#")[0].strip() for line in requirements.read_text().splitlines()]
    names = {line: line.split("==")[0] for line in lines if line}
    failures = {name: reason for name, reason in failures.items() if name not in names.values()}
    if _pip(python, ["-r", str(requirements)]) is not None:
        for line, name in names.items():
            reason = _pip(python, [line])
            if reason is not None:
                failures[name] = f"pip could not install {line}: {reason}"
    not_installed_file(environment).write_text(json.dumps(failures, indent=2))
    if not failures:
        stamp.write_text(digest)


def _failures(environment: Path) -> dict[str, str]:
    path = not_installed_file(environment)
    return dict(json.loads(path.read_text())) if path.exists() else {}


def _pip(python: Path, arguments: list[str]) -> str | None:
    """Runs `pip install`; returns its last line of complaint, or `None` where it succeeded."""
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments]
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    sys.stderr.write(result.stderr)
    if result.returncode == 0:
        return None
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit status {result.returncode}"
