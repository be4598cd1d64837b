"""Pictures per step: their number, halving, and the learning rates scaled to them."""

from collections.abc import Callable
from typing import Any

import pytest
from conftest import Refused
from omegaconf import OmegaConf

from product_cls.config.batch import BatchPlan, can_halve
from product_cls.training.plan import derive_settings

Composed = Callable[..., dict[str, Any]]


def test_pictures_per_step(composed: Composed) -> None:
    step = BatchPlan.of(
        OmegaConf.create(
            composed(
                "trainer=ddp",
                "trainer.devices=4",
                "trainer.num_nodes=2",
                "data.batch_size=16",
                "trainer.accumulate_grad_batches=3",
            )
        )
    )
    assert step == BatchPlan(per_device=16, devices=8, accumulated=3)
    assert step.sentence() == "Batch: 8 devices x 16 x 3 accumulated batches = 384 pictures a step."
    assert BatchPlan(32, 1, 1).sentence() == "Batch: 32 pictures a step."
    assert step.halved(2) == BatchPlan(4, 8, 12) and step.halved(2).pictures == 384
    with pytest.raises(ValueError, match="16 cannot be halved 5 times"):
        step.halved(5)


@pytest.mark.parametrize(
    ("size", "per_class", "times"),
    [(12, "null", 2), (7, "null", 0), (1, "null", 0), (24, 3, 2), (16, 4, 1), (8, 4, 0)],
)
def test_number_of_halvings(
    composed: Composed, size: int, per_class: int | str, times: int
) -> None:
    """With ``per_class``, a halved batch must hold two whole classes or more."""
    config = OmegaConf.create(composed(f"data.batch_size={size}", f"data.per_class={per_class}"))
    assert can_halve(config, times) and not can_halve(config, times + 1)


def test_learning_rates_scale_with_the_pictures_per_step(
    composed: Composed, refused: Refused
) -> None:
    def scaled(*overrides: str) -> tuple[Any, str | None]:
        config = OmegaConf.create(composed("trainer=ddp", "optimizer.lr=1e-3", *overrides))
        settings, notes = derive_settings(config)
        assert config.optimizer.get("lr") in (1e-3, None)  # the config itself is unchanged
        return settings, notes[0] if notes else None

    unscaled, note = scaled("data.batch_size=64")  # 2 devices: 128 a step
    assert (unscaled.optimizer.lr, note) == (1e-3, None)
    linear, note = scaled("data.batch_size=64", "scale_lr.rule=linear", "finetune.head_lr=0.01")
    assert linear.optimizer.lr == pytest.approx(4e-3)
    assert linear.finetune.head_lr == pytest.approx(0.04)
    assert note is not None and "optimizer.lr=0.001 x 4 = 0.004" in note
    root, _ = scaled("data.batch_size=64", "scale_lr.rule=sqrt")
    assert root.optimizer.lr == pytest.approx(2e-3) and root.finetune.head_lr is None
    with refused("scale_lr.rule=log", "linear"):
        scaled("scale_lr.rule=log")
    with refused("scale_lr.base=0"):
        scaled("scale_lr.base=0")
    with refused("scale_lr.rule=linear scales optimizer.lr, which is None"):
        scaled("scale_lr.rule=linear", "~optimizer.lr")
