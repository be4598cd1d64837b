"""The augmentation pipeline, built from named steps.

Only this module, ``fast_augment.py``, ``policies.py``, ``shift_scale_rotate.py`` and
``viewpoint.py`` depend on albumentations (frozen at 2.0.8).
"""

import random
import warnings
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, get_args

import albumentations as A
import numpy as np
from pydantic import ValidationError

from product_cls.core.errors import UserError, reason
from product_cls.data.fast_augment import FastPipeline, Idle
from product_cls.data.policies import STEPS as POLICIES
from product_cls.data.viewpoint import ViewpointStep

Steps = Mapping[str, Mapping[str, Any] | None]
Engine = Literal["exact", "fast"]
VIEWPOINT = [name for name, step in POLICIES.items() if issubclass(step, ViewpointStep)]


def step_names(steps: Steps, exclude: Collection[str] = (), *, prefix: str = "") -> list[str]:
    """Names that ``exclude`` accepts: steps, ``one_of`` groups, the steps inside them, and the
    ``operations`` that a step draws from.

    Args:
        steps: as for ``Augment``.
        exclude: names to omit, with everything inside them.
        prefix: dotted path of ``steps``, with a dot at its end.

    Raises:
        ValueError: an entry that is not a step.
    """
    names = []
    for name, step in _present(steps, prefix).items():
        if name not in exclude:
            path = f"{prefix}{name}"
            inner = step_names(step.get("one_of", {}), exclude, prefix=f"{path}.one_of.")
            names += [name, *inner, *_operations(path, step, exclude)]
    return names


def _operations(path: str, step: Mapping[str, Any], exclude: Collection[str]) -> list[str]:
    """Operations that a step such as RandAugment draws from, except the excluded ones."""
    operations = step.get("operations", [])
    if not isinstance(operations, list) or not all(isinstance(name, str) for name in operations):
        raise ValueError(f"{path}.operations={operations}; allowed: a list of names.")
    return [name for name in operations if name not in exclude]


def _present(steps: Steps, prefix: str) -> dict[str, Mapping[str, Any]]:
    """The steps that are not null."""
    if not isinstance(steps, Mapping):
        raise ValueError(
            f"{prefix.rstrip('.') or 'steps'}={steps}; allowed: a mapping from names to steps."
        )
    for name, step in steps.items():
        if step is not None and not isinstance(step, Mapping):
            raise ValueError(
                f"{prefix}{name}={step} is not a step; allowed: {{transform: CLASS, ...}} or "
                f"{{one_of: STEPS, p: 0.5}}."
            )
    return {name: step for name, step in steps.items() if step is not None}


class Augment:
    """Named steps, applied to a picture in order.

    A draw depends only on the ``seed`` of the call, not on the worker or on earlier draws. So
    pictures of all workers and epochs differ, a seed repeats its draw, and a resumed run sees the
    same pictures as an uninterrupted one. (By default, albumentations 2.0.8 draws the
    same in every worker. Its ``set_random_seed`` gives every step the same stream, so that steps
    are correlated.)

    Args:
        steps: name -> ``{"transform": class of albumentations or policies.py, **its arguments}``,
            or name -> ``{"one_of": steps, "p": 0.5}``, which draws one of several steps. Null
            steps are skipped.
        exclude: names of steps to leave out.
        elsewhere: names outside these steps, such as mixing, that ``exclude`` may also hold; they
            are ignored here.
        engine: ``exact`` runs albumentations; ``fast`` makes the same draws and joins warps, see
            ``fast_augment.py``.
        ramp: number of epochs over which the steps of ``viewpoint.py`` grow to their full strength,
            0 or more; 0 for full strength from the start.

    Raises:
        ValueError: an unknown name in ``exclude``, an unknown transform, an argument that the
            transform refuses, or an unknown engine. Sentences about a step begin with its dotted
            path: ``tone.one_of.clahe.transform=...``.
    """

    def __init__(
        self,
        steps: Steps,
        exclude: Collection[str] = (),
        *,
        engine: Engine = "exact",
        elsewhere: Collection[str] = (),
        ramp: float = 0,
    ) -> None:
        if engine not in get_args(Engine):
            raise ValueError(f"engine={engine}; allowed: {', '.join(get_args(Engine))}.")
        all_names = [*step_names(steps), *elsewhere]
        for name in map(str, exclude):
            if name not in all_names:
                raise ValueError(unknown_step(name, all_names))
        self.names = step_names(steps, exclude)
        transforms = _build_all(steps, exclude, "")
        self.pipeline = A.Compose(transforms)
        self.ramp, self.viewpoint = ramp, _viewpoint_steps(transforms)
        self.fast = FastPipeline(transforms) if engine == "fast" else None

    def __call__(self, image: np.ndarray, seed: int, epoch: int | None = None) -> np.ndarray:
        """Augment a picture.

        Args:
            image: RGB uint8 ``[H, W, 3]``; not modified.
            seed: seed of this draw, 0 or more.
            epoch: counted from 0, for ``ramp``; None for full strength.

        Returns:
            RGB uint8 ``[H, W, 3]``.

        Raises:
            UserError: a step changed the shape or the dtype.
        """
        for step in self.viewpoint:
            step.strength = 1.0
            if self.ramp > 0 and epoch is not None:
                step.strength = min(1.0, (epoch + 1) / self.ramp)
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


