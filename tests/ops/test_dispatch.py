import subprocess
import sys
import types

import pytest
import torch

from visionpatch import ops
from visionpatch.ops import __main__ as table
from visionpatch.ops import dispatch


@pytest.fixture
def mmcv(monkeypatch):
    """A compiled mmcv of one's own: a module whose functions are set by the test, its CUDA version "not available"."""
    package, module = types.ModuleType("mmcv"), types.ModuleType("mmcv.ops")
    package.__version__, package.ops = "9.9", module
    module.get_compiling_cuda_version = lambda: "not available"
    monkeypatch.setitem(sys.modules, "mmcv", package)
    monkeypatch.setitem(sys.modules, "mmcv.ops", module)
    dispatch.load.cache_clear()
    yield module
    dispatch.load.cache_clear()


def greedy(boxes, scores, iou_threshold, offset):
    """A stand-in for the kernel: keeps the best box."""
    calls.append((boxes.clone(), scores.clone(), iou_threshold, offset))
    return None, scores.argmax()[None]


calls: list = []


def test_importing_the_ops_imports_no_mmcv():
    code = "import sys, visionpatch.ops; sys.exit('mmcv' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_kernel_serves_the_dtype_it_knows(mmcv):
    mmcv.nms = greedy
    calls.clear()
    boxes, scores = torch.rand(5, 4), torch.rand(5)
    dets, keep = ops.nms(boxes, scores, 0.4, 1)
    assert keep.tolist() == [scores.argmax()] and calls[0][2:] == (0.4, 1)
    assert torch.equal(dets, torch.cat([boxes[keep], scores[keep, None]], 1))
    ops.nms(boxes.double(), scores.double(), 0.4)
    ops.nms(boxes, scores.double(), 0.4)
    ops.nms(boxes[:0], scores[:0], 0.4)
    assert len(calls) == 1


def test_the_kernel_is_called_group_by_group(mmcv):
    mmcv.nms = greedy
    calls.clear()
    scores = torch.tensor([0.1, 0.5, 0.3, 0.5])
    keep = ops.batched_nms(torch.rand(4, 4), scores, torch.tensor([3, 1, 3, 1]), dict(iou_threshold=0.5))[1]
    assert keep.tolist() == [1, 2] and [len(call[0]) for call in calls] == [2, 2]


def test_roi_align_and_deform_conv_reach_the_kernels(mmcv):
    seen = []
    mmcv.roi_align = lambda *args: seen.append(args[2:])
    mmcv.deform_conv2d = lambda *args: seen.append(args[3:])
    mmcv.modulated_deform_conv2d = lambda *args: seen.append(args[5:])
    image, rois = torch.zeros(6, 1, 4, 4), torch.tensor([[0, 0, 0, 3.0, 3]])
    ops.roi_align(image, rois, 2, 0.5, 1, "max", False)
    ops.deform_conv2d(image, torch.zeros(6, 2, 4, 4), torch.zeros(1, 1, 1, 1), im2col_step=4)
    ops.modulated_deform_conv2d(image, torch.zeros(6, 2, 4, 4), torch.zeros(6, 1, 4, 4), torch.zeros(1, 1, 1, 1))
    steps = ((1, 1), (0, 0), (1, 1), 1, 1)
    assert seen == [((2, 2), 0.5, 1, "max", False), (*steps, False, 3), steps]
    backwards = torch.tensor([[0, 3.0, 3, 0, 0]])  # which the kernel refuses
    assert ops.roi_align(image, backwards, 2).shape == (1, 1, 2, 2) and len(seen) == 3


@pytest.mark.parametrize("error", [ImportError("no _ext"), AssertionError("nms miss in module _ext"), OSError("")])
def test_a_broken_mmcv_leaves_the_torch_forms(monkeypatch, error):
    def broken(name):
        raise error

    monkeypatch.setattr(dispatch.importlib, "import_module", broken)
    dispatch.load.cache_clear()
    try:
        module, reason = dispatch.load()
        assert module is None and reason.startswith(type(error).__name__)
        assert ops.nms(torch.rand(3, 4), torch.rand(3), 0.5)[0].shape[1] == 5
    finally:
        dispatch.load.cache_clear()


def test_the_table_names_every_op_and_what_serves_it(mmcv, capsys):
    mmcv.nms = mmcv.soft_nms = mmcv.roi_align = mmcv.deform_conv2d = mmcv.modulated_deform_conv2d = greedy
    table.main()
    lines = capsys.readouterr().out.splitlines()
    rows = {cells[0]: cells[1] for line in lines if "│" in line for cells in [line.strip("│").split("│")]}
    rows = {name.strip(): text.strip() for name, text in rows.items()}
    assert set(rows) == set(ops.__all__)
    torch_only = {"multi_scale_deformable_attn", "point_sample", "sigmoid_focal_loss"}
    assert {name for name, text in rows.items() if text == "torch"} == torch_only
    assert {text for name, text in rows.items() if name not in torch_only} == {"mmcv 9.9"}
    assert lines[-1] == f"torch {torch.__version__}; compiled: mmcv 9.9"


def test_the_table_without_compiled_ops_says_why(monkeypatch, capsys):
    monkeypatch.setattr(dispatch, "load", lambda: (None, "ImportError: no _ext"))
    monkeypatch.setattr(table, "load", dispatch.load)
    table.main()
    assert "compiled: none (ImportError: no _ext)" in capsys.readouterr().out


def compiled_ops():
    module, reason = dispatch.load()
    return module or pytest.skip(f"no compiled mmcv: {reason}")


def test_torch_forms_and_kernels_give_the_same_numbers(monkeypatch):
    compiled_ops()
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(300, 2, generator=generator) * 100
    boxes = torch.cat([corner, corner + torch.rand(300, 2, generator=generator) * 40], 1)
    scores = (torch.rand(300, generator=generator) * 50).round() / 50
    groups = torch.arange(300) % 7
    image = torch.randn(2, 4, 30, 30, generator=generator)
    rois = torch.cat([groups[:, None].float() % 2, boxes], 1)
    offset, mask = torch.randn(2, 18, 30, 30, generator=generator) * 3, torch.rand(2, 9, 30, 30, generator=generator)
    weight = torch.randn(4, 4, 3, 3, generator=generator)

    def results():
        yield from ops.batched_nms(boxes, scores, groups, dict(iou_threshold=0.5))
        yield from ops.nms(boxes, scores, 0.5, 1)
        yield from ops.soft_nms(boxes, scores, method="gaussian")
        for mode in ("avg", "max"):
            yield ops.roi_align(image, rois, (7, 5), 0.25, 0, mode)
        yield ops.deform_conv2d(image, offset, weight, 1, 1)
        yield ops.modulated_deform_conv2d(image, offset, mask, weight, None, 1, 1)

    kernels = list(results())
    monkeypatch.setattr(dispatch, "KERNELS", {name: (what, {}) for name, (what, _) in dispatch.KERNELS.items()})
    for ours, theirs in zip(results(), kernels):
        assert torch.allclose(ours.float(), theirs.float(), rtol=1e-5, atol=1e-4)
