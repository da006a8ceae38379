"""Self-calibrated cross attention against a slow rendering of its definition, token by token."""

import math

import pytest
import torch
from torch import nn

from visionpatch.layers.scca import PatchAlignment, SCCABlock, SCCATransformer

DIM, HEADS, SIDE = 8, 2, 4


def reference_block(block: SCCABlock, query, support, mask, owner):
    """The block for each query alone, over explicit lists of the tokens of each patch; tokens off the map are zeros."""
    height, width = query.shape[1:3]
    begins = [range(-block.shift, side + (block.shift > 0) * block.shift, SIDE) for side in (height, width)]

    def patches(tokens, channels):
        """Lists of (place or None, token) for every patch, row by row."""
        zero = torch.zeros(channels, dtype=tokens.dtype)
        return [
            [
                ((y, x), tokens[y, x]) if 0 <= y < height and 0 <= x < width else (None, zero)
                for y in range(top, top + SIDE)
                for x in range(left, left + SIDE)
            ]
            for top in begins[0]
            for left in begins[1]
        ]

    def attend(layer, q, near, far):
        out, d = [], DIM // HEADS
        for h in range(HEADS):
            part = slice(h * d, h * d + d)
            keys = [layer.kv(token)[:DIM][part] for token in near + far]
            values = [layer.kv(token)[DIM:][part] for token in near + far]
            query_part = layer.q(q)[part]
            scores = [query_part @ k / math.sqrt(d) for k in keys[: len(near)]]
            scores += [query_part @ k / (query_part.norm() * k.norm() + 1e-7) for k in keys[len(near) :]]
            weights = torch.stack(scores).softmax(0)
            out.append(sum(w * v for w, v in zip(weights, values)))
        return layer.proj(torch.cat(out))

    results, choices, others = [], [], support.clone()
    for b in range(len(query)):
        own = patches(block.norm1(query[b]), DIM)
        other = patches(block.norm1(support[owner[b]]), DIM)
        weight = patches(mask[owner[b]].unsqueeze(-1), 1)
        attended = torch.zeros_like(query[b])
        chosen = []
        for patch in own:
            ours = torch.stack([token for _, token in patch]).mean(0)
            scores = []
            for tokens, soft in zip(other, weight):
                total = sum(w.item() for _, w in soft)
                theirs = sum(w * t for (_, t), (_, w) in zip(tokens, soft)) / (total + 5e-4)
                cosine = ours @ theirs / (ours.norm() * theirs.norm() + 1e-7)
                scores.append((cosine.item() + 1) / 2 if total else 0.0)
            chosen.append(scores.index(max(scores)))
            far = [token for _, token in other[chosen[-1]]]
            near = [token for _, token in patch]
            for place, token in patch:
                if place is not None:
                    attended[place] = attend(block.query_attn, token, near, far)
        x = query[b] + attended
        results.append(x + block.query_mlp(block.norm2(x)))
        choices.append(chosen)
        attended = torch.zeros_like(query[b])
        for patch in other:
            near = [token for _, token in patch]
            for place, token in patch:
                if place is not None:
                    attended[place] = attend(block.support_attn, token, near, [])
        y = support[owner[b]] + attended
        others[owner[b]] = y + block.support_mlp(block.norm2(y))
    return torch.stack(results), others, torch.tensor(choices)


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("size", [(8, 8), (8, 12), (6, 9)])
@torch.no_grad()
def test_a_block_is_its_definition(shift, size):
    torch.manual_seed(0)
    block = SCCABlock(DIM, HEADS, SIDE, shift, 1.0).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    query, support = torch.randn(2, *size, DIM).double(), torch.randn(2, *size, DIM).double()
    mask = torch.rand(2, *size).double()
    mask[:, :, 5:] = 0
    owner = torch.tensor([1, 0])
    seen = []
    block.align.register_forward_hook(lambda module, args, output: seen.append(output))
    shown = block.shown(support, mask)
    given = block(query, shown, owner), block.next_support(support, shown)
    expected = reference_block(block, query, support, mask, owner)
    assert torch.equal(seen[0], expected[2])
    torch.testing.assert_close(given[0], expected[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(given[1], expected[1], rtol=1e-6, atol=1e-6)


def test_a_shared_support_set_gives_what_copies_give():
    torch.manual_seed(0)
    net = SCCATransformer(DIM, 3, HEADS, SIDE, 2.0)
    query, support, mask = torch.randn(3, 8, 12, DIM), torch.randn(2, 8, 12, DIM), torch.rand(2, 8, 12)
    owner = torch.tensor([1, 0, 1])
    shared, _ = net(query, support, mask, owner)
    copied, _ = net(query, support[owner], mask[owner], torch.arange(3))
    torch.testing.assert_close(shared, copied, rtol=1e-5, atol=1e-5)
    for i in range(3):
        alone, _ = net(query[i : i + 1], support, mask, owner[i : i + 1])
        torch.testing.assert_close(alone[0], shared[i], rtol=1e-5, atol=1e-5)


def test_the_last_support_half_is_left_out_and_gets_no_gradient():
    torch.manual_seed(0)
    net = SCCATransformer(DIM, 2, HEADS, SIDE, 1.0)
    data = torch.randn(1, 8, 8, DIM), torch.randn(1, 8, 8, DIM), torch.rand(1, 8, 8), torch.zeros(1, dtype=torch.long)
    query, entered = net(*data)
    assert torch.equal(query, net(*data, with_support=True)[0])
    assert not torch.equal(entered, net(*data, with_support=True)[1])
    query.square().mean().backward()
    unused = {name for name, p in net.named_parameters() if p.grad is None}
    assert unused == {name for name, _ in net.named_parameters() if name.startswith("blocks.1.support_")}
    assert len(unused) == 10


def test_equal_scores_take_the_first_patch():
    align, patch = PatchAlignment(), torch.randn(1, 1, 16, DIM)
    query, support = torch.randn(1, 6, 16, DIM), patch.expand(1, 6, 16, DIM)
    assert align(query, support, torch.ones(1, 6, 16), torch.tensor([0])).tolist() == [[0] * 6]
    support, empty = torch.randn(1, 6, 16, DIM), torch.zeros(1, 6, 16)
    assert align(query, support, empty, torch.tensor([0])).tolist() == [[0] * 6]
    empty[:, 3] = 1e-3  # the only patch that shows the class wins, however unlike it is
    assert align(query, support, empty, torch.tensor([0])).tolist() == [[3] * 6]
