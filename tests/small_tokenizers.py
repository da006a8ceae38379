"""Configs of a small tokenizer and a generator on its codes, for tests."""

from pathlib import Path

import torch

from visionpatch.apis import get_model

TOKENIZER = """dict(
    type="ImageTokenizer", channels=8, channel_mult=(1, 2, 2), num_res_blocks=1, attn_levels=(), num_groups=4,
    embed_channels=4, codebook_size=16, code_channels=2,
)"""
GENERATOR = f"""dict(
    type="MaskedTokenGenerator", tokenizer={TOKENIZER}, steps=3, transformer=dict(
        type="MaskedTokenTransformer", codebook_size=16, code_channels=2, map_size=(4, 6), channels=32, depth=1,
        num_heads=4, mlp_channels=48, num_classes=3,
    ),
)"""
REST = """
test_dataloader = dict(dataset=dict(
    type="ImageDataset", data_root="none", pipeline=[dict(type="LoadImage"), dict(type="PackInputs")],
))
"""


def write_models(folder: Path) -> Path:
    """tokenizer.py, generator.py and their weights, untrained, with codes that lie apart."""
    for name, model in (("tokenizer", TOKENIZER), ("generator", GENERATOR)):
        (folder / f"{name}.py").write_text(f"model = {model}\n{REST}")
        torch.manual_seed(0)
        net = get_model(folder / f"{name}.py")
        codebook = net.quantizer if name == "tokenizer" else net.tokenizer.quantizer
        torch.nn.init.normal_(codebook.embedding.weight)
        torch.save({"state_dict": net.state_dict(), "meta": {}}, folder / f"{name}.pth")
    return folder
