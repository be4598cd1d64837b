"""Where an augmentation set spends its time, and what the fast engine gains.

    python benchmarks/augment.py sizes=[64,96,256] pictures=200

prints a table and writes benchmarks/results/augment.json. ``--help`` lists the settings.
"""

from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import yaml
from common import paired_seconds, ratio, report, waves

from product_cls.core.cli import guard, parse_arguments
from product_cls.core.errors import UserError
from product_cls.data.augment import Augment

CONF = Path(__file__).parents[1] / "conf" / "augment"


@dataclass
class Arguments:
    """Time per picture on one core, whole and by step, with albumentations (exact) and fast.

    A row of a step is that step alone with p=1; in the whole set it has its own probability. Both
    engines take turns on the same draws.
    """

    augment: str = "product"
    sizes: list[int] = field(default_factory=lambda: [64, 96, 256])
    pictures: int = 200
    repeats: int = 9
    out: str | None = None


def alone(steps: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each step of the set, also inside groups, as a set of one step that always applies."""
    found = {}
    for name, step in steps.items():
        if "one_of" in step:
            found |= alone(step["one_of"])
        else:
            found[name] = {name: {**step, "p": 1.0}}
    return found


def measure(what: str, steps: dict[str, Any], size: int, arguments: Arguments) -> dict[str, Any]:
    """One row: microseconds per picture for both engines, and the ratio."""
    pictures = waves(16, size)

    def all_of(engine: Any) -> Any:
        augment = Augment(steps, engine=engine)
        return lambda: [augment(pictures[k % 16], k) for k in range(arguments.pictures)]

    seconds = paired_seconds({e: all_of(e) for e in ("exact", "fast")}, arguments.repeats)
    micro = {f"{e} us": median(s) / arguments.pictures * 1e6 for e, s in seconds.items()}
    return {"size": size, "what": what, **micro, **ratio(seconds, "exact", "fast")}


def main() -> None:
    arguments = parse_arguments(Arguments, prog="python benchmarks/augment.py")
    file = CONF / f"{arguments.augment}.yaml"
    if not file.is_file():
        raise UserError(f"augment={arguments.augment}: there is no {file}.")
    for key in ("pictures", "repeats"):
        if getattr(arguments, key) < 2:
            raise UserError(f"{key}={getattr(arguments, key)}; allowed: 2 or more.")
    cv2.setNumThreads(0)  # as in loader workers
    steps = yaml.safe_load(file.read_text())
    rows = []
    for size in arguments.sizes:
        for what, some in {"whole": steps, **alone(steps)}.items():
            rows.append(measure(what, some, size, arguments))
    title = f"augment={arguments.augment}, a picture on one core"
    report("augment", rows, title, arguments.out, "albumentations", "opencv-python-headless")


if __name__ == "__main__":
    guard(main)
