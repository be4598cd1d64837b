"""Classes that a run cannot learn, because none of its training pictures shows them."""

import pandas as pd

from product_cls.core.errors import UserError
from product_cls.data.faults import listed
from product_cls.tasks import Task

NOWHERE = "no picture"


def check_classes_left(task: Task, samples: pd.DataFrame, readable: pd.DataFrame) -> None:
    """Refuse a class whose every training picture was left out as unreadable.

    The classes of a sweep are those of the whole table, so a class cannot be dropped from one run.

    Args:
        task: fitted to ``samples``.
        samples: the sample table.
        readable: its rows whose pictures can be decoded.

    Raises:
        UserError: naming the classes.
    """
    before, after = (task.classes_shown(t[t["split"] != "test"]) for t in (samples, readable))
    if lost := sorted(before - after):
        classes = "the class" if len(lost) == 1 else f"{len(lost)} classes"
        raise UserError(
            f"data.on_unreadable=drop leaves no picture of {classes} {listed(lost, 20)}; repair "
            f"the pictures, or take the class out of the data."
        )


def unlearned_classes(
    task: Task, learned: pd.DataFrame, held_out: pd.DataFrame, test: pd.DataFrame
) -> str | None:
    """A warning that names the classes that only validation or the test shows.

    Args:
        task: fitted.
        learned, held_out, test: rows of the sample table by what the run does with them.

    Returns:
        One sentence; None if training shows every class.
    """
    known = task.classes_shown(learned)
    # A gallery holds the validation pictures, too, when the test is predicted.
    known_in_test = known | task.classes_shown(held_out) if task.needs_gallery else known
    places: dict[str, list[str]] = {}
    for place, rows, learnable in (
        ("validation", held_out, known),
        ("test", test, known_in_test),
    ):
        for name in sorted(task.classes_shown(rows) - learnable):
            places.setdefault(name, []).append(place)
    for name in sorted(set(task.classes) - known - set(places)):
        places[name] = [NOWHERE]
    if not places:
        return None
    named = [f"{name} ({' and '.join(where)})" for name, where in places.items()]
    classes = "a class" if len(named) == 1 else f"{len(named)} classes"
    return (
        f"No training picture shows {classes} of other parts, whose pictures will count as wrong: "
        f"{listed(named, 20)}."
    )
