"""Learning rates of parameters: layer decay, the head's rate, and a frozen backbone."""

from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback
from runs_in_process import refusal, train, train_interrupted, weights

from product_cls.models.network import Network
from product_cls.optim.groups import Finetune, backbone_depths, parameter_groups
from product_cls.runs.folder import RunFolder

STEM, BLOCK = "backbone.conv_stem.weight", "backbone.blocks.2.0.conv_pwl.weight"
HEAD = "head.weight"


def tiny(pooling: str = "gem") -> Network:
    head = lambda features: torch.nn.Linear(features, 3)  # noqa: E731
    return Network("test_efficientnet", head, pooling=pooling, weights="none")


def rates(network: Network, groups: list) -> dict[str, tuple[float, float]]:  # type: ignore[type-arg]
    """Learning rate and weight decay by parameter."""
    names = {id(p): name for name, p in network.named_parameters()}
    rate_of = {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in groups
        for p in group["params"]
    }
    assert len(rate_of) == sum(len(group["params"]) for group in groups)
    return rate_of


def test_norms_and_biases_are_not_decayed() -> None:
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(4, 2)
    )
    module[1].weight.requires_grad_(False)
    decayed, others = parameter_groups(module, 0.1, lr=0.01)
    assert decayed["weight_decay"] == 0.1 and others["weight_decay"] == 0.0
    assert decayed["lr"] == others["lr"] == 0.01
    assert {id(p) for p in decayed["params"]} == {id(module[0].weight), id(module[3].weight)}
    assert {id(p) for p in others["params"]} == {
        id(module[0].bias), id(module[1].bias), id(module[3].bias)
    }  # fmt: skip


def test_gains_of_any_shape_are_not_decayed() -> None:
    from timm.layers import ScaledStdConv2d

    network = torch.nn.Sequential(ScaledStdConv2d(3, 8, 3), torch.nn.Linear(8, 1))
    network.register_parameter("scale", torch.nn.Parameter(torch.ones(1, 1, 8)))
    decayed, others = parameter_groups(network, 0.1, lr=0.01)
    assert network[0].gain.shape == (8, 1, 1, 1)
    names = {id(p): name for name, p in network.named_parameters()}
    assert {names[id(p)] for p in decayed["params"]} == {"0.weight", "1.weight"}
    assert {names[id(p)] for p in others["params"]} == {"0.gain", "0.bias", "1.bias", "scale"}


def test_layers_learn_slower_the_further_they_are_from_the_head() -> None:
    network = tiny()
    groups = parameter_groups(network, 0.1, 0.01, Finetune(layer_decay=0.5))
    by_name = rates(network, groups)
    assert set(by_name) == set(dict(network.named_parameters()))
    # timm's layers: the stem, five blocks, of which the last goes with the final convolution.
    assert by_name[HEAD] == (0.01, 0.1) and by_name["pool.p"] == (0.01, 0.0)
    assert by_name["backbone.conv_head.weight"] == (0.005, 0.1)
    assert by_name["backbone.blocks.4.0.conv_pw.weight"] == (0.005, 0.1)
    assert by_name[BLOCK] == (pytest.approx(0.01 * 0.5**3), 0.1)
    assert by_name[STEM] == (pytest.approx(0.01 * 0.5**6), 0.1)
    assert by_name["backbone.bn1.bias"] == (pytest.approx(0.01 * 0.5**6), 0.0)
    assert [group["lr"] for group in groups] == sorted((g["lr"] for g in groups), reverse=True)
    assert max(backbone_depths(network).values()) == 6


def test_head_lr_applies_to_everything_after_the_backbone() -> None:
    network = tiny()
    by_name = rates(network, parameter_groups(network, 0.1, 0.01, Finetune(head_lr=0.2)))
    assert by_name[HEAD] == (0.2, 0.1) and by_name["head.bias"] == by_name["pool.p"] == (0.2, 0.0)
    assert {rate for name, (rate, _) in by_name.items() if name.startswith("backbone")} == {0.01}
    both = parameter_groups(network, 0.1, 0.01, Finetune(head_lr=0.2, layer_decay=0.9))
    assert rates(network, both)[HEAD][0] == 0.2
    assert rates(network, both)[STEM][0] == pytest.approx(0.01 * 0.9**6)


def test_layers_of_unknown_order(refused) -> None:  # type: ignore[no-untyped-def]
    network = torch.nn.Module()
    network.backbone = torch.nn.Linear(2, 2)
    with refused("timm does not know the order of the layers of Linear", "null"):
        backbone_depths(network)


