"""Several optimisers on one loss: which parameters each trains, that all step, and what is refused."""

import pytest
import torch
from torch import nn

from visionpatch.engine import OptimizerPerPart
from visionpatch.errors import ConfigError

SGD = dict(type="SGD", lr=0.5)


def model() -> nn.ModuleDict:
    torch.manual_seed(0)
    return nn.ModuleDict(dict(body=nn.Linear(2, 2), head=nn.Linear(2, 1), header=nn.Linear(1, 1)))


def test_each_part_takes_its_own_step():
    net = model()
    net.body.bias.requires_grad_(False)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    wrapper = OptimizerPerPart(dict(head=dict(parts=["head"], optimizer=dict(SGD, lr=2.0)), rest=dict(optimizer=SGD)))(
        net
    )
    assert [len(wrapper[name].param_groups[0]["params"]) for name in ("head", "rest")] == [2, 3]
    for _ in range(2):  # gradients do not pile up
        loss = sum(p.sum() for p in net.parameters())
        with wrapper.optim_context(net):
            wrapper.update_params(loss)
    for name, p in net.named_parameters():
        step = 0.0 if name == "body.bias" else 4.0 if name.startswith("head.") else 1.0
        torch.testing.assert_close(before[name] - p, torch.full_like(p, step))
    assert wrapper.get_lr() == {"head.lr": [2.0], "rest.lr": [0.5]}
    assert wrapper["head"].inner_count == wrapper["rest"].inner_count == 2


def test_gradients_are_clipped_part_by_part():
    net = model()
    clipped = dict(parts=["head"], optimizer=dict(SGD, lr=1.0), clip_grad=dict(max_norm=0.5))
    wrapper = OptimizerPerPart(dict(head=clipped, rest=dict(optimizer=SGD)))(net)
    before = nn.utils.parameters_to_vector(net.head.parameters()).detach().clone()
    wrapper.update_params(sum(p.sum() for p in net.parameters()))
    moved = before - nn.utils.parameters_to_vector(net.head.parameters())
    assert moved.norm().item() == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (dict(a=dict(optimizer=SGD), b=dict(optimizer=SGD)), r"at most one entry goes without parts.*\['a', 'b'\]"),
        (dict(a=dict(optimizer=SGD, part=["head"])), 'optim_wrapper.a has no key "part"; did you mean "parts"'),
        (dict(a=dict(parts=["head"])), "optim_wrapper.a has no optimizer"),
        (dict(a=dict(parts=["heads"], optimizer=SGD), b=dict(optimizer=SGD)), r"optim_wrapper.a: no parameter.*heads"),
        (dict(a=dict(parts=["head"], optimizer=SGD)), r"body\.weight belongs to 0 entries"),
        (dict(a=dict(parts=["head"], optimizer=SGD), b=dict(parts=["head.bias"], optimizer=SGD), c=dict(optimizer=SGD)),
         r"head\.bias belongs to 2 entries \['a', 'b'\]"),
    ],
)  # fmt: skip
def test_wrong_entries(entries, message):
    with pytest.raises(ConfigError, match=message):
        OptimizerPerPart(entries)(model())


def test_paramwise_cfg_is_refused():
    with pytest.raises(ConfigError, match="takes no paramwise_cfg"):
        OptimizerPerPart(dict(a=dict(optimizer=SGD)), paramwise_cfg=dict(norm_decay_mult=0.0))
