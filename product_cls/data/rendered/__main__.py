"""``python -m product_cls.data.rendered``: render a set of products."""

import json
from dataclasses import asdict, dataclass

from product_cls.core import cli
from product_cls.core.errors import UserError
from product_cls.data.rendered import render_dataset


@dataclass
class Arguments:
    """Render synthetic products in the competition's layout: 120 pictures each at 24 rolls.

    An interrupted call resumes; a finished set is left unchanged.

    products: number of products.
    size: side of the square pictures in pixels.
    out: output folder.
    seed: selects the shop.
    difficulty: easy, standard or hard; a preset of the following five settings.
    rolls: turntable positions per camera pitch.
    twins: products that share one design.
    items: share of pictures that show two or three items.
    light: strength of lamps, glare, exposure and white balance.
    jitter: variation of distance and centring.
    processes: worker processes; 0 uses one per CPU.
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
    try:
        out = render_dataset(**{**asdict(args), "processes": args.processes or None})
    except ValueError as error:  # its sentence names the argument as it is typed
        raise UserError(str(error)) from error
    parameters = json.loads((out / "rendered.json").read_text())
    knobs = " ".join(f"{knob}={parameters[knob]:.3g}" for knob in list(parameters)[4:])
    pictures = args.products * 5 * parameters["rolls"]
    print(f"{args.products} products, {pictures} pictures: {out} ({knobs})")


if __name__ == "__main__":
    cli.guard(main)
