"""The albumentations pipeline, from named steps.

Everything that depends on albumentations (frozen at 2.0.8) is in this file.
"""

import random
import warnings
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

import albumentations as A
import numpy as np

from product_cls.errors import UserError

Steps = Mapping[str, Mapping[str, Any]]


def step_names(steps: Steps) -> list[str]:
    """The names that ``exclude`` knows: steps, groups (``one_of``) and the steps inside them."""
    names = []
    for name, step in steps.items():
        names += [name, *step_names(step.get("one_of", {}))]
    return names


class Augment:
    """Named steps, applied in their order to one picture.

    The draw depends on the ``seed`` of each call alone, never on which worker makes it or on what
    was drawn before. So workers and epochs differ, a seed repeats, and an interrupted run goes on
    with the pictures it would have seen. (albumentations 2.0.8 left alone draws the same in every
    worker; its ``set_random_seed`` gives every step the same stream, so that steps are correlated.)

    Args:
        steps: name -> ``{"transform": class of albumentations, **its arguments}``, or
            name -> ``{"one_of": steps, "p": 0.5}``, of which one is drawn. A step that is null
            is left out.
        exclude: names of steps to leave out.

    Raises:
        UserError: an unknown name in ``exclude``, an unknown transform, an argument that the
            transform does not know or refuses.
    """

    def __init__(self, steps: Steps, exclude: Collection[str] = ()) -> None:
        steps = {name: step for name, step in steps.items() if step is not None}
        known = step_names(steps)
        for name in exclude:
            if name not in known:
                raise UserError(unknown_step(name, known))
        self.names = [name for name in known if name not in exclude]
        self.pipeline = A.Compose(_build_all(steps, exclude))

    def __call__(self, image: np.ndarray, seed: int) -> np.ndarray:
        """Augment a picture.

        Args:
            image: uint8 ``[H, W, 3]``, RGB; left as it is.
            seed: of this draw, 0 or more.

        Returns:
            uint8 ``[H, W, 3]``.
        """
        self.pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
        return self.pipeline(image=image)["image"]


def unknown_step(name: str, known: Collection[str]) -> str:
    """The sentence for a name in ``exclude`` that no step of augmentation or mixing has."""
    close = get_close_matches(name, known, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return (
        f"exclude names '{name}', which is not in use; "
        f"known here: {', '.join(known) or 'nothing'}.{hint}"
    )


def _build_all(steps: Steps, exclude: Collection[str]) -> list[Any]:
    built = []
    for name, step in steps.items():
        if name in exclude:
            continue
        if "one_of" not in step:
            built.append(_build(name, step))
        elif inner := _build_all(step["one_of"], exclude):
            built.append(A.OneOf(inner, p=step.get("p", 0.5)))
    return built


def _build(name: str, step: Mapping[str, Any]) -> A.BasicTransform:
    arguments = {key: _plain(value) for key, value in step.items() if key != "transform"}
    kind = getattr(A, str(step.get("transform")), None)
    if not (isinstance(kind, type) and issubclass(kind, A.BasicTransform)):
        close = get_close_matches(str(step.get("transform")), dir(A), n=1)
        hint = f"; did you mean '{close[0]}'?" if close else "."
        raise UserError(
            f"augment.{name}.transform '{step.get('transform')}' is no albumentations class{hint}"
        )
    try:
        with warnings.catch_warnings():
            # albumentations warns about arguments it does not know or changes, and goes on with
            # others than those asked for; an experiment must not.
            warnings.simplefilter("error", UserWarning)
            warnings.filterwarnings("ignore", message="ShiftScaleRotate is a special case")
            return kind(**arguments)
    except (UserWarning, ValueError, TypeError) as error:
        why = " ".join(str(error).split())
        raise UserError(f"augment.{name} ({kind.__name__}) refuses its arguments: {why}") from None


def _plain(value: Any) -> Any:
    """Ranges come from YAML as lists; albumentations wants tuples."""
    return tuple(_plain(item) for item in value) if isinstance(value, list) else value