def unknown_step(name: str, allowed: Collection[str]) -> str:
    """The message about a name in ``exclude`` that is not the name of a step in use."""
    close = get_close_matches(name, allowed, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return (
        f"exclude=[{name}]: no step in use has this name; "
        f"allowed here: {', '.join(allowed) or 'nothing'}.{hint}"
    )


def _viewpoint_steps(transforms: Sequence[Any]) -> list[ViewpointStep]:
    """The steps that change the viewpoint, also within groups."""
    found: list[ViewpointStep] = []
    for transform in transforms:
        if isinstance(transform, ViewpointStep):
            found.append(transform)
        elif isinstance(transform, A.OneOf):
            found += _viewpoint_steps(transform.transforms)
    return found


def _build_all(steps: Steps, exclude: Collection[str], prefix: str) -> list[Any]:
    """Transforms of the steps; excluded ones are idle, and those in groups are absent."""
    transforms: list[Any] = []
    for name, step in _present(steps, prefix).items():
        path = f"{prefix}{name}"
        if name in exclude:
            if not prefix:
                transforms += map(Idle, _build_all({name: step}, (), ""))
            continue
        if "one_of" in step:
            transforms += _build_group(path, step, exclude)
            continue
        if step.get("operations"):
            step = {**step, "operations": _operations(path, step, exclude)}
            if not step["operations"]:  # all operations are excluded, hence the step too
                continue
        transforms.append(_build(path, step))
    return transforms


def _build_group(path: str, step: Mapping[str, Any], exclude: Collection[str]) -> list[Any]:
    """One ``OneOf``; empty if all of its steps are excluded."""
    if unknown := sorted(set(step) - {"one_of", "p"}):
        raise ValueError(
            f"{path}.{unknown[0]}={step[unknown[0]]}: unknown argument; allowed: one_of, p."
        )
    p = step.get("p", 0.5)
    if not (isinstance(p, int | float) and 0 <= p <= 1):
        raise ValueError(f"{path}.p={p}; allowed: a probability from 0 to 1.")
    inner = _build_all(step["one_of"], exclude, f"{path}.one_of.")
    if inner and not any(transform.p for transform in inner):
        raise ValueError(
            f"{path}.one_of=[{', '.join(step['one_of'])}]: p of all these steps is 0, so none can "
            f"be drawn."
        )
    return [A.OneOf(inner, p=p)] if inner else []


def _build(path: str, step: Mapping[str, Any]) -> A.BasicTransform:
    """One transform; ``ValueError`` for an unknown class or a bad argument."""
    arguments = {key: _to_tuples(value) for key, value in step.items() if key != "transform"}
    class_name = str(step.get("transform"))
    transform = POLICIES.get(class_name) or getattr(A, class_name, None)
    if (
        not (isinstance(transform, type) and issubclass(transform, A.BasicTransform))
        or transform.__module__.startswith("albumentations.core")  # the base classes
    ):
        close = get_close_matches(class_name, [*dir(A), *POLICIES], n=1)
        hint = f"; did you mean '{close[0]}'?" if close else "."
        raise ValueError(f"{path}.transform={class_name}: no such class in albumentations{hint}")
    try:
        with warnings.catch_warnings():
            # albumentations only warns about an argument that it ignores or changes. An experiment
            # must not go on with another value than the requested one.
            warnings.simplefilter("error", UserWarning)
            warnings.filterwarnings("ignore", message="ShiftScaleRotate is a special case")
            return transform(**arguments)
    except (UserWarning, ValueError, TypeError) as error:
        why = reason(error)
        if isinstance(cause := error.__cause__, ValidationError):  # its text is a whole paragraph
            why = "; ".join(f"{detail['loc'][0]}: {detail['msg']}" for detail in cause.errors())
        raise ValueError(
            f"{path}.transform={transform.__name__} refuses its arguments: {why}."
        ) from None


def _to_tuples(value: Any) -> Any:
    """Convert lists, as YAML gives ranges, into the tuples that albumentations expects."""
    return tuple(_to_tuples(item) for item in value) if isinstance(value, list) else value
