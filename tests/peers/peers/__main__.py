"""The program in the virtual environment; `compare.py` starts it."""

from __future__ import annotations

import json
import sys

from . import arguments, report
from .files import ModelFolder, Unavailable
from .fresnel import Fresnel, Programs
from .lineup import contenders
from .rounds import measure


def main() -> int:
    """Builds the models, measures all contenders and prints the table; returns the exit status."""
    parsed = arguments.parse(sys.argv[1:])
    programs = Programs(parsed.programs)
    folder = parsed.work / "models" / parsed.model
    models = ModelFolder(folder, folder / f"batch-{parsed.batch}", parsed.batch)
    lineup = contenders(parsed, models, programs)
    if parsed.list:
        print("\n".join(contender.name for contender in lineup))
        return 0
    models.path.mkdir(parents=True, exist_ok=True)
    try:
        programs.synthesize(parsed.model, folder)
        reference = Fresnel("reference", programs, models, "32", "f32", parsed.threads, 1).start().logits
    except Unavailable as error:
        print(f"no reference to check the contenders against: {error}", file=sys.stderr)
        return 1
    results = measure(lineup, reference, parsed.rounds)
    if parsed.json is not None:
        parsed.json.write_text(json.dumps(report.as_json(parsed, results), indent=2) + "\n")
    print(report.markdown(parsed, results))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
