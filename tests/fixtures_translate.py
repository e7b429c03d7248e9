#!/usr/bin/env python3
"""Writes tests/fixtures/translate.safetensors with PyTorch: outputs of U-Nets, and the first training losses of pix2pix,
CycleGAN, DualGAN and DiscoGAN, for tests/test_translate.c. The networks are those of bench/peers/translate.py and hd.py.

Run from anywhere: python3 tests/fixtures_translate.py
"""
import numpy as np
import torch

import fixtures
import hd
import translate as peers

SEED = 1
STRIDE = 101  # so many values of an output, one is stored


def forward(name, net, shape):
    with torch.no_grad():
        net = net.double()
        fixtures.fill(name, net, SEED)
        y = net(torch.tensor(fixtures.random(f"{name}.x", shape, -1.0, 1.0, SEED), dtype=torch.float64))
    y = y.numpy().reshape(-1)[::STRIDE].astype(np.float32)
    print(f"{name}: {y.size} values, largest {np.abs(y).max():.3g}")
    fixtures.files.setdefault("translate", {})[f"{name}.out.y"] = y


def networks():
    forward("unet_256", peers.Unet(3, 3, 8, 4), (1, 3, 256, 256))
    forward("unet_128", peers.Unet(3, 3, 7, 4), (1, 3, 128, 128))
    forward("unet_64_instance", peers.Unet(1, 2, 6, 4, "instance"), (2, 1, 64, 64))
    forward("unet_wide", peers.Unet(3, 3, 5, 8), (1, 3, 64, 96))
    forward("unet_odd", peers.Unet(3, 3, 4, 4, "affine", 3, 5), (2, 3, 32, 48))


def train(name, make, size=32, seed=1, batch=2, count=10, prefix="", **inputs):
    images = {key: fixtures.Range(-1.0, 1.0, batch, 3, size, size) for key in "ab"}
    fixtures.train(name, make, batch, None, None, seed, prefix, count, "translate", **images, **inputs)


def training():
    def pix2pix(d, norm="batch", **options):
        return lambda: peers.Pix2pix(peers.Unet(3, 3, 5, 4, norm), d(), **options)

    def cyclegan(make_g, **options):
        return lambda: peers.CycleGan(make_g, lambda: hd.PatchDiscriminator(3, 4, 2, "instance"), **options)

    def dualgan(loss, size, levels, patch=False):
        return lambda: peers.DualGan(lambda: peers.Unet(3, 3, 5, 4, "affine", 3, 5),
                                     lambda: peers.DualCritic(size, 3, 4, levels, patch), loss, clip=0.1)

    def discogan(size, bottleneck=0, **options):
        levels = {28: 2, 32: 3}[size]
        side = size >> levels
        return lambda: peers.DiscoGan(lambda: peers.DiscoGenerator(3, 3, 4, levels, bottleneck, side),
                                      lambda: peers.DiscoDiscriminator(3, 4, levels, side), **options)

    def resnet():
        return hd.ResnetGenerator(3, 3, 4, 1)

    def unet():
        return peers.Unet(3, 3, 5, 4, "instance")

    train("pix2pix", pix2pix(lambda: hd.PatchDiscriminator(6, 4, 3, "batch")))
    train("pix2pix_pixel", pix2pix(lambda: hd.PixelDiscriminator(6, 4, "batch"), loss=peers.least_squares),
          prefix="net.")
    train("pix2pix_instance", pix2pix(lambda: hd.PatchDiscriminator(6, 4, 1, "instance"), "instance"))
    train("cyclegan", cyclegan(resnet), size=16)
    train("cyclegan_unet", cyclegan(unet, identity=0.0), seed=2)
    train("dualgan", dualgan("wgan", 32, 3), seed=2)
    train("dualgan_gp", dualgan("wgan-gp", 32, 3, True), epsilon_a=(2, 1, 1, 1), epsilon_b=(2, 1, 1, 1))
    train("dualgan_classic", dualgan("classic", 32, 3))
    train("discogan", discogan(32, start=5), batch=4)
    train("discogan_bottleneck", discogan(28, 6, rate=0.9, start_rate=0.9, layers=1), size=28, batch=4)


if __name__ == "__main__":
    networks()
    training()
    fixtures.write_files()
