"""A peer's process: loads one model, then runs it whenever the driver says so.

Called as `python -m peers.worker`, with the task as JSON in the only argument. Each line it writes is
a JSON object: one when the model is loaded and warm, then one for each line `go` that it reads. It ends
when its standard input does.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .engines import ENGINES

#: Inferences before the worker calls itself ready.
WARM_UP = 3


@dataclass(frozen=True)
class Task:
    """What one worker is to run."""

    engine: str
    path: str
    precision: str | None
    threads: int
    repetitions: int
    #: Input, `.npy`.
    pixels: str
    #: Output of the first inference, `.npy`, written by the worker.
    logits: str

    def to_json(self) -> str:
        """The argument that `main` reads."""
        return json.dumps(asdict(self))


def main() -> None:
    """Loads, answers every `go`, and ends with standard input."""
    task = Task(**json.loads(sys.argv[1]))
    # Libraries print what they like; the driver's pipe is kept free of it.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    pixels = np.load(task.pixels)
    __import__(task.engine)
    before = peak_resident_bytes()
    run = ENGINES[task.engine](Path(task.path), task.threads, task.precision)
    np.save(task.logits, run(pixels))
    for _ in range(WARM_UP):
        run(pixels)
    ready = {"peak_bytes": peak_resident_bytes(), "peak_bytes_before_loading": before}
    print(json.dumps(ready), file=answers, flush=True)
    for line in sys.stdin:
        if line.strip() != "go":
            raise ValueError(f"expected the line go, found {line!r}")
        run(pixels)
        milliseconds = []
        for _ in range(task.repetitions):
            start = time.perf_counter()
            run(pixels)
            milliseconds.append((time.perf_counter() - start) * 1e3)
        print(json.dumps({"milliseconds": milliseconds}), file=answers, flush=True)


def peak_resident_bytes() -> int | None:
    """Peak resident memory of this process; `None` where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    lines = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(lines[0].split()[1]) * 1024 if lines else None


if __name__ == "__main__":
    main()
