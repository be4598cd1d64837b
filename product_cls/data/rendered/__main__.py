"""``python -m product_cls.data.rendered``: write a set of rendered products."""

import json
from dataclasses import asdict, dataclass

from product_cls.core import cli
from product_cls.data.rendered import render_dataset


@dataclass
class Arguments:
    """Render made-up products, 120 pictures each at 24 rolls, in the competition's layout.

    products: how many; size: side of the square pictures in pixels; out: the folder; seed: which
    shop; processes: 0 for as many as CPUs. difficulty: easy, standard or hard, presets of: rolls
    (turntable positions a camera pitch), twins (products that share a design), items (share of the
    pictures with two or three items), light (strength of lamps, glare, exposure and white balance),
    jitter (of distance and centring). An interrupted call goes on; a finished set is left as it is.
    """

    products: int = 24
    size: int = 256
    out: str = "data/rendered"
    seed: int = 0
    difficulty: str = "standard"
    rolls: int | None = None
    twins: int | None = None
    items: float | None = None
    light: float | None = None
    jitter: float | None = None
    processes: int = 0


def main() -> None:
    args = cli.parse_arguments(Arguments, prog="python -m product_cls.data.rendered")
    out = render_dataset(**{**asdict(args), "processes": args.processes or None})
    made = json.loads((out / "rendered.json").read_text())
    knobs = " ".join(f"{knob}={made[knob]:.3g}" for knob in list(made)[4:])
    print(
        f"{args.products} products, {args.products * 5 * made['rolls']} pictures: {out} ({knobs})"
    )


if __name__ == "__main__":
    cli.guard(main)
