"""The files of the report on held-out pictures: tables and a page."""

from pathlib import Path

import pandas as pd

from product_cls.core.files import write_text_whole
from product_cls.core.tables import formula_note, write_csv
from product_cls.display.tables import markdown
from product_cls.report.confused_products import Captioned, confused_products, thumbnail
from product_cls.report.confusions import picture_files
from product_cls.report.held_out import (
    SHOWN,
    HeldOut,
    HeldOutStudy,
    pictures_table,
    products_table,
    settings_table,
    views_table,
)
from product_cls.report.page import render

TITLE = "validation, no labelled test"
METHOD = (
    "There is no test with labels, so these are validation results: each picture is decided by the "
    "runs that did not learn from it (out of fold). They are a little too good where validation "
    "selects an epoch, and far too good where new pictures are taken under other conditions; "
    "folds.strategy=view holds out whole conditions. 'single run': mean over the runs, each on its "
    "own held-out pictures; sd: standard deviation between them."
)


def write_held_out_report(
    study: HeldOutStudy, row: HeldOut, out: Path, *, csv: str = "plain"
) -> tuple[list[Path], list[str]]:
    """Write ``table.md``, ``table.csv``, ``products.csv``, ``pictures.csv`` and ``report.html``.

    Args:
        study: all settings.
        row: the setting whose products and pictures are shown.
        out: the folder.
        csv: how tables are written, ``plain`` or ``excel``.

    Returns:
        The files, and sentences about parts of the page that could not be shown and about names
        that a spreadsheet would run as formulas.
    """
    settings, products, pictures = settings_table(study), products_table(row), pictures_table(row)
    confusions = confused_products(row.name, row.runs[:1], row.pairs())  # one vote a picture
    doubtful, no_pictures = doubtful_pictures(row, pictures.head(SHOWN))
    views = views_table(row)
    name = study.root.name or study.root.resolve().name
    parts = [
        f"{name}: {TITLE}. {study.headline()}.",
        markdown(settings),
        f"{METHOD} {row.interval()}",
        "\n".join(f"- {note}" for note in study.notes),
        *([] if views is None else ["By view:", markdown(views)]),
        f"Products of '{row.name}', the worst first:",
        markdown(products.head(SHOWN)),
        f"Doubtful pictures of '{row.name}', the most doubtful first:",
        markdown(pictures.head(SHOWN)),
    ]
    page = render(
        "held_out.html.j2",
        {
            "name": name,
            "title": TITLE,
            "headline": study.headline(),
            "row": row.name,
            "settings": settings,
            "method": f"{METHOD} {row.interval()}",
            "notes": study.notes,
            "products": products,
            "views": views,
            "pictures": pictures.head(SHOWN),
            "doubtful": doubtful,
            "confusions": confusions,
        },
    )
    write_text_whole(out / "table.md", "\n\n".join(part for part in parts if part) + "\n")
    tables: dict[str, pd.DataFrame] = {
        "table.csv": settings.round(6),
        "products.csv": products.round(6),
        "pictures.csv": pictures,
    }
    for file, table in tables.items():
        write_csv(out / file, table, style=csv)
    write_text_whole(out / "report.html", page)
    names = ["table.md", *tables, "report.html"]
    problem = confusions.problem or no_pictures
    sentences = [problem, formula_note(tables.values(), csv)]
    return [out / file for file in names], [sentence for sentence in sentences if sentence]


def doubtful_pictures(row: HeldOut, pictures: pd.DataFrame) -> tuple[list[Captioned], str]:
    """Pictures of a table's rows with captions, and why there are none; "" if there are.

    Args:
        row: the setting whose runs name the data.
        pictures: rows of ``pictures_table``.
    """
    files, problem = picture_files(row.runs[0], pictures["id"].tolist())
    captions = [
        f"{label}? The runs say {said} ({100 * share:.1f} % for {label}). {name}"
        for name, label, said, share in pictures[
            ["id", "label", "prediction", "probability of the label"]
        ].itertuples(index=False)
    ]
    shown = zip(files, captions, strict=False)  # no files where the data has moved
    return [Captioned(thumbnail(file), caption) for file, caption in shown], problem
