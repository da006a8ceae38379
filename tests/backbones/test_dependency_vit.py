"""DependencyViT: sizes, pruning, pools, padding, dependencies, and that it learns."""

import pytest
import torch
from torch import nn

from visionpatch.apis.flops import count_macs
from visionpatch.backbones import DependencyViT
from visionpatch.errors import ConfigError

NANO = dict(arch=dict(embed_dims=24, num_layers=4, num_heads=3), img_size=64, out_indices=(1, 3), drop_path_rate=0.0)
EVERY = dict(blocks=(2, 3), ratio=0.25)  # of 16 tokens: 16, 12, 8, 8


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def nano(**options) -> DependencyViT:
    """A network whose blocks matter: nothing is scaled down."""
    made = DependencyViT(**{**NANO, "layer_scale_init": None, **options})
    for block in made.blocks:
        nn.init.normal_(block.attn.qkv.weight, std=0.3)
        nn.init.normal_(block.attn.message_controller.fc1.weight, std=0.3)
        nn.init.normal_(block.attn.message_controller.fc2.weight, std=1.0)
        nn.init.zeros_(block.attn.message_controller.fc2.bias)
    return made.eval()


def image(batch: int = 2, height: int = 64, width: int = 64) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(1))


class TestSizes:
    @pytest.mark.parametrize(
        ("arch", "ratio", "parameters"),
        [("tiny", 0.5, 5965876), ("small", 0.5, 22989940), ("tiny", 1.0, 6189364), ("small", 1.0, 23879284)],
    )
    def test_parameters_with_a_head_of_1000_classes(self, arch: str, ratio: float, parameters: int):
        with torch.device("meta"):
            net = DependencyViT(arch, pool="message", controller_ratio=ratio)
            head = nn.Linear(net.out_channels[0], 1000)
        assert sum(p.numel() for p in [*net.parameters(), *head.parameters()]) == parameters

    @pytest.mark.parametrize(
        ("arch", "prune", "billions"),
        [
            ("tiny", None, 1.30), ("small", None, 4.76), ("tiny", dict(), 0.815), ("small", dict(), 3.033),
            ("tiny", dict(at="attention"), 0.849), ("small", dict(at="attention"), 3.144),
            ("tiny", dict(at="block"), 0.887), ("small", dict(at="block"), 3.293),
        ],
    )  # fmt: skip
    def test_multiply_accumulates_at_224(self, arch: str, prune: dict | None, billions: float):
        assert count_macs(DependencyViT(arch, pool="message", prune=prune), (224, 224)) / 1e9 == pytest.approx(
            billions, rel=0.01
        )

    def test_names_of_the_state_dict(self):
        names = set(DependencyViT(**{**NANO, "pool": "message"}).state_dict())
        of_blocks = {name.split(".", 2)[2] for name in names if name.startswith("blocks.")}
        assert of_blocks == {
            "norm1.weight", "norm1.bias", "attn.qkv.weight", "attn.head_selector.weight", "attn.proj.weight",
            "attn.proj.bias", "attn.message_controller.fc1.weight", "attn.message_controller.fc1.bias",
            "attn.message_controller.fc2.weight", "attn.message_controller.fc2.bias", "ls1.gamma", "norm2.weight",
            "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias", "ls2.gamma",
        }  # fmt: skip
        rest = {name for name in names if not name.startswith("blocks.")}
        assert rest == {"patch_embed.proj.weight", "patch_embed.proj.bias", "pos_embed", "norm.weight", "norm.bias"}

    def test_a_classifier_fills_all_but_the_norms_of_a_dense_network(self):
        state = DependencyViT(**{**NANO, "pool": "message"}).state_dict()
        lacking = DependencyViT(**NANO).load_state_dict(state, strict=False)
        assert set(lacking.missing_keys) == {"norm1.weight", "norm1.bias"} and not lacking.unexpected_keys

    def test_messages_pass_at_the_start(self):
        messages = DependencyViT(**NANO).eval().dependency(image()).messages
        assert messages[-1].mean().item() == pytest.approx(0.982**4, abs=0.01)