class Rates(Callback):
    """Records the groups' rates in each step, and whether the backbone is frozen."""

    seen: list[list[float]]
    modes: list[tuple[bool, bool]]

    def __init__(self) -> None:
        Rates.seen, Rates.modes = [], []

    def on_train_batch_start(self, trainer, module, batch, batch_idx) -> None:  # type: ignore[no-untyped-def]
        Rates.seen.append([group["lr"] for group in trainer.optimizers[0].param_groups])
        backbone = module.network.backbone
        trains = {part.training for part in backbone.modules()}
        learns = {p.requires_grad for p in backbone.parameters()}
        assert len(trains) == len(learns) == 1
        Rates.modes.append((trains.pop(), learns.pop()))


WATCH = "+callbacks={rates: {_target_: test_groups.Rates}}"


@pytest.mark.parametrize("optimizer", ["adamp", "sam"])
def test_schedules_scale_all_rates_equally(tmp_path: Path, tiny_root: Path, optimizer: str) -> None:
    train(
        tmp_path / "run",
        tiny_root,
        WATCH,
        f"optimizer={optimizer}",
        "finetune.layer_decay=0.1",  # the stem's rate is far below scheduler.end_lr
        "finetune.head_lr=0.004",
        "scheduler=warmup_cosine",
        "trainer.max_epochs=2",
    )
    first, *_, last = Rates.seen
    assert len(Rates.seen) == 6 and first[0] / last[0] > 5
    for row in Rates.seen:
        assert [rate / row[0] for rate in row] == pytest.approx([rate / first[0] for rate in first])
    assert max(first) / min(first) == pytest.approx(4 * 10**6)


def moved(run: RunFolder, before: dict[str, torch.Tensor]) -> set[str]:
    after = weights(run)
    return {name for name in before if not after[name].equal(before[name])}


def test_a_frozen_backbone_does_not_change_by_a_bit(tmp_path: Path, tiny_root: Path) -> None:
    debug = ("trainer=debug", "trainer.accelerator=cpu", "seed=5", WATCH)
    run = train(tmp_path / "run", tiny_root, *debug, "finetune.freeze=all")
    assert Rates.modes == [(False, False)] * 2
    other = train(tmp_path / "other", tiny_root, *debug, "finetune.freeze=all", "optimizer.lr=1e-2")
    changed = moved(run, weights(other))
    assert changed == {"network.head.weight", "network.head.bias"}
    assert int(weights(run)["network.backbone.bn1.num_batches_tracked"]) == 0


def test_frozen_for_the_first_epochs_then_learning_and_resumed(
    tmp_path: Path, tiny_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    overrides = ("finetune.freeze=1", "finetune.layer_decay=0.7", "trainer.max_epochs=3")
    whole = train(tmp_path / "whole", tiny_root, WATCH, *overrides)
    assert Rates.modes == [(False, False)] * 3 + [(True, True)] * 6
    broken = train_interrupted(tmp_path / "broken", tiny_root, WATCH, *overrides, epoch=2)
    assert Rates.modes == [(True, True)] * 3
    assert not moved(broken, weights(whole))
    assert "only the head learns" not in caplog.text


def test_warning_about_a_backbone_that_never_thaws(
    tmp_path: Path, tiny_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    debug = ("trainer=debug", "trainer.accelerator=cpu")
    train(tmp_path / "run", tiny_root, *debug, "finetune.freeze=1")
    assert (
        "finetune.freeze=1 covers all of trainer.max_epochs=1: only the head learns" in caplog.text
    )


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("finetune.layer_decay=1.2",), "layer_decay=1.2; allowed: above 0 and up to 1, or null"),
        (("finetune.layer_decay=0",), "finetune.layer_decay=0; allowed"),
        (("finetune.head_lr=0",), "finetune.head_lr=0; allowed: above 0"),
        (("finetune.head_lr=fast",), "finetune.head_lr=fast; allowed: above 0"),
        (("finetune.freeze=-1",), "finetune.freeze=-1; allowed: a number of epochs, or all"),
        (("finetune.freeze=some",), "finetune.freeze=some"),
        (("finetune.freeze=true",), "finetune.freeze=True"),
        (("finetune.freeze=all", "finetune.layer_decay=0.8"), "layer_decay=0.8 has no effect"),
        (("+finetune.thaw=1",), "unexpected keyword argument 'thaw'"),
    ],
)
def test_wrong_values_are_one_sentence(
    tmp_path: Path,
    tiny_root: Path,
    caplog: pytest.LogCaptureFixture,
    overrides: tuple[str, ...],
    words: str,
) -> None:
    assert words in refusal(tmp_path / "run", tiny_root, caplog, *overrides)
