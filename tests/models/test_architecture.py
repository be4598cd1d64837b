"""What timm is told to build a network for pictures of a size, and what its features become."""

import json
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from product_cls.config.compose import compose_config
from product_cls.models.architecture import Architecture, find_architecture
from product_cls.models.network import Network
from product_cls.optim.groups import Finetune, parameter_groups

FAMILIES = [
    *("test_byobnet", "test_convnext", "test_efficientnet", "test_nfnet", "test_resnet"),
    *("test_vit", "test_vit2", "test_vit4", "test_vit_relpos", "test_coatnet", "test_mambaout"),
]


def head(features: int) -> nn.Module:
    return nn.Linear(features, 3)


def network(name: str, size: tuple[int, int] = (32, 32), **options: object) -> Network:
    return Network(name, head, weights="none", size=size, **options).eval()  # type: ignore[arg-type]


def pictures(size: tuple[int, int] = (32, 32)) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_answers_and_its_spec_rebuilds_it(name: str) -> None:
    first = network(name)
    spec = json.loads(json.dumps(first.spec))  # as a checkpoint keeps it
    again = Network.from_spec(spec, head).eval()
    again.load_state_dict(first.state_dict())
    batch = pictures()
    with torch.inference_mode():
        answers = first(first.prepare(batch))
        assert answers.shape == (2, 3) and answers.isfinite().all()
        assert torch.equal(again(again.prepare(batch)), answers)
    assert again.spec == spec


def test_poolings_of_tokens_are_what_they_say() -> None:
    batch = pictures()
    # The first token is a class token in test_vit, and a register in test_vit2.
    for name, pooling in [("test_vit", p) for p in ("cls", "avg", "gem")] + [("test_vit2", "avg")]:
        vit = timm.create_model(name, num_classes=0, dynamic_img_size=True).eval()
        built = network(name, pooling=pooling)
        built.backbone.load_state_dict(vit.state_dict())
        with torch.inference_mode():
            tokens = vit.forward_features(built.prepare(batch))
            pooled = built.pooled(built.prepare(batch))
        patches = tokens[:, 1:]
        expected = {
            "cls": tokens[:, 0],
            "avg": patches.mean(dim=1),
            "gem": patches.clamp(min=1e-6).pow(3).mean(dim=1).pow(1 / 3),
        }[pooling]
        torch.testing.assert_close(pooled, vit.fc_norm(expected))


def test_the_networks_own_attention_pooling() -> None:
    built = network("vit_base_patch16_siglip_224", pooling="map", size=(32, 32))
    with torch.inference_mode():
        prepared = built.prepare(pictures())
        tokens = built.backbone.forward_features(prepared)
        torch.testing.assert_close(built.pooled(prepared), built.backbone.attn_pool(tokens))
    other = network("vit_base_patch16_siglip_224", pooling="avg", size=(32, 32))
    assert not any(name.startswith("backbone.attn_pool") for name, _ in other.named_parameters())


