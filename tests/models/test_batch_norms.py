"""Batch norms with the statistics of other pictures."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

from product_cls.models.batch_norms import (
    adapted,
    batch_norms,
    check_batch_norms,
    informed,
)


def small() -> nn.Sequential:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
    with torch.no_grad():
        network[1].running_mean.fill_(1.0)
        network[1].running_var.fill_(2.0)
    return network.eval()


def batches() -> list[torch.Tensor]:
    return list(torch.randn(3, 8, 3, 6, 6, generator=torch.Generator().manual_seed(3)) + 2)


def test_statistics_are_those_of_the_pictures() -> None:
    network = small()
    norm = adapted(network, batches())[1]
    outputs = [network[0](batch).detach().numpy() for batch in batches()]
    np.testing.assert_allclose(
        norm.running_mean, np.concatenate(outputs).mean(axis=(0, 2, 3)), rtol=1e-5
    )
    variances = [out.var(axis=(0, 2, 3), ddof=1) for out in outputs]
    np.testing.assert_allclose(norm.running_var, np.mean(variances, axis=0), rtol=1e-5)


def test_share_mixes_both_statistics_and_the_network_itself_stays() -> None:
    network, before = small(), small().state_dict()
    network.load_state_dict(before)
    whole, part = (adapted(network, batches(), share)[1] for share in (1.0, 0.25))
    torch.testing.assert_close(part.running_mean, 0.25 * whole.running_mean + 0.75)
    torch.testing.assert_close(part.running_var, 0.25 * whole.running_var + 1.5)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert not network.training


def test_share_0_changes_no_output() -> None:
    network = timm.create_model("test_efficientnet", num_classes=3).eval()
    changed = adapted(network, batches(), 0.0)
    assert not changed.training
    with torch.no_grad():
        assert torch.equal(changed(batches()[0]), network(batches()[0]))


def test_adapted_networks_differ_and_repeat() -> None:
    network = timm.create_model("test_efficientnet", num_classes=3).eval()
    with torch.no_grad():
        first, second = (adapted(network, batches())(batches()[0]) for _ in range(2))
        assert torch.equal(first, second)
        assert not torch.equal(first, network(batches()[0]))


def test_a_network_without_batch_norms_is_refused() -> None:
    network = timm.create_model("test_vit", num_classes=3)
    assert batch_norms(network) == []
    with pytest.raises(ValueError, match="needs batch norms, and test_vit has none; allowed: null"):
        check_batch_norms(network, "test_vit")


@pytest.mark.parametrize(("share", "pictures"), [(1.5, 3), (-0.1, 3), (1.0, 0)])
def test_wrong_arguments_are_refused(share: float, pictures: int) -> None:
    with pytest.raises(ValueError, match=r"share=|batches is empty"):
        adapted(small(), batches()[:pictures], share)


def test_information_moves_a_border_to_where_few_pictures_lie() -> None:
    """Two clouds of points, and a border that cuts through one of them."""
    draw = torch.Generator().manual_seed(0)
    clouds = torch.cat([torch.randn(200, 1, generator=draw) * 0.3 + at for at in (-1.0, 1.0)])
    target = torch.arange(2).repeat_interleave(200)
    network = nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 2)).eval()
    with torch.no_grad():
        network[0].running_mean.copy_(clouds.mean(dim=0))
        network[0].running_var.copy_(clouds.var(dim=0))
        network[1].weight.copy_(torch.tensor([[-3.0], [3.0]]))
        network[1].bias.copy_(torch.tensor([2.8, -2.8]))

    def batches(epoch: int) -> list[torch.Tensor]:
        order = torch.randperm(400, generator=torch.Generator().manual_seed(epoch))
        return list(clouds[order].split(50))

    def right(judge: nn.Module) -> float:
        return float((judge(clouds).argmax(dim=1) == target).float().mean())

    changed = informed(network, batches, lambda out: out.softmax(dim=1), epochs=20, rate=0.03)
    assert right(network) < 0.9 and right(changed) > 0.98
    assert torch.equal(network[0].weight, torch.ones(1))  # a copy has learned
    assert torch.equal(changed[1].weight, network[1].weight)  # and only its batch norm
    assert not changed.training
    plain = nn.Sequential(nn.BatchNorm1d(1, affine=False), nn.Linear(1, 2))
    with pytest.raises(ValueError, match="needs batch norms with a scale and a shift"):
        informed(plain, batches, lambda out: out.softmax(dim=1))
