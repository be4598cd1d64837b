"""The albumentations pipeline, from named steps.

What depends on albumentations (frozen at 2.0.8) is in this file, ``fast_augment.py`` and
``policies.py``.
"""

import random
import warnings
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any, Literal, get_args

import albumentations as A
import numpy as np
from pydantic import ValidationError

from product_cls.core.errors import UserError, reason
from product_cls.data.fast_augment import FastPipeline
from product_cls.data.policies import STEPS as POLICIES

Steps = Mapping[str, Mapping[str, Any] | None]
Engine = Literal["exact", "fast"]


def step_names(steps: Steps, exclude: Collection[str] = (), *, where: str = "augment") -> list[str]:
    """The names that ``exclude`` knows: steps, groups (``one_of``) and the steps inside them, and
    the ``operations`` that a step draws from.

    Raises:
        UserError: something is no step; ``where`` says in the message where it stands.
    """
    names = []
    for name, step in _present(steps, where).items():
        if name not in exclude:
            inner = step_names(step.get("one_of", {}), exclude, where=f"{where}.{name}.one_of")
            names += [name, *inner, *_operations(f"{where}.{name}", step, exclude)]
    return names


def _operations(name: str, step: Mapping[str, Any], exclude: Collection[str]) -> list[str]:
    """What RandAugment draws from, without what is left out."""
    operations = step.get("operations", [])
    if not isinstance(operations, list) or not all(isinstance(one, str) for one in operations):
        raise UserError(f"{name}.operations={operations} is no list of names.")
    return [one for one in operations if one not in exclude]


def _present(steps: Steps, where: str) -> dict[str, Mapping[str, Any]]:
    """The steps that are not null."""
    if not isinstance(steps, Mapping):
        raise UserError(f"{where} is no mapping from names to steps.")
    for name, step in steps.items():
        if step is not None and not isinstance(step, Mapping):
            raise UserError(
                f"{where}.{name}={step} is no step; a step is {{transform: CLASS, ...}} "
                f"or {{one_of: STEPS, p: 0.5}}."
            )
    return {name: step for name, step in steps.items() if step is not None}


class Augment:
    """Named steps, applied in their order to one picture.

    The draw depends on the ``seed`` of each call alone, never on which worker makes it or on what
    was drawn before. So workers and epochs differ, a seed repeats, and an interrupted run goes on
    with the pictures it would have seen. (albumentations 2.0.8 left alone draws the same in every
    worker; its ``set_random_seed`` gives every step the same stream, so that steps are correlated.)

    Args:
        steps: name -> ``{"transform": class of albumentations or policies.py, **its arguments}``,
            or name -> ``{"one_of": steps, "p": 0.5}``, of which one is drawn. A step that is null
            is left out.
        exclude: names of steps to leave out.
        engine: ``exact`` is albumentations; ``fast`` makes the same draws and joins warps, see
            ``fast_augment.py``.

    Raises:
        UserError: an unknown name in ``exclude``, an unknown transform, an argument that the
            transform does not know or refuses, an unknown engine.
    """

    def __init__(
        self, steps: Steps, exclude: Collection[str] = (), *, engine: Engine = "exact"
    ) -> None:
        if engine not in get_args(Engine):
            raise UserError(f"augment_engine={engine}; allowed: {', '.join(get_args(Engine))}.")
        known = step_names(steps)
        for name in map(str, exclude):
            if name not in known:
                raise UserError(unknown_step(name, known))
        self.names = step_names(steps, exclude)
        transforms = _build_all(steps, exclude, "augment")
        self.pipeline = A.Compose(transforms)
        self.fast = FastPipeline(transforms) if engine == "fast" else None

    def __call__(self, image: np.ndarray, seed: int) -> np.ndarray:
        """Augment a picture.

        Args:
            image: uint8 ``[H, W, 3]``, RGB; left as it is.
            seed: of this draw, 0 or more.

        Returns:
            uint8 ``[H, W, 3]``.

        Raises:
            UserError: a step changed the shape or the kind of number.
        """
        if self.fast is not None:
            augmented = self.fast(image, seed)
        else:
            self.pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
            augmented = self.pipeline(image=image)["image"]
        if augmented.shape != image.shape or augmented.dtype != np.uint8:
            raise UserError(
                f"A step of {', '.join(self.names)} turned a uint8 picture of shape {image.shape} "
                f"into {augmented.dtype} {augmented.shape}; steps must keep both."
            )
        return augmented


def unknown_step(name: str, known: Collection[str]) -> str:
    """The sentence for a name in ``exclude`` that no step of augmentation or mixing has."""
    close = get_close_matches(name, known, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return (
        f"exclude names '{name}', which is not in use; "
        f"known here: {', '.join(known) or 'nothing'}.{hint}"
    )


def _build_all(steps: Steps, exclude: Collection[str], where: str) -> list[Any]:
    built = []
    for name, step in _present(steps, where).items():
        if name in exclude:
            continue
        if "one_of" in step:
            built += _build_group(f"{where}.{name}", step, exclude)
            continue
        if step.get("operations"):
            step = {**step, "operations": _operations(f"{where}.{name}", step, exclude)}
            if not step["operations"]:  # all of them are left out, and so is the step
                continue
        built.append(_build(f"{where}.{name}", step))
    return built


def _build_group(name: str, step: Mapping[str, Any], exclude: Collection[str]) -> list[Any]:
    """One ``OneOf``, or nothing where all of its steps are left out."""
    if unknown := sorted(set(step) - {"one_of", "p"}):
        raise UserError(f"{name} does not know '{unknown[0]}'; allowed: one_of, p.")
    p = step.get("p", 0.5)
    if not (isinstance(p, int | float) and 0 <= p <= 1):
        raise UserError(f"{name}.p={p} is no probability; allowed: 0 to 1.")
    inner = _build_all(step["one_of"], exclude, f"{name}.one_of")
    if inner and not any(one.p for one in inner):
        raise UserError(f"{name}.one_of: the p of all its steps is 0, so that none can be drawn.")
    return [A.OneOf(inner, p=p)] if inner else []


def _build(name: str, step: Mapping[str, Any]) -> A.BasicTransform:
    arguments = {key: _plain(value) for key, value in step.items() if key != "transform"}
    named = str(step.get("transform"))
    kind = POLICIES.get(named) or getattr(A, named, None)
    if (
        not (isinstance(kind, type) and issubclass(kind, A.BasicTransform))
        or kind.__module__.startswith("albumentations.core")  # the base classes
    ):
        close = get_close_matches(named, [*dir(A), *POLICIES], n=1)
        hint = f"; did you mean '{close[0]}'?" if close else "."
        raise UserError(f"{name}.transform '{named}' is no albumentations class{hint}")
    try:
        with warnings.catch_warnings():
            # albumentations warns about arguments it does not know or changes, and goes on with
            # others than those asked for; an experiment must not.
            warnings.simplefilter("error", UserWarning)
            warnings.filterwarnings("ignore", message="ShiftScaleRotate is a special case")
            return kind(**arguments)
    except (UserWarning, ValueError, TypeError) as error:
        why = reason(error)
        if isinstance(cause := error.__cause__, ValidationError):  # its text takes a paragraph
            why = "; ".join(f"{one['loc'][0]}: {one['msg']}" for one in cause.errors())
        raise UserError(f"{name} ({kind.__name__}) refuses its arguments: {why}.") from None


def _plain(value: Any) -> Any:
    """Ranges come from YAML as lists; albumentations wants tuples."""
    return tuple(_plain(item) for item in value) if isinstance(value, list) else value
