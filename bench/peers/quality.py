#!/usr/bin/env python3
"""Trains DCGAN or WGAN-GP on MNIST with PyTorch as bench/quality.c trains them with gan.h (networks, settings, batch,
number of steps, the first 50,000 images) and writes 10,000 samples for the judge:

    quality.py dcgan --data train-images-idx3-ubyte --steps 12000 --ngf 32 --ndf 32 --ema 0.999 --out FILE
    quality.py wgan-gp --data ... --steps 15000 --ngf 32 --ndf 32 --lr 4e-4 --n-critic 3 --ema 0.999 --out FILE
    build/quality ... score torch-dcgan FILE    (or torch-wgan-gp: make quality keeps rows of these names)
"""
import argparse
import copy
import struct
import sys
import time

import numpy as np
import torch
from torch import nn

import steps

BATCH, LATENT, TRAINED, SAMPLES = 64, 100, 50000, 10000


def read_images(path):
    with open(path, "rb") as file:
        magic, count, height, width = struct.unpack(">4i", file.read(16))
        if magic != 2051 or count < TRAINED:
            sys.exit(f"{path}: expected an IDX file of {TRAINED} images or more, found magic {magic}, count {count}")
        data = np.frombuffer(file.read(TRAINED * height * width), np.uint8).reshape(TRAINED, 1, height, width)
    data = np.pad(data, ((0, 0), (0, 0), (2, 2), (2, 2)))  # 28 x 28 to 32 x 32
    return torch.tensor(data.astype(np.float32) / 127.5 - 1)


def write_images(path, images):
    data = np.clip(np.rint((images.numpy()[..., 2:-2, 2:-2] + 1) * 127.5), 0, 255).astype(np.uint8)
    with open(path, "wb") as file:
        file.write(struct.pack(">4i", 2051, len(data), *data.shape[2:]) + data.tobytes())


def start(module):
    """Initial values of pytorch/examples' dcgan."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


class Average:
    """A copy of g whose weights and statistics are averaged over the updates, as gan.h's option ema."""

    def __init__(self, g, decay):
        self.g, self.decay, self.net = g, decay, copy.deepcopy(g)

    @torch.no_grad()
    def update(self):
        for mean, value in zip(self.net.state_dict().values(), self.g.state_dict().values()):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - self.decay)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("system", choices=["dcgan", "wgan-gp"])
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--ngf", type=int, default=64)
    parser.add_argument("--ndf", type=int, default=64)
    parser.add_argument("--lr", type=float, help="default: 2e-4, of wgan-gp 1e-4")
    parser.add_argument("--n-critic", type=int, default=5)
    parser.add_argument("--ema", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    data, critic = read_images(args.data), args.system == "wgan-gp"
    g, d = steps.dcgan_networks(32, 1, LATENT, args.ngf, args.ndf, critic=critic)
    g.apply(start)
    d.apply(start)
    if critic:
        trainer = steps.wgan_gp(g, d, n_critic=args.n_critic, lr=args.lr or 1e-4)
    else:
        trainer = steps.Trainer(g, d, "dg", lr=args.lr or 2e-4)
    average = Average(g, args.ema)
    order, began = torch.randperm(TRAINED), time.process_time()
    for step in range(args.steps):
        at = step * BATCH % TRAINED
        if at + BATCH > TRAINED:
            order = torch.randperm(TRAINED)
            at = 0
        images, z = data[order[at:at + BATCH]], torch.randn(BATCH, LATENT, 1, 1)
        more = {"z_g": torch.randn(BATCH, LATENT, 1, 1), "epsilon": torch.rand(BATCH, 1, 1, 1)} if critic else {}
        losses = trainer.step(images, z, **more)
        if not critic or trainer.steps % args.n_critic == 0:
            average.update()
        if step % 50 == 49:
            left = (time.process_time() - began) / (step + 1) * (args.steps - step - 1) / 60
            print(f"\r{args.system}: step {step + 1} of {args.steps}, {left:.1f} processor minutes left, "
                  f"losses {losses[0]:.3f} {losses[1]:.3f}  ", end="", file=sys.stderr, flush=True)
    print(f"\n{args.system}: {(time.process_time() - began) / 60:.1f} processor minutes", file=sys.stderr)
    g = average.net.eval()
    with torch.no_grad():
        write_images(args.out, torch.cat([g(torch.randn(100, LATENT, 1, 1)) for _ in range(SAMPLES // 100)]))


if __name__ == "__main__":
    main()
