"""Contact sheets of a rendered data set, for visual inspection.

python -m product_cls.report.gallery
"""

from dataclasses import dataclass, fields

from product_cls.core import cli


@dataclass
class Arguments:
    """Write contact sheets of rendered products; render the products first if they are missing.

    products, size, seed, difficulty: as for python -m product_cls.data.rendered.
    root: folder of the data set; null: data/rendered-..., named by these values.
    out: folder of the sheets.
    """

    products: int = 48
    size: int = 256
    seed: int = 0
    difficulty: str = "standard"
    root: str | None = None
    out: str = "data/gallery"


def main() -> None:
    arguments = cli.parse_arguments(Arguments, prog="python -m product_cls.report.gallery")
    # Imported here, so that --help and errors appear at once.
    from product_cls.config.border import keys_for_arguments
    from product_cls.config.resolvers import rendered_name
    from product_cls.data.rendered import render_dataset
    from product_cls.data.rendered.difficulty import Knobs
    from product_cls.report.rendered_sheets import write_sheets

    root = arguments.root or "data/" + rendered_name(
        arguments.products,
        arguments.size,
        arguments.difficulty,
        arguments.seed,
        *[None] * len(fields(Knobs)),
    )
    with keys_for_arguments():
        render_dataset(
            root,
            products=arguments.products,
            size=arguments.size,
            seed=arguments.seed,
            difficulty=arguments.difficulty,
        )
    print("\n".join(write_sheets(root, arguments.out)))


if __name__ == "__main__":
    cli.guard(main)
