"""What takes part in a comparison, whatever runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from .checkpoint import FloatArray


@dataclass(frozen=True)
class Facts:
    """What is known of a contender once it has run for the first time."""

    file_bytes: int
    #: Peak resident memory of its process after the first inferences; `None` where the system does not tell.
    peak_bytes: int | None
    #: The same before the model was loaded: interpreter and libraries.
    peak_bytes_before_loading: int | None
    #: What computes: version of the engine, or fresnel's kernel.
    runs_as: str
    #: Output for the common input, [batch, classes].
    logits: FloatArray


class Contender(ABC):
    """One row of the table."""

    #: What the row is called.
    name: str
    #: Whether it computes in f32 throughout, so that its logits must equal the reference.
    exact: bool

    @abstractmethod
    def start(self) -> Facts:
        """Makes the model's file where it is missing, loads it and runs it. Raises `Unavailable`."""

    @abstractmethod
    def turn(self) -> list[float]:
        """Runs once untimed, then the agreed number of times; returns milliseconds. Raises `Unavailable`."""

    @abstractmethod
    def stop(self) -> None:
        """Ends whatever `start` left running; does nothing where nothing runs."""
