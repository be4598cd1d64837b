import torch
from torch import nn

from product_cls.models.network import Network


def test_prepare_normalises_with_the_backbones_mean_and_std() -> None:
    network = Network("test_efficientnet", lambda n: nn.Linear(n, 3), weights="none")
    images = torch.full((2, 3, 8, 8), 255, dtype=torch.uint8)
    prepared = network.prepare(images)
    mean, std = (torch.tensor(network.spec[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    assert torch.allclose(prepared, ((1 - mean) / std).expand(2, 3, 8, 8), atol=1e-5)


def test_any_size_and_pooling_give_the_heads_outputs() -> None:
    for pooling in ("avg", "gem"):
        network = Network(
            "test_efficientnet", lambda n: nn.Linear(n, 5), weights="none", pooling=pooling
        )
        for size in ((32, 32), (48, 64)):
            images = torch.zeros(2, 3, *size, dtype=torch.uint8)
            assert network(network.prepare(images)).shape == (2, 5)


def test_spec_rebuilds_the_network() -> None:
    torch.manual_seed(0)
    network = Network(
        "test_efficientnet", lambda n: nn.Linear(n, 5), weights="none", pooling="gem"
    ).eval()
    again = Network.from_spec(network.spec, lambda n: nn.Linear(n, 5)).eval()
    again.load_state_dict(network.state_dict())
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.equal(network(network.prepare(images)), again(again.prepare(images)))
    assert torch.equal(network.mean, again.mean)
