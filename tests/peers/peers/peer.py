"""Contenders that run in a worker process of their own: all but fresnel."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .contender import Contender, Facts
from .engines import version
from .environment import not_installed_file
from .files import ModelFolder, Unavailable, size_in_bytes
from .worker import Task


@dataclass(frozen=True)
class Run:
    """What all workers of a run share."""

    models: ModelFolder
    threads: int
    repetitions: int


class Peer(Contender):
    """An engine with one model file in one precision."""

    def __init__(
        self,
        name: str,
        run: Run,
        make: Callable[[ModelFolder], Path],
        engine: str,
        *,
        needs: tuple[str, ...] = (),
        precision: str | None = None,
        exact: bool = False,
    ) -> None:
        """`make` returns the model's file and makes it where it is missing, in a process of its own.

        `needs` names packages that `make` takes besides the engine's.
        """
        self.name = name
        self.exact = exact
        self._run = run
        self._make = make
        self._engine = engine
        self._needs = (engine, *needs)
        self._precision = precision
        self._process: subprocess.Popen[str] | None = None
        self._log = run.models.path / "logs" / f"{name}.log"

    def start(self) -> Facts:
        """Makes the file, then starts the worker and waits until it is warm."""
        for package in self._needs:
            if importlib.util.find_spec(package) is None:
                raise Unavailable(_why_missing(package))
        folder = self._log.parent
        folder.mkdir(parents=True, exist_ok=True)
        path = _in_child(self._make, self._run.models, self._log)
        pixels, logits = folder / "pixels.npy", folder / f"{self.name}.npy"
        np.save(pixels, self._run.models.input())
        task = Task(
            engine=self._engine,
            path=str(path),
            precision=self._precision,
            threads=self._run.threads,
            repetitions=self._run.repetitions,
            pixels=str(pixels),
            logits=str(logits),
        )
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "peers.worker", task.to_json()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        ready = self._answer()
        # An OpenVINO model is two files, alone in their folder.
        size = size_in_bytes(path.parent if path.suffix == ".xml" else path)
        return Facts(
            file_bytes=size,
            peak_bytes=ready["peak_bytes"],
            peak_bytes_before_loading=ready["peak_bytes_before_loading"],
            runs_as=version(self._engine),
            logits=np.load(logits),
        )

    def turn(self) -> list[float]:
        """One `go`."""
        process = self._process
        if process is None or process.stdin is None:
            raise Unavailable("the worker does not run")
        try:
            process.stdin.write("go\n")
            process.stdin.flush()
        except OSError:
            raise Unavailable(self._why_ended()) from None
        return [float(value) for value in self._answer()["milliseconds"]]

    def stop(self) -> None:
        """Ends the worker."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _answer(self) -> dict[str, Any]:
        """The worker's next line."""
        process = self._process
        line = process.stdout.readline() if process is not None and process.stdout is not None else ""
        if not line:
            raise Unavailable(self._why_ended())
        return dict(json.loads(line))

    def _why_ended(self) -> str:
        """The last line of a worker's messages, and how it ended."""
        status = self._process.wait() if self._process is not None else None
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return f"the worker ended with status {status}: {lines[-1] if lines else 'no message'}"


def _in_child(make: Callable[[ModelFolder], Path], models: ModelFolder, log: Path) -> Path:
    """`make(models)` in a process that ends with it, so that neither memory nor threads are left behind.

    What it prints goes to `log`, which starts anew.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_redirect, initargs=(log,)) as pool:
        try:
            return pool.submit(make, models).result()
        except BrokenProcessPool:
            raise Unavailable(f"the process that makes its model file crashed; see {log}") from None
        except Exception as error:
            lines = str(error).strip().splitlines() or ["no message"]
            raise Unavailable(f"no model file: {type(error).__name__}: {lines[0]}") from error


def _redirect(log: Path) -> None:
    """Sends all output to `log`, and keeps OpenVINO's tools from reporting their use over the network."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ["CI"] = "true"


def _why_missing(package: str) -> str:
    """Why `package` is not installed."""
    path = not_installed_file(Path(sys.prefix))
    failures = json.loads(path.read_text()) if path.exists() else {}
    return str(failures.get(package, f"the package {package} is not installed"))