def test_a_network_of_any_size_takes_several_and_one_of_a_single_size_says_so() -> None:
    vit = network("test_vit", pooling="cls")
    with torch.inference_mode():
        for size in ((32, 32), (48, 96)):
            vit.check_size(size)
            assert vit(vit.prepare(pictures(size))).shape == (2, 3)
    fixed = network("test_vit_relpos")
    with pytest.raises(ValueError, match="test_vit_relpos is built for pictures of 32 x 32 pixels"):
        fixed.check_size((48, 48))
    with pytest.raises(ValueError, match=r"16 x 16 pixels, do not divide .*100 x 96; .*96, 112"):
        vit.check_size((100, 96))
    network("test_efficientnet").check_size((37, 51))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("test_vit", {"size": (40, 40)}, r"do not divide pictures of 40 x 40; .*such as 32, 48"),
        ("test_vit2", {"pooling": "cls"}, "has no class token; allowed: avg, gem"),
        ("test_vit", {"pooling": "map"}, "has no attention pooling; allowed: cls, avg, gem"),
        ("test_efficientnet", {"pooling": "cls"}, "has no tokens; allowed: avg, gem"),
        ("test_resnet", {"pooling": "max"}, "pooling=max; allowed: avg, gem, cls, map"),
        ("test_coatnet", {"size": (48, 96)}, "does not take pictures of 48 x 96 pixels"),
        ("test_vitt", {}, "backbone=test_vitt is unknown"),
    ],
)
def test_what_a_network_cannot_do_is_one_sentence(
    name: str, options: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        network(name, **options)  # type: ignore[arg-type]


def test_finding_an_architecture_draws_no_random_numbers() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    find_architecture("test_vit2", (32, 32))
    find_architecture("test_efficientnet", (32, 32))
    assert torch.equal(torch.rand(3), expected)


def test_layers_decay_and_positions_do_not(tmp_path: Path) -> None:
    vit = network("test_vit", pooling="cls")
    groups = parameter_groups(vit, 0.1, 1.0, Finetune(layer_decay=0.5))
    by_id = {id(p): group for group in groups for p in group["params"]}
    backbone = vit.backbone
    assert by_id[id(backbone.pos_embed)]["weight_decay"] == 0
    assert by_id[id(backbone.cls_token)]["weight_decay"] == 0
    blocks = [by_id[id(block.attn.qkv.weight)]["lr"] for block in backbone.blocks]
    assert blocks == sorted(blocks) and blocks[0] < blocks[-1] < 1.0
    assert by_id[id(backbone.blocks[0].attn.qkv.weight)]["weight_decay"] == 0.1


def test_a_folder_as_timm_writes_it_is_a_backbone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = timm.create_model("test_vit", num_classes=5)
    folder = tmp_path / "mine"
    timm.models.save_for_hf(source, folder, safe_serialization=True)
    built = Network(str(folder), head, size=(32, 32), pooling="cls")
    assert built.weights.source == str(folder)
    torch.testing.assert_close(built.backbone.pos_embed, source.pos_embed)
    assert built.spec["backbone"] == "test_vit"  # so that a checkpoint does not need the folder
    Network.from_spec(built.spec, head)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"config.json is no config of timm"):
        Network(str(folder), head)


def test_a_hub_out_of_reach_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="its config cannot be fetched from the model hub"):
        Network("hf-hub:timm/test_vit.r160_in1k", head)


@pytest.mark.parametrize(
    ("name", "record", "said"),
    [
        ("test_vit", {"arguments": {"checkpoint_path": "x"}}, "checkpoint_path is not allowed"),
        ("test_vit", {"arguments": {"pretrained": True}}, "pretrained is not allowed"),
        ("test_vit", {"arguments": {}, "source": "hf-hub:a/b"}, "architecture.source is unknown"),
        ("hf-hub:timm/test_vit.r160_in1k", {}, "is unknown"),
    ],
)
def test_a_checkpoint_cannot_make_timm_load_files(
    name: str, record: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Architecture.of(name, record)


def test_records_round_trip() -> None:
    found = find_architecture("test_vit_relpos", (32, 48))
    assert Architecture.of("test_vit_relpos", json.loads(json.dumps(found.record()))) == found
    assert find_architecture("test_resnet").record() == {}


@pytest.mark.parametrize(
    "name",
    ["dinov2_s", "dinov3_s", "siglip2_b", "clip_b", "eva02_s", "convnext_t", "convnextv2_n",
     "mobilenetv4_m", "swin_t", "efficientvit_b1", "vit_s", "deit3_s"],
)  # fmt: skip
def test_short_names_lead_to_networks_that_have_their_pooling(name: str) -> None:
    model = compose_config([f"model={name}", "data.size=224"]).model
    with torch.device("meta"):
        built = Network(
            model.backbone, head, weights="none", pooling=model.pooling, size=(224, 224)
        )
    assert isinstance(built.head, nn.Linear) and built.head.in_features >= 256
