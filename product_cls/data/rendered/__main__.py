"""``python -m product_cls.data.rendered``: render a set of products."""

import json
from dataclasses import asdict, dataclass

from product_cls.core import cli
from product_cls.core.errors import UserError
from product_cls.data.rendered import render_dataset
from product_cls.data.rendered.difficulty import LIMITS
from product_cls.data.rendered.views import TEST_PITCHES, TRAIN_PITCHES


@dataclass
class Arguments:
    """Render synthetic products in the competition's layout: by default 120 pictures each.

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
    pitches: of the camera in training pictures, in degrees, 0 to 75; null: [0,30].
    test_pitches: of the camera in test pictures; null: [0,30,60].
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
    pitches: list[float] | None = None
    test_pitches: list[float] | None = None
    processes: int = 0


def main() -> None:
    args = cli.parse_arguments(Arguments, prog="python -m product_cls.data.rendered")
    try:
        out = render_dataset(**{**asdict(args), "processes": args.processes or None})
    except ValueError as error:  # its sentence names the argument as it is typed
        raise UserError(str(error)) from error
    parameters = json.loads((out / "rendered.json").read_text())
    knobs = " ".join(f"{knob}={parameters[knob]:.3g}" for knob in LIMITS)
    pitches = (args.pitches or TRAIN_PITCHES), (args.test_pitches or TEST_PITCHES)
    pictures = args.products * sum(map(len, pitches)) * parameters["rolls"]
    print(f"{args.products} products, {pictures} pictures: {out} ({knobs})")


if __name__ == "__main__":
    cli.guard(main)
