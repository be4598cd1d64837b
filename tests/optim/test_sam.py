"""SAM against a reference implementation, and in runs."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.strategies import SingleDeviceStrategy
from runs_in_process import refusal, train, train_interrupted, weights

from product_cls.optim.adamp import AdamP
from product_cls.optim.sam import SAM, frozen_statistics, same_draws
from product_cls.optim.schedules import polynomial
from product_cls.training.module import ProductModule

# Three steps on f = w' diag(1, 2, .5) w / 2 from [1, -2, 3], SGD lr .1 momentum .9: the perturbed
# weights, and the weights after the step.
SAM_STEPS = [
    ([1.0113960576, -2.0455842306, 3.0170940865], [0.8988603942, -1.5908831539, 2.8491452957]),
    ([0.9113440876, -1.6350726579, 2.8689302681], [0.7167003403, -0.8956634608, 2.5699295484]),
    ([0.7321590446, -0.9343010776, 2.5976453025], [0.4795403873, -0.0831055215, 2.1887531107]),
]
# The same for ASAM with rho 2.
ASAM_STEPS = [
    ([1.2166121444, -5.4657943109, 5.9242639498], [0.8783387856, -0.9068411378, 2.7037868025]),
    ([1.2103597870, -1.6376486590, 7.5462542400], [0.6478077139, 0.4045315699, 2.0598822128]),
    ([0.8963853543, 0.5255944416, 6.0558399154], [0.3506912139, 1.4796481186, 1.1775760862]),
]


def bowl(*parts: torch.Tensor) -> torch.Tensor:
    scale = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    return 0.5 * (scale * torch.cat(parts) ** 2).sum()


def step(sam: SAM, *parts: torch.nn.Parameter) -> torch.Tensor:
    """One step on the bowl; returns the weights of the second gradient."""
    sam.zero_grad()
    bowl(*parts).backward()
    with sam.perturbed():
        seen = torch.cat(parts).detach().clone()
        sam.zero_grad()
        bowl(*parts).backward()
    sam.step()
    return seen


def start() -> list[torch.nn.Parameter]:
    """The weights of the toy problem in two parameters, because the norm is over both."""
    w = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    return [torch.nn.Parameter(w[:1].clone()), torch.nn.Parameter(w[1:].clone())]


@pytest.mark.parametrize(
    ("rho", "adaptive", "steps"), [(0.05, False, SAM_STEPS), (2.0, True, ASAM_STEPS)]
)
def test_reference_steps(rho: float, adaptive: bool, steps: list[tuple[list[float], ...]]) -> None:
    parts = start()
    groups = [{"params": [parts[0]]}, {"params": [parts[1]]}]
    sam = SAM(groups, torch.optim.SGD, rho=rho, adaptive=adaptive, lr=0.1, momentum=0.9)
    for perturbed, after in steps:
        assert step(sam, *parts).tolist() == pytest.approx(perturbed, abs=1e-9)
        assert torch.cat(parts).tolist() == pytest.approx(after, abs=1e-9)


@pytest.mark.parametrize("cleans", [True, False])
def test_a_closure_is_called_at_both_weights(cleans: bool) -> None:
    """Also a closure that only adds to the gradients, after a first gradient taken by hand."""
    parts, losses = start(), []
    sam = SAM(parts, torch.optim.SGD, lr=0.1, momentum=0.9)

    def closure() -> torch.Tensor:
        if cleans:
            sam.zero_grad()
        loss = bowl(*parts)
        loss.backward()
        losses.append(loss.item())
        return loss

    for perturbed, after in SAM_STEPS:
        sam.zero_grad()
        bowl(*parts).backward()
        here = bowl(*parts).item()
        assert sam.step(closure).item() == losses[-2] == here
        there = torch.tensor(perturbed, dtype=torch.float64)
        assert losses[-1] == pytest.approx(bowl(there).item(), abs=1e-8)
        assert torch.cat(parts).tolist() == pytest.approx(after, abs=1e-9)


def test_weights_are_restored_exactly_and_a_gradient_of_0_changes_nothing() -> None:
    torch.manual_seed(0)
    w, unused = torch.nn.Parameter(torch.randn(50)), torch.nn.Parameter(torch.ones(2))
    sam = SAM([w, unused], torch.optim.SGD, rho=1.0, lr=0.1)
    before = w.detach().clone()
    (w**3).sum().backward()
    with pytest.raises(RuntimeError), sam.perturbed():
        assert (w - before).norm().item() == pytest.approx(1.0, abs=1e-5)
        assert unused.equal(torch.ones(2))
        raise RuntimeError
    assert w.equal(before)
    w.grad = torch.zeros(50)
    with sam.perturbed():
        assert w.equal(before)


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.Adam, AdamP])
def test_state_continues_in_another_optimizer(tmp_path: Path, base: type) -> None:
    """Stopped after two steps and continued by another optimiser, with its scheduler."""
    arguments = {"lr": 0.1, **({"momentum": 0.9} if base is torch.optim.SGD else {})}

    def begin(parts: list[torch.nn.Parameter]) -> tuple:  # type: ignore[type-arg]
        sam = SAM(parts, base, **arguments)
        return sam, polynomial(sam, 6, power=1)

    parts = start()
    sam, scheduler = begin(parts)
    for k in range(4):
        if k == 2:
            saved = [p.detach().clone() for p in parts]
            state = {"optimizer": sam.state_dict(), "scheduler": scheduler.state_dict()}
            torch.save(state, tmp_path / "state.pt")
        step(sam, *parts)
        scheduler.step()
    kept = torch.load(tmp_path / "state.pt", weights_only=True)
    assert kept["optimizer"]["state"]
    others = [torch.nn.Parameter(p) for p in saved]
    sam, scheduler = begin(others)
    sam.load_state_dict(kept["optimizer"])
    scheduler.load_state_dict(kept["scheduler"])
    assert sam.param_groups is sam.base_optimizer.param_groups
    for _ in range(2):
        step(sam, *others)
        scheduler.step()
    assert torch.cat(others).equal(torch.cat(parts))
    assert sam.base_optimizer.param_groups[0]["lr"] == pytest.approx(0.1 * 2 / 6, abs=1e-6)


def test_statistics_and_draws() -> None:
    net = torch.nn.Sequential(torch.nn.BatchNorm1d(3), torch.nn.Dropout(0.5))
    x = torch.randn(8, 3)
    with same_draws(torch.device("cpu")):
        first = net(x)
    once = {name: value.clone() for name, value in net.state_dict().items()}
    with frozen_statistics(net):
        second = net(x)
    assert second.equal(first)
    assert all(value.equal(once[name]) for name, value in net.state_dict().items())
    assert int(net[0].num_batches_tracked) == 1
    assert not net(x).equal(first)  # the next batch draws new masks
    assert int(net[0].num_batches_tracked) == 2


def test_rho(refused) -> None:  # type: ignore[no-untyped-def]
    with refused("rho=0; allowed: above 0"):
        SAM(start(), torch.optim.SGD, rho=0, lr=0.1)


class Watch(Callback):
    """Records the gradient norms that clipping sees, and the updates of batch norms."""

    clipped: list[float]
    tracked: list[int]
    steps: list[int]

    def __init__(self) -> None:
        Watch.clipped, Watch.tracked, Watch.steps = [], [], []

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:  # type: ignore[no-untyped-def]
        parameters = [p for p in module.parameters() if p.grad is not None]
        Watch.clipped.append(float(torch.nn.utils.get_total_norm([p.grad for p in parameters])))

    def on_train_batch_end(self, trainer, module, *_) -> None:  # type: ignore[no-untyped-def]
        Watch.tracked.append(int(module.network.backbone.bn1.num_batches_tracked))
        Watch.steps.append(trainer.global_step)


def test_a_run_takes_two_passes_of_one_batch_a_step(
    tmp_path: Path, tiny_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[tuple[bool, torch.Tensor, float]] = []
    plain = ProductModule.training_step

    def spy(self: ProductModule, batch, batch_idx):  # type: ignore[no-untyped-def]
        loss = plain(self, batch, batch_idx)
        passes.append((self._second_pass, batch["image"], loss.item()))
        return loss

    monkeypatch.setattr(ProductModule, "training_step", spy)
    run = train(
        tmp_path / "run",
        tiny_root,
        "optimizer=sam",
        "optimizer.rho=0.1",
        "mix.p=1",
        "trainer.gradient_clip_val=1e-3",
        "trainer.log_every_n_steps=1",
        "+callbacks={watch: {_target_: test_sam.Watch}}",
    )
    assert [second for second, *_ in passes] == [False, True] * 3
    for (_, image, loss), (_, again, higher) in zip(passes[::2], passes[1::2], strict=True):
        assert image is again and higher > loss  # with equal dropout, the uphill loss is higher
    assert Watch.tracked == Watch.steps == [1, 2, 3]
    assert len(Watch.clipped) == 3 and min(Watch.clipped) > 1e-3
    assert run.metrics()["steps"] == 3
    log = pd.read_csv(run.path / "logs" / "metrics.csv")
    assert log["train/loss_step"].dropna().tolist() == pytest.approx([x for _, _, x in passes[::2]])
    counts = [8, 8, 4]
    mean = sum(n * x for n, (_, _, x) in zip(counts, passes[::2], strict=True)) / 20
    assert log["train/loss_epoch"].dropna().tolist() == pytest.approx([mean])
    state = torch.load(run.last_checkpoint, weights_only=True)["optimizer_states"][0]
    assert all("exp_avg" in values for values in state["state"].values())
    json.dumps(run.metrics(), allow_nan=False)


def test_clipping_bounds_the_gradient_of_the_step(tmp_path: Path, tiny_root: Path) -> None:
    """With SGD without momentum, because then the weights show the gradient."""
    overrides = (
        "optimizer=sam_sgd",
        "optimizer.momentum=0",
        "optimizer.weight_decay=0",
        "optimizer.lr=1",
        "scheduler=constant",
        "trainer=debug",
        "trainer.accelerator=cpu",
        "trainer.limit_train_batches=1",
    )
    moves = []
    for clip in (0.01, 0.0001):
        clipping = f"trainer.gradient_clip_val={clip}"
        run = train(tmp_path / str(clip), tiny_root, *overrides, clipping)
        moves.append(weights(run))
    names = [name for name in moves[0] if name.endswith(("weight", "bias"))]
    apart = sum(float((moves[0][name] - moves[1][name]).square().sum()) for name in names)
    assert apart**0.5 == pytest.approx(0.01 - 0.0001, rel=1e-3)


def test_resumed_equals_uninterrupted(tmp_path: Path, tiny_root: Path) -> None:
    overrides = (
        "optimizer=sam_adamp",
        "trainer.max_epochs=3",
        "mix.p=1",
        "model.drop_rate=0.3",
    )
    whole = train(tmp_path / "whole", tiny_root, *overrides)
    broken = train_interrupted(tmp_path / "broken", tiny_root, *overrides, epoch=1)
    assert broken.metrics()["steps"] == whole.metrics()["steps"] == 9
    for name, value in weights(whole).items():
        assert value.equal(weights(broken)[name]), name


def test_the_second_pass_is_synchronised_and_drops_the_same(
    tmp_path: Path, tiny_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a strategy of several ranks, whose `block_backward_sync` is DDP's `no_sync`.

    With a tiny rho, the two losses are equal if dropout draws the same masks.
    """
    synced = True
    seen: list[tuple[bool, bool]] = []
    losses: list[float] = []

    @contextmanager
    def block(self: SingleDeviceStrategy) -> Iterator[None]:
        nonlocal synced
        synced = False
        yield
        synced = True

    plain = ProductModule.training_step

    def spy(self: ProductModule, batch, batch_idx):  # type: ignore[no-untyped-def]
        seen.append((self._second_pass, synced))
        loss = plain(self, batch, batch_idx)
        losses.append(loss.item())
        return loss

    monkeypatch.setattr(SingleDeviceStrategy, "block_backward_sync", block, raising=False)
    monkeypatch.setattr("product_cls.training.module.ParallelStrategy", SingleDeviceStrategy)
    monkeypatch.setattr(ProductModule, "training_step", spy)
    train(
        tmp_path / "run",
        tiny_root,
        "optimizer=sam",
        "optimizer.rho=1e-9",
        "model.drop_rate=0.5",
        "model.drop_path_rate=0.2",
        "trainer=debug",
        "trainer.accelerator=cpu",
    )
    assert seen == [(False, False), (True, True)] * 2
    assert losses[::2] == pytest.approx(losses[1::2], abs=1e-5) and losses[0] != losses[2]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("trainer.accumulate_grad_batches=2",), "accumulate_grad_batches=2 does not go with SAM"),
        (("trainer.precision=16-mixed",), "trainer.precision=16-mixed does not go with SAM"),
        (("optimizer.rho=-1",), "optimizer.rho=-1; allowed: above 0"),
        (("+optimizer.speed=3",), "unexpected keyword argument 'speed'"),
    ],
)
def test_wrong_values_are_one_sentence(
    tmp_path: Path,
    tiny_root: Path,
    caplog: pytest.LogCaptureFixture,
    overrides: tuple[str, ...],
    words: str,
) -> None:
    assert words in refusal(tmp_path / "run", tiny_root, caplog, "optimizer=sam", *overrides)


def test_bfloat16_and_averaged_weights(tmp_path: Path, tiny_root: Path) -> None:
    bf16 = ("trainer.precision=bf16-mixed", "callbacks=ema", "optimizer.adaptive=true")
    run = train(tmp_path / "run", tiny_root, "optimizer=sam_sgd", *bf16)
    assert run.status()["state"] == "done"
