"""``python -m product_cls.data.rendered``: write a set of rendered products."""

from dataclasses import dataclass

from product_cls import cli
from product_cls.data.rendered import render_dataset


@dataclass
class Arguments:
    """Render made-up products, 120 pictures each, in the competition's layout.

    products: how many; size: side of the square pictures in pixels; out: the folder; seed: which
    shop; rolls: turntable positions for each camera pitch; processes: 0 for as many as CPUs.
    An interrupted call goes on; a finished set is left as it is.
    """

    products: int = 24
    size: int = 256
    out: str = "data/rendered"
    seed: int = 0
    rolls: int = 24
    processes: int = 0


def main() -> None:
    args = cli.parse_arguments(Arguments, prog="python -m product_cls.data.rendered")
    out = render_dataset(
        args.out,
        products=args.products,
        size=args.size,
        seed=args.seed,
        rolls=args.rolls,
        processes=args.processes or None,
    )
    print(f"{args.products} products, {args.products * 5 * args.rolls} pictures: {out}")


if __name__ == "__main__":
    cli.guard(main)
