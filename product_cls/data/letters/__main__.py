"""``python -m product_cls.data.letters``: write a set of pictures of letters."""

from dataclasses import asdict, dataclass

from product_cls.core import cli
from product_cls.data.letters import make_letters


@dataclass
class Arguments:
    """Make noisy pictures of letters, each with several of 26, in the letters contest's layout.

    pictures, test: how many to learn from and to predict; size: side in pixels; out: the folder;
    seed: which set; processes: 0 for as many as CPUs. fewest, most: different letters in a
    picture; noise: strength of noise and clutter, 0 to 2; fonts: how many, 1 to 15; turn: letters
    stand at up to this angle, in degrees. An interrupted call goes on; a finished set is left as it
    is.
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
    out = make_letters(**{**asdict(args), "processes": args.processes or None})
    print(f"{args.pictures} pictures to learn from, {args.test} to predict: {out}")


if __name__ == "__main__":
    cli.guard(main)