class TestMaps:
    @torch.no_grad()
    @pytest.mark.parametrize(("height", "width", "grid"), [(64, 64, (4, 4)), (50, 100, (4, 7)), (1, 17, (1, 2))])
    def test_any_size(self, height: int, width: int, grid: tuple[int, int]):
        maps = nano()(image(1, height, width))
        assert [x.shape for x in maps] == [(1, 24, *grid)] * 2

    @torch.no_grad()
    def test_each_map_is_normalised_on_its_own(self):
        net = nano()
        for x in net(image()):
            assert x.mean(1).abs().max() < 1e-5
        nn.init.constant_(net.norm1.bias, 5.0)
        first, second = net(image())
        assert first.mean() == pytest.approx(5, abs=1e-4) and second.mean() == pytest.approx(0, abs=1e-4)

    def test_blocks_that_are_not_needed_are_not_built(self):
        assert len(DependencyViT("tiny", out_indices=(3, 5)).blocks) == 6
        assert len(DependencyViT("tiny", out_indices=-1).blocks) == 12

    @torch.no_grad()
    def test_positions_are_learnt_on_the_training_grid_and_interpolated(self):
        net = nano()
        nn.init.zeros_(net.pos_embed)
        plain = net(image(1, 64, 64))[0], net(image(1, 96, 64))[0]
        net.pos_embed.data += torch.randn(24)  # the same everywhere
        shifted = net(image(1, 64, 64))[0], net(image(1, 96, 64))[0]
        net.pos_embed.data[:, 0] += torch.randn(24)
        moved = net(image(1, 96, 64))[0]
        assert all((x - y).abs().max() > 1e-3 for x, y in zip(plain, shifted))
        change = (moved - shifted[1]).abs().amax((0, 1))
        assert change[0, 0] > 3 * change[5, 3]

    @torch.no_grad()
    @pytest.mark.parametrize("options", [dict(), dict(pool="message"), dict(pool="mean"), dict(pool="root")])
    @pytest.mark.parametrize("form", ["dense", "chunked", "fused"])
    def test_padding_in_a_batch_changes_nothing(self, options: dict, form: str):
        """Positions apart, which are interpolated over the batch's size."""
        net = nano(**options, attention_form=form)
        nn.init.zeros_(net.pos_embed)
        small = image(1, 48, 32)
        padded = torch.zeros(1, 3, 64, 80)
        padded[:, :, :48, :32] = small
        for x, y in zip(net(padded, sizes=[(48, 32)]), net(small)):
            assert (x[:, :, :3, :2] - y).abs().max() < 1e-4
        assert (net(padded)[0][:, :, :3, :2] - net(small)[0]).abs().max() > 1e-3

    @torch.no_grad()
    def test_the_convolution_stem(self):
        assert nano(stem="conv")(image(1, 50, 64))[0].shape == (1, 24, 4, 4)


class TestPools:
    @torch.no_grad()
    def test_the_pooled_vector_is_the_weighted_mean(self):
        net = nano(pool="message")
        tokens = nano(out_indices=(3,))
        tokens.load_state_dict(net.state_dict())
        (x,), message = tokens(image()), tokens.dependency(image()).messages[-1]
        expected = (x.flatten(2) * message[:, None]).sum(2) / message.sum(1, keepdim=True)
        (given,) = net(image())
        assert given.shape == (2, 24, 1, 1)
        assert (given.flatten(1) - expected).abs().max() < 1e-5

    @torch.no_grad()
    def test_mean_and_root(self):
        tokens = nano(out_indices=(3,))
        (x,), received = tokens(image()), tokens.dependency(image()).received()
        for pool, expected in (("mean", x.mean((2, 3))), ("root", x.flatten(2)[[0, 1], :, received.argmax(1)])):
            net = nano(pool=pool)
            net.load_state_dict(tokens.state_dict())
            assert (net(image())[0].flatten(1) - expected).abs().max() < 1e-5


