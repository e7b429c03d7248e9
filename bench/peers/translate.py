#!/usr/bin/env python3
"""The translators of gan.h in PyTorch, to compare speed and values (tests/fixtures_translate.py): pix2pix and CycleGAN
with the networks and names of junyanz/pytorch-CycleGAN-and-pix2pix (see also hd.py), DualGAN, DiscoGAN."""
import itertools

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss, mse_loss


def bce(score, target):
    return binary_cross_entropy_with_logits(score, torch.full_like(score, target))


def least_squares(score, target):
    return ((score - target) ** 2).mean()


def signed(score, target):
    """Wasserstein: real 1, generated -1."""
    return -target * score.mean()


def make_norm(kind):
    """(layer of some channels, do convolutions in front of it have a bias)"""
    return {"batch": (nn.BatchNorm2d, False), "instance": (nn.InstanceNorm2d, True),
            "affine": (lambda c: nn.InstanceNorm2d(c, eps=1e-6, affine=True), True)}[kind]


# --- networks --------------------------------------------------------------------------------------

class UnetBlock(nn.Module):
    """One level and, as its third or fourth layer, all levels below. Kernels 3 and 5 keep the geometry of 4/2/1."""

    def __init__(self, outer, inner, below, norm, channels_in=None, outermost=False, kernel=4, dropout=0.0):
        super().__init__()
        layer, bias = make_norm(norm)
        self.outermost = outermost
        geometry = {"kernel_size": kernel, "stride": 2, "padding": (kernel - 1) // 2}
        down = nn.Conv2d(channels_in or outer, inner, bias=bias, **geometry)
        up = nn.ConvTranspose2d(inner * (2 if below else 1), outer, bias=bias or outermost, output_padding=kernel % 2,
                                **geometry)
        if outermost:
            layers = [down, below, nn.ReLU(), up, nn.Tanh()]
        elif below:
            layers = [nn.LeakyReLU(0.2), down, layer(inner), below, nn.ReLU(), up, layer(outer)]
            layers += [nn.Dropout(dropout)] if dropout else []
        else:
            layers = [nn.LeakyReLU(0.2), down, nn.ReLU(), up, layer(outer)]
        self.model = nn.Sequential(*layers)

    def forward(self, x):
        return self.model(x) if self.outermost else torch.cat((x, self.model(x)), 1)


class Unet(nn.Module):
    def __init__(self, channels_in=3, channels_out=3, levels=8, ngf=64, norm="batch", kernel=4, outer=4, dropout=0.0):
        super().__init__()
        width = [ngf * min(2 ** i, 8) for i in range(levels)]
        block = None
        for i in range(levels - 1, 0, -1):
            block = UnetBlock(width[i - 1], width[i], block, norm, kernel=kernel,
                              dropout=dropout if 4 <= i < levels - 1 else 0.0)
        self.model = UnetBlock(channels_out, ngf, block, norm, channels_in, True, outer)

    def forward(self, x):
        return self.model(x)


class DualCritic(nn.Module):
    """Yi et al. 2017: halvings, then a linear layer or a convolution to one channel."""

    def __init__(self, size, channels=3, ndf=64, levels=5, patch=False):
        super().__init__()
        layer, _ = make_norm("affine")
        net, width = [nn.Conv2d(channels, ndf, 5, 2, 2), nn.LeakyReLU(0.2)], ndf
        for i in range(1, levels):
            wider = ndf * min(2 ** i, 8)
            net += [nn.Conv2d(width, wider, 3, 2, 1), layer(wider), nn.LeakyReLU(0.2)]
            width = wider
        last = nn.Conv2d(width, 1, 3, 2, 1) if patch else nn.Conv2d(width, 1, size >> levels)
        self.main = nn.Sequential(*net, last)

    def forward(self, x):
        return self.main(x)


class DiscoGenerator(nn.Module):
    """Kim et al. 2017; takes and gives [-1,1], works in [0,1]. levels 4 at 64x64; bottleneck: two more layers, through one
    vector."""

    def __init__(self, channels_in=3, channels_out=3, ngf=64, levels=4, bottleneck=0, side=4):
        super().__init__()
        widths, net, before = [ngf << i for i in range(levels)], [], channels_in
        for i, width in enumerate(widths):
            net += [nn.Conv2d(before, width, 4, 2, 1, bias=False)] + ([nn.BatchNorm2d(width)] if i else [])
            net += [nn.LeakyReLU(0.2)]
            before = width
        if bottleneck:
            net += [nn.Conv2d(before, bottleneck, side, 1, 0, bias=False), nn.BatchNorm2d(bottleneck), nn.LeakyReLU(0.2)]
            net += [nn.ConvTranspose2d(bottleneck, before, side, 1, 0, bias=False), nn.BatchNorm2d(before), nn.ReLU()]
        for width in reversed(widths[:-1]):
            net += [nn.ConvTranspose2d(before, width, 4, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        self.main = nn.Sequential(*net, nn.ConvTranspose2d(before, channels_out, 4, 2, 1, bias=False), nn.Sigmoid())

    def forward(self, x):
        return 2 * self.main((x + 1) / 2) - 1


class DiscoDiscriminator(nn.Module):
    """Gives logits, and fills self.features with the activations behind the second convolution and later ones."""

    def __init__(self, channels=3, ndf=64, levels=4, side=4):
        super().__init__()
        before, self.levels, self.features = channels, levels, []
        for i in range(levels):
            setattr(self, f"conv{i + 1}", nn.Conv2d(before, ndf << i, 4, 2, 1, bias=False))
            if i:
                setattr(self, f"bn{i + 1}", nn.BatchNorm2d(ndf << i))
            before = ndf << i
        setattr(self, f"conv{levels + 1}", nn.Conv2d(before, 1, side, 1, 0, bias=False))

    def forward(self, x):
        x, self.features = (x + 1) / 2, []
        for i in range(1, self.levels + 1):
            x = getattr(self, f"conv{i}")(x)
            x = nn.functional.leaky_relu(getattr(self, f"bn{i}")(x) if i > 1 else x, 0.2)
            self.features += [x] if i > 1 else []
        return getattr(self, f"conv{self.levels + 1}")(x)


# --- training steps --------------------------------------------------------------------------------

def update(optimiser, loss):
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


class Pix2pix:
    def __init__(self, g, d, loss=bce, weight=100.0, lr=2e-4, betas=(0.5, 0.999)):
        self.networks = {"generator": g, "discriminator": d}
        self.g, self.d, self.loss, self.weight = g, d, loss, weight
        self.opt_g = torch.optim.Adam(g.parameters(), lr, betas)
        self.opt_d = torch.optim.Adam(d.parameters(), lr, betas)

    def step(self, a, b):
        fake = self.g(a)
        loss_d = (self.loss(self.d(torch.cat((a, fake.detach()), 1)), 0.0) +
                  self.loss(self.d(torch.cat((a, b), 1)), 1.0)) / 2
        update(self.opt_d, loss_d)
        loss_g = self.loss(self.d(torch.cat((a, fake), 1)), 1.0) + self.weight * l1_loss(fake, b)
        update(self.opt_g, loss_g)
        return loss_d.item(), loss_g.item()


class Pair:
    """Two generators (a: from A to B) and two discriminators (a: judges B), all seen as pairs."""

    def __init__(self, make_g, make_d):
        self.g, self.d = [make_g(), make_g()], [make_d(), make_d()]
        self.networks = {"generator_a": self.g[0], "generator_b": self.g[1], "discriminator_a": self.d[0],
                     "discriminator_b": self.d[1]}

    def both(self, nets):
        return list(itertools.chain(*(net.parameters() for net in nets)))

    def judge(self, loss, real, fake, low=0.0):
        """Losses of both discriminators together."""
        return sum(loss(self.d[k](real[1 - k]), 1.0) + loss(self.d[k](fake[k].detach()), low) for k in (0, 1)) / 2


class CycleGan(Pair):
    """pool: None, or what is done to the generated images in front of the discriminator."""

    def __init__(self, make_g, make_d, weight=10.0, identity=0.5, pool=None, lr=2e-4, betas=(0.5, 0.999)):
        super().__init__(make_g, make_d)
        self.weight, self.identity, self.pool = weight, identity, pool or (lambda k, images: images)
        self.opt_g = torch.optim.Adam(self.both(self.g), lr, betas)
        self.opt_d = torch.optim.Adam(self.both(self.d), lr, betas)

    def step(self, a, b):
        real = (a, b)
        fake = [self.g[k](real[k]) for k in (0, 1)]
        loss_g = 0.0
        for k in (0, 1):
            loss_g = loss_g + least_squares(self.d[k](fake[k]), 1.0)
            loss_g = loss_g + self.weight * l1_loss(self.g[1 - k](fake[k]), real[k])
            if self.identity:
                loss_g = loss_g + self.weight * self.identity * l1_loss(self.g[k](real[1 - k]), real[1 - k])
        update(self.opt_g, loss_g)
        loss_d = self.judge(least_squares, real, [self.pool(k, fake[k]) for k in (0, 1)])
        update(self.opt_d, loss_d)
        return loss_d.item(), loss_g.item()


class DualGan(Pair):
    """loss: "wgan", "wgan-gp" or "classic". The critics' loss is half of the paper's."""

    def __init__(self, make_g, make_d, loss="wgan", weight=200.0, n_critic=3, clip=0.01, penalty=10.0, lr=5e-5,
                 alpha=0.9):
        super().__init__(make_g, make_d)
        self.loss, self.weight, self.n_critic, self.clip, self.penalty = loss, weight, n_critic, clip, penalty
        self.opt_g = torch.optim.RMSprop(self.both(self.g), lr, alpha)
        self.opt_d = torch.optim.RMSprop(self.both(self.d), lr, alpha)
        self.steps, self.loss_g = 0, 0.0

    def gradient_penalty(self, d, real, fake, epsilon):
        between = (epsilon * real + (1 - epsilon) * fake.detach()).requires_grad_()
        gradient, = torch.autograd.grad(d(between).sum(), between, create_graph=True)
        return self.penalty / 2 * ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()

    def step(self, a, b, epsilon_a=None, epsilon_b=None):
        real, epsilon = (a, b), (epsilon_a, epsilon_b)
        play, low = (bce, 0.0) if self.loss == "classic" else (signed, -1.0)
        fake = [self.g[k](real[k]) for k in (0, 1)]
        loss_d = self.judge(play, real, fake, low)
        if self.loss == "wgan-gp":
            loss_d = loss_d + sum(self.gradient_penalty(self.d[k], real[1 - k], fake[k], epsilon[k]) for k in (0, 1))
        update(self.opt_d, loss_d)
        if self.loss == "wgan":
            for value in self.both(self.d):
                value.data.clamp_(-self.clip, self.clip)
        self.steps += 1
        if self.steps % self.n_critic == 0:
            loss_g = sum(play(self.d[k](fake[k]), 1.0) + self.weight * l1_loss(self.g[1 - k](fake[k]), real[k])
                         for k in (0, 1))
            update(self.opt_g, loss_g)
            self.loss_g = loss_g.item()
        return loss_d.item(), self.loss_g


class DiscoGan(Pair):
    """Every third step updates the discriminators, the others the generators. rate: of recovery; start_rate until step
    `start`. layers: how many of the last feature maps are matched."""

    def __init__(self, make_g, make_d, rate=0.5, start_rate=0.01, start=10000, layers=3, lr=2e-4, betas=(0.5, 0.999),
                 decay=1e-5):
        super().__init__(make_g, make_d)
        self.rate, self.start_rate, self.start, self.layers, self.steps = rate, start_rate, start, layers, 0
        self.opt_g = torch.optim.Adam(self.both(self.g), lr, betas, weight_decay=decay)
        self.opt_d = torch.optim.Adam(self.both(self.d), lr, betas, weight_decay=decay)
        self.losses = [0.0, 0.0]

    def step(self, a, b):
        real, rate = (a, b), self.start_rate if self.steps < self.start else self.rate
        fake = [self.g[k](real[k]) for k in (0, 1)]
        loss_d = loss_g = 0.0
        for k in (0, 1):
            on_real = self.d[k](real[1 - k])
            features = self.d[k].features[-self.layers:]
            on_fake = self.d[k](fake[k])
            match = sum(((x.mean(0) - y.mean(0)) ** 2).mean()
                        for x, y in zip(features, self.d[k].features[-self.layers:]))
            recovered = mse_loss((self.g[1 - k](fake[k]) + 1) / 2, (real[k] + 1) / 2)
            loss_d = loss_d + 0.5 * (bce(on_real, 1.0) + bce(on_fake, 0.0))
            loss_g = loss_g + (1 - rate) * (0.1 * bce(on_fake, 1.0) + 0.9 * match) + rate * recovered
        self.steps += 1
        self.opt_d.zero_grad()
        self.opt_g.zero_grad()
        if self.steps % 3 == 0:
            update(self.opt_d, loss_d)
            self.losses[0] = loss_d.item()
        else:
            update(self.opt_g, loss_g)
            self.losses[1] = loss_g.item()
        return tuple(self.losses)
