"""``python -m product_cls.data.letters``: generate a set of letter pictures."""

from dataclasses import asdict, dataclass

from product_cls.core import cli
from product_cls.core.errors import UserError
from product_cls.data.letters import make_letters


@dataclass
class Arguments:
    """Generate noisy pictures of letters in the letters contest's layout.

    Each picture shows several of the 26 letters. An interrupted call resumes; a finished set is
    left unchanged.

    pictures, test: number of training and test pictures.
    size: side in pixels.
    out: output folder.
    seed: selects the set.
    fewest, most: number of different letters per picture.
    noise: strength of noise and clutter, 0 to 2.
    fonts: number of fonts, 1 to 15.
    turn: largest rotation of a letter, in degrees.
    processes: worker processes; 0 uses one per CPU.
    """

    pictures: int = 5000
    test: int = 1000
    size: int = 256
    out: str = "data/letters"
    seed: int = 0
    fewest: int = 10
    most: int = 14
    noise: float = 1.0
    fonts: int = 15
    turn: float = 30.0
    processes: int = 0


def main() -> None:
    args = cli.parse_arguments(Arguments, prog="python -m product_cls.data.letters")
    try:
        out = make_letters(**{**asdict(args), "processes": args.processes or None})
    except ValueError as error:  # its sentence names the argument as it is typed
        raise UserError(str(error)) from error
    print(f"{args.pictures} training pictures, {args.test} test pictures: {out}")


if __name__ == "__main__":
    cli.guard(main)
