#!/usr/bin/env python3
"""The training steps of gan.h in PyTorch, to compare speed (main) and values (tests/fixtures.py).

    steps.py [--threads N] [--repeat N]

prints one line for each step: name threads median_ms. Networks, order of the updates and settings are those of
gan.h: GAN as eriklindernoren/PyTorch-GAN has it (with batch norm's eps 1e-5), DCGAN as pytorch/examples.
"""
import argparse
import statistics
import time

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits


def gan_networks(latent=100, pixels=784, g_widths=(128, 256, 512, 1024), d_widths=(512, 256)):
    """Goodfellow et al. 2014: two multilayer perceptrons; the discriminator ends in a logit."""
    g, width = [], latent
    for i, out in enumerate(g_widths):
        g += [nn.Linear(width, out)] + ([nn.BatchNorm1d(out)] if i else []) + [nn.LeakyReLU(0.2)]
        width = out
    g += [nn.Linear(width, pixels), nn.Tanh()]
    d, width = [], pixels
    for out in d_widths:
        d += [nn.Linear(width, out), nn.LeakyReLU(0.2)]
        width = out
    return nn.Sequential(*g), nn.Sequential(*d, nn.Linear(width, 1))


def dcgan_networks(size=64, channels=3, latent=100, ngf=64, ndf=64):
    """Radford et al. 2015: stages of 4/2/1 around a map of 4x4 (28: 7x7), no biases."""
    base, stages = size, 0
    while base % 2 == 0 and base >= 8:
        base, stages = base // 2, stages + 1
    width = ngf << (stages - 1)
    g = [nn.ConvTranspose2d(latent, width, base, 1, 0, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    for _ in range(stages - 1):
        g += [nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False), nn.BatchNorm2d(width // 2), nn.ReLU()]
        width //= 2
    g += [nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False), nn.Tanh()]
    d, width = [nn.Conv2d(channels, ndf, 4, 2, 1, bias=False), nn.LeakyReLU(0.2)], ndf
    for _ in range(stages - 1):
        d += [nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2)]
        width *= 2
    return nn.Sequential(*g), nn.Sequential(*d, nn.Conv2d(width, 1, base, 1, 0, bias=False))


def bce(logits, target):
    return binary_cross_entropy_with_logits(logits.flatten(), torch.full_like(logits.flatten(), target))


def least_squares(scores, target):
    return ((scores - target) ** 2).mean()


class Trainer:
    """Order "gd" (GAN) updates the generator first, "dg" (DCGAN, LSGAN) the discriminator. targets: what D is to give for
    generated images and for real ones, and what G wants it to give."""

    def __init__(self, g, d, order, loss=bce, targets=(0.0, 1.0, 1.0), lr=2e-4, betas=(0.5, 0.999)):
        self.g, self.d, self.order, self.loss, self.targets = g, d, order, loss, targets
        self.opt_g = torch.optim.Adam(g.parameters(), lr, betas)
        self.opt_d = torch.optim.Adam(d.parameters(), lr, betas)

    def step(self, images, z):
        """Returns (discriminator loss as the half sum, generator loss); both see the same fake images."""
        fake, losses = self.g(z), {}
        low, high, wanted = self.targets
        for turn in self.order:
            if turn == "g":
                optimiser, loss = self.opt_g, self.loss(self.d(fake), wanted)
            else:
                loss = (self.loss(self.d(images), high) + self.loss(self.d(fake.detach()), low)) / 2
                optimiser = self.opt_d
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses[turn] = loss.item()
        return losses["d"], losses["g"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    batch = 64
    cases = [
        ("step_gan_28x28_b64", Trainer(*gan_networks(), "gd"), (batch, 784), (batch, 100)),
        ("step_dcgan_64x64_b64", Trainer(*dcgan_networks(), "dg"), (batch, 3, 64, 64), (batch, 100, 1, 1)),
    ]
    for name, trainer, image_shape, latent_shape in cases:
        images, z, times = torch.rand(image_shape) * 2 - 1, torch.randn(latent_shape), []
        trainer.step(images, z)
        for _ in range(args.repeat):
            start = time.perf_counter()
            trainer.step(images, z)
            times.append((time.perf_counter() - start) * 1e3)
        print(f"{name} {args.threads} {statistics.median(times):.1f}", flush=True)


if __name__ == "__main__":
    main()
