"""Measuring: everyone loads first, then all take turns, so that a change of the machine's speed meets all.

A contender that drops out, at whatever point, is kept with the reason.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from .checkpoint import FloatArray
from .contender import Contender, Facts
from .files import Unavailable

#: Largest difference of logits from the reference, relative to the largest logit, for an engine in f32.
TOLERANCE = 1e-3


@dataclass
class Result:
    """What became of one contender."""

    name: str
    facts: Facts | None = None
    #: Largest difference of its logits from the reference, relative to the reference's largest logit.
    logit_error: float | None = None
    #: Milliseconds of every timed inference, by round.
    rounds: list[list[float]] = field(default_factory=list)
    #: Why it was not measured to the end.
    reason: str | None = None

    def by_round(self) -> list[float]:
        """The median of each round, in milliseconds."""
        return [median(times) for times in self.rounds]

    def milliseconds(self) -> float:
        """The median over rounds."""
        return median(self.by_round())

    def ratio(self, baseline: Result) -> float:
        """Median over rounds of the time divided by the baseline's in the same round."""
        pairs = zip(self.by_round(), baseline.by_round(), strict=True)
        return median(own / other for own, other in pairs)


def measure(contenders: list[Contender], reference: FloatArray, rounds: int) -> list[Result]:
    """Runs all `contenders` in turns; `reference` is what the f32 model answers, [batch, classes]."""
    results = [Result(contender.name) for contender in contenders]
    pairs = list(zip(contenders, results, strict=True))
    try:
        for contender, result in pairs:
            _say(f"starting {contender.name}")
            _start(contender, result, reference)
        for number in range(rounds):
            _say(f"round {number + 1} of {rounds}")
            # Another one begins each round: nobody always follows the same neighbour's caches and heat.
            first = number % len(pairs)
            for contender, result in pairs[first:] + pairs[:first]:
                if result.reason is None:
                    _turn(contender, result)
    finally:
        for contender in contenders:
            contender.stop()
    return results


def _start(contender: Contender, result: Result, reference: FloatArray) -> None:
    """Loads a contender, and checks that it computes the function that all compute."""
    try:
        facts = contender.start()
        difference = np.abs(facts.logits - reference).max() / np.abs(reference).max()
        result.logit_error = float(difference)
        # Written so that a NaN fails as well.
        if contender.exact and not difference <= TOLERANCE:
            raise Unavailable(f"its logits differ from the reference by {difference:.1e} of the largest")
        if not np.isfinite(difference):
            raise Unavailable("its logits are not finite")
        result.facts = facts
    except Unavailable as error:
        _drop(contender, result, error)


def _turn(contender: Contender, result: Result) -> None:
    try:
        result.rounds.append(contender.turn())
    except Unavailable as error:
        _drop(contender, result, error)


def _drop(contender: Contender, result: Result, error: Unavailable) -> None:
    result.reason = str(error)
    contender.stop()
    _say(f"{contender.name}: {error}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
