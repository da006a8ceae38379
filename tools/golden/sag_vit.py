"""Adapter of the published SAG-ViT classifier."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from visionpatch.backbones.sag_vit import PUBLISHED, SAGViT, insertion_cells
from visionpatch.converters.sag_vit import convert
from visionpatch.errors import ConfigError
from visionpatch.heads import MLPClsHead
from visionpatch.layers.grid_graph import PatchGrid
from visionpatch.models import Classifier

# the published constructor's arguments and their defaults
ARGUMENTS = dict(patch_size=(4, 4), num_classes=10, d_model=64, nhead=4, num_layers=2, dim_feedforward=64,
                 hidden_mlp_features=64, in_channels=2560, gcn_hidden=128, gcn_out=64)  # fmt: skip


def build(given: Mapping, state: Mapping[str, Tensor]) -> Classifier:
    """Our model for the published constructor's arguments; the number of graph heads is seen in the weights."""
    unknown = set(given) - set(ARGUMENTS)
    if unknown:
        raise ConfigError(f"published arguments {sorted(unknown)} are not known; known: {sorted(ARGUMENTS)}")
    args = {**ARGUMENTS, **given}
    heads = next((x.shape[-2] for name, x in state.items() if name.endswith("att_src")), 4)
    backbone = SAGViT(
        patch_size=args["patch_size"],
        gat_channels=args["gcn_hidden"],
        gat_heads=heads,
        embed_dims=args["d_model"],
        num_heads=args["nhead"],
        num_layers=args["num_layers"],
        ffn_channels=args["dim_feedforward"],
        out_indices=(3,),
        **PUBLISHED,
    )
    if (args["in_channels"], args["gcn_out"]) != (backbone.gat.proj.in_features, args["d_model"]):
        raise ConfigError(
            f"published arguments in_channels = {args['in_channels']}, gcn_out = {args['gcn_out']} do not fit "
            f"patch_size = {args['patch_size']}, d_model = {args['d_model']}"
        )
    head = MLPClsHead(args["d_model"], args["num_classes"], hidden_channels=args["hidden_mlp_features"])
    return Classifier(backbone, head)


def run(case: Mapping, arrays: Mapping, state: Mapping[str, Tensor], draw: Callable) -> dict[str, Tensor]:
    """Logits, every stage on the way, the graph, and the gradient at the input."""
    model = build(case["model"], state).eval()
    model.load_state_dict(convert(state), strict=True)  # torch fills in the counters that the norms lack
    net, (spec,) = model.backbone, case["inputs"].values()
    image = (draw(spec["draw"], spec["shape"]) * spec.get("scale", 1.0)).requires_grad_()
    feature = net.trunk(image)[-1]
    patches, grid, shares = net.cut(feature)  # nodes in the order of cells
    nodes = net.gat(patches, grid)
    mixed = net.gcn(nodes.relu(), grid)
    pooled = net.encode(patches, grid, shares)
    tokens = torch.cat([pooled + net.position, net.extra.expand(len(pooled), 1, -1)], 1)
    for layer in net.encoder:
        tokens = layer(tokens)
    logits = model.head((net.mix(pooled, grid),))
    order = insertion_cells(grid.height, grid.width)
    outputs = dict(logits=logits, feature_map=feature, gat_nodes=nodes[:, order], gcn_nodes=mixed[:, order])
    outputs |= dict(graph_embedding=pooled[:, 0], transformer_tokens=tokens, node_order=order)
    if "edge_index" in arrays:
        outputs["edge_index"] = edges(grid, order, torch.from_numpy(arrays["edge_index"]))
    if any(name.startswith("grad_input") for name in arrays):
        (logits * draw("cotangent", logits.shape)).sum().backward()
        grad = image.grad
        assert grad is not None
        outputs |= dict(grad_input=grad, grad_input_mean_std=torch.stack([grad.mean(), grad.std()]))
    return outputs


def edges(grid: PatchGrid, order: Tensor, stored: Tensor) -> Tensor:
    """Our directed edges (2, E) between the published nodes; as stored where they are the same, in whichever order."""
    cells = grid.height * grid.width
    links = PatchGrid(grid.height, grid.width, order.device, dense=True).links[0, :, 0]  # (N, N)
    ours = (links & ~torch.eye(cells, dtype=torch.bool))[order][:, order].nonzero().T
    number = stored[0] * cells + stored[1]
    same = stored.shape == ours.shape and torch.equal(number.sort().values, ours[0] * cells + ours[1])
    return stored if same else ours


ADAPTERS = {"SAGViTClassifier": run}