class TestPruning:
    @torch.no_grad()
    @pytest.mark.parametrize("score", ["message", "received"])
    @pytest.mark.parametrize(
        ("at", "counts"), [("entry", [16, 12, 8, 8]), ("attention", [16, 16, 12, 8]), ("block", [16, 16, 12, 8])]
    )
    def test_the_schedule(self, score: str, at: str, counts: list[int]):
        info = nano(prune=dict(EVERY, score=score, at=at)).dependency(image())
        assert [mask.shape[1] for mask in info.masks] == counts
        for index in info.index[2:]:
            assert (index.diff(dim=1) > 0).all()
        assert info.total().shape == (2, 16, 16)

    @torch.no_grad()
    def test_the_tokens_that_send_least_go(self):
        net = nano(prune=dict(blocks=(2,), ratio=0.25))
        info, first = net.dependency(image()), nano_like(net).dependency(image()).messages[0]
        gone = [set(range(16)) - set(kept.tolist()) for kept in info.index[1]]
        assert gone == [set(message.argsort()[:4].tolist()) for message in first]

    @torch.no_grad()
    def test_a_ratio_of_zero_is_the_full_network(self):
        net = nano(prune=dict(EVERY, ratio=0.0))
        for x, y in zip(net(image()), nano_like(net)(image())):
            assert torch.equal(x, y)

    @torch.no_grad()
    def test_removing_what_neither_sends_nor_receives_is_exact(self):
        """With a valve that shuts in the first block, and sizes that bar the same tokens as recipients."""
        net = nano(pool="message", prune=dict(blocks=(2,), ratio=0.25))
        x = image(1, 64, 48)
        x = torch.cat([x, torch.zeros(1, 3, 64, 16)], 3)
        assert (net(x, sizes=[(64, 48)])[0] - nano_like(net)(x, sizes=[(64, 48)])[0]).abs().max() < 1e-5

    @torch.no_grad()
    def test_restoration(self):
        outs, state = {}, nano().state_dict()
        for restore in ("last", "parent", "zero"):
            net = nano(prune=dict(EVERY, restore=restore))
            net.load_state_dict(state)
            outs[restore] = net(image())[1].flatten(2)  # (2, 24, 16)
        kept = net.dependency(image()).index[-1]
        alive = torch.zeros(2, 16, dtype=torch.bool).scatter(1, kept, True)[:, None].expand(-1, 24, -1)
        assert torch.equal(outs["last"][alive], outs["zero"][alive])
        assert torch.equal(outs["last"][alive], outs["parent"][alive])
        assert outs["zero"][~alive].abs().max() == 0
        assert outs["last"][~alive].abs().min() > 0
        for b in range(2):  # a dropped token is a copy of one that stayed
            gone = [i for i in range(16) if i not in kept[b].tolist()]
            near = (outs["parent"][b][:, gone].T[:, None] - outs["parent"][b][:, kept[b]].T[None]).abs().amax(2)
            assert (near.amin(1) == 0).sum() >= len(gone) - 1  # a dropped root has no ancestor

    def test_gradients_pass_through_pruning_and_restoration(self):
        net = nano(prune=EVERY).train()
        sum(x.square().mean() for x in net(image())).backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def nano_like(net: DependencyViT) -> DependencyViT:
    """The same network without pruning."""
    made = nano(pool=net.pool)
    made.load_state_dict(net.state_dict())
    return made


