"""The released SBER-MoVQGAN of 67 M parameters with its recipe as that code computes it; 102M and 270M by an option.

    python tools/train.py configs/movq/movq-67m_8xb20-2m_imagenet-256x256.py
    python tools/test.py configs/movq/movq-67m_8xb20-2m_imagenet-256x256.py movq.pth  # a converted release
    python tools/test.py configs/movq/movq-67m_8xb20-2m_imagenet-256x256.py movq.pth --cfg-options arch=270M

Expected: PSNR 26.449, SSIM 0.725, L1 0.0415 on ImageNet's validation pictures, quoted from the README of the published code;
not measured here. Trained there on LAION HighRes for 2 M steps; any folder of pictures serves in its place. Its batches
are 10 and 8 a device for 102M and 270M.
"""
_base_ = ["../_base_/datasets/imagenet_pictures.py", "../_base_/default_runtime.py"]
arch = "67M"  # or 102M, 270M
lpips = None  # the published vgg.pth; without it the perceptual distance is that of EfficientNet-Lite0's features
model = dict(
    type="ImageTokenizer",
    arch=arch,
    loss=dict(
        type="TokenizerLoss",
        pixel="l2",
        perceptual=dict(type="LPIPS", checkpoint=lpips) if lpips else dict(type="FeatureDistance"),
        perceptual_weight=0.1,
        adversarial_weight=0.1,
        adaptive=False,
    ),
    discriminator=dict(num_layers=2),
)
adam = dict(type="Adam", lr=1e-4, betas=(0.5, 0.9))
clip = dict(type="value", clip_value=1.0)
optim_wrapper = dict(
    constructor="OptimizerPerPart",
    autoencoder=dict(optimizer=adam, clip_grad=clip),
    discriminator=dict(parts=["discriminator"], optimizer=adam, clip_grad=clip),
)
param_scheduler = dict(autoencoder=[], discriminator=[])
train_cfg = dict(type="IterBasedTrainLoop", max_iters=2000000, val_interval=20000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
val_evaluator = [dict(type="ImageQuality"), dict(type="CodebookUsage", codebook_size=16384)]
test_evaluator = val_evaluator
custom_hooks = [dict(type="EMAHook", momentum=1e-4)]
default_hooks = dict(
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=20000, max_keep_ckpts=2, save_best=None),
)