class TestDependency:
    @torch.no_grad()
    def test_masks_hold_what_the_messages_say(self):
        info = nano().dependency(image(2, 64, 48))
        assert info.grid == (4, 3) and len(info.masks) == len(info.messages) == 4
        for mask, message in zip(info.masks, info.messages):
            assert (mask.sum(1) - message).abs().max() < 1e-6
        for before, after in zip(info.messages, info.messages[1:]):
            assert (after <= before).all()

    def test_gradients_reach_every_part_of_the_attention(self):
        net = nano(pool="message").train()
        net(image())[0].square().sum().backward()
        for name in ("head_selector", "message_controller.fc1", "message_controller.fc2", "qkv"):
            assert all(block.attn.get_submodule(name).weight.grad.abs().sum() > 0 for block in net.blocks)
        assert net.pos_embed.grad.abs().min() > 0

    @torch.no_grad()
    def test_forward_attention_is_another_function_of_the_same_parameters(self):
        net = nano()
        other = nano(attention="forward")
        other.load_state_dict(net.state_dict())
        assert (net(image())[1] - other(image())[1]).abs().max() > 0.1

    @torch.no_grad()
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_mixed_precision(self, dtype: torch.dtype):
        net = nano(prune=EVERY)
        expected = net(image())[0]
        with torch.autocast("cpu", dtype):
            given = net(image())[0]
        assert given.isfinite().all() and (given - expected).abs().mean() < 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(arch="smal"), 'did you mean "small"'),
        (dict(arch=dict(depth=3)), 'arch has no key "depth"'),
        (dict(arch=dict(embed_dims=100)), "embed_dims a multiple of num_heads"),
        (dict(out_indices=(3, 12)), "within 0..11"),
        (dict(pool="massage"), 'did you mean "message"'),
        (dict(attention="backward"), 'attention = "backward"'),
        (dict(attention_form="fussed"), 'did you mean "fused"'),
        (dict(prune=dict(block=(1,))), 'did you mean "blocks"'),
        (dict(prune=dict(blocks=(0, 3))), "within 1..12"),
        (dict(prune=dict(ratio=0.25)), "leaves no token"),
        (dict(prune=dict(restore="first")), 'prune.restore = "first"'),
        (dict(tau=0), "tau = 0"),
        (dict(stem="conv", patch_size=12), "power of 2"),
    ],
)
def test_wrong_arguments(options: dict, message: str):
    with torch.device("meta"), pytest.raises(ConfigError, match=message):
        DependencyViT(**options)


def test_sizes_must_fit_the_batch():
    with pytest.raises(ConfigError, match="for each of 2 images"):
        nano()(image(), sizes=[(64, 64)])


def shapes(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures (count, 3, 16, 16) of a cross, a disc or a frame somewhere on noise, and which it is."""
    generator = torch.Generator().manual_seed(0)
    kind = torch.randint(0, 3, (count,), generator=generator)
    y, x = torch.meshgrid(torch.arange(-3, 4), torch.arange(-3, 4), indexing="ij")
    far = torch.maximum(y.abs(), x.abs())
    masks = torch.stack([(y == 0) | (x == 0), y**2 + x**2 <= 6, far >= 3]).float()
    pictures = 0.3 * torch.randn(count, 3, 16, 16, generator=generator)
    for i in range(count):
        top, left = torch.randint(0, 10, (2,), generator=generator).tolist()
        pictures[i, :, top : top + 7, left : left + 7] += masks[kind[i]] * (
            0.5 + torch.rand(3, 1, 1, generator=generator)
        )
    return pictures, kind


def test_it_learns():
    """Shapes at unknown places, colours that say nothing; 33 % without learning."""
    net = DependencyViT(
        dict(embed_dims=32, num_layers=3, num_heads=4), img_size=16, patch_size=4, out_indices=-1, pool="message",
        drop_path_rate=0.0, layer_scale_init=0.1, prune=dict(blocks=(3,), ratio=0.3),
    )  # fmt: skip
    head, (x, kind) = nn.Linear(32, 3), shapes(1256)
    optimizer = torch.optim.AdamW([*net.parameters(), *head.parameters()], lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(120):
        batch = torch.randint(0, 1000, (48,), generator=generator)
        loss = nn.functional.cross_entropy(head(net(x[batch])[0].flatten(1)), kind[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = head(net.eval()(x[1000:])[0].flatten(1)).argmax(1)
    assert (found == kind[1000:]).float().mean() > 0.7
