"""Context encoder and Coupled GAN in PyTorch, for tests/fixtures_pairs.py: networks, order of the updates and settings
are those of gan.h, layers are called as there."""
import math

import torch
from torch import nn
from torch.nn.functional import pad

from steps import bce

FILL = torch.tensor([117.0, 104.0, 123.0]) / 127.5 - 1  # of the hole


# --- context encoder (Pathak et al. 2016) ------------------------------------------------------------

def stages_of(size):
    """Halvings down to a map of base x base."""
    count = 0
    while size % 2 == 0 and size >= 8:
        size, count = size // 2, count + 1
    return count, size


def width_of(width, stage):
    return width << max(0, min(stage - 1, 3))


def encoder(size, channels, first, width, out):
    count, base = stages_of(size)
    layers = []
    for i in range(first, count):
        layers += [nn.Conv2d(channels, width_of(width, i), 4, 2, 1, bias=False)]
        layers += [nn.BatchNorm2d(width_of(width, i))] if i > first else []
        layers += [nn.LeakyReLU(0.2)]
        channels = width_of(width, i)
    return layers + [nn.Conv2d(channels, out, base, 1, 0, bias=False)]


class ContextGenerator(nn.Module):
    def __init__(self, size=128, channels=3, ngf=64, bottleneck=4000, whole=False):
        super().__init__()
        count, base = stages_of(size)
        layers = encoder(size, channels, 0, ngf, bottleneck) + [nn.BatchNorm2d(bottleneck), nn.LeakyReLU(0.2)]
        width, shape = bottleneck, (base, 1, 0)
        for i in range(count - 1, -1 if whole else 0, -1):
            layers += [nn.ConvTranspose2d(width, width_of(ngf, i), *shape, bias=False),
                       nn.BatchNorm2d(width_of(ngf, i)), nn.ReLU()]
            width, shape = width_of(ngf, i), (4, 2, 1)
        self.main = nn.Sequential(*layers, nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False), nn.Tanh())

    def forward(self, x):
        return self.main(x)


class ContextDiscriminator(nn.Module):
    def __init__(self, size=128, channels=3, ndf=64, whole=False):
        super().__init__()
        self.main = nn.Sequential(*encoder(size, channels, 0 if whole else 1, ndf, 1))

    def forward(self, x):
        return self.main(x)


class ContextTrainer:
    """D, then G against the new D. left, top [batch]: where the holes are, by default in the middle."""

    def __init__(self, g, d, overlap=4, l1=False, weight=0.999, lr=2e-3, lr_d=2e-4, betas=(0.5, 0.999)):
        self.g, self.d, self.overlap, self.l1, self.weight = g, d, overlap, l1, weight
        self.opt_g = torch.optim.Adam(g.parameters(), lr, betas)
        self.opt_d = torch.optim.Adam(d.parameters(), lr_d, betas)

    def mask(self, images, left, top):
        n, _, size, _ = images.shape
        hole = size // 2 - 2 * self.overlap
        middle = torch.full((n,), (size - hole) // 2)
        inside = [(torch.arange(size) >= at[:, None]) & (torch.arange(size) < at[:, None] + hole)
                  for at in (middle if top is None else top, middle if left is None else left)]
        return (inside[0][:, None, :, None] & inside[1][:, None, None, :]).to(images.dtype)

    def step(self, images, left=None, top=None):
        mask = self.mask(images, left, top)
        fill = FILL.to(images.dtype)[:images.shape[1], None, None]
        made = self.g(images * (1 - mask) + fill * mask)
        rim = (images.shape[2] - made.shape[2]) // 2
        target, mask = pad(images, [-rim] * 4), pad(mask, [-rim] * 4)
        loss_d = bce(self.d(target), 1.0) + bce(self.d(made.detach()), 0.0)
        self.opt_d.zero_grad()
        loss_d.backward()
        self.opt_d.step()
        error = (made - target).abs() if self.l1 else (made - target) ** 2
        loss_rec = (error * (10 - 9 * mask if self.overlap else 1)).mean()
        loss_g = (1 - self.weight) * bce(self.d(made), 1.0) + self.weight * loss_rec
        self.opt_g.zero_grad()
        loss_g.backward()
        self.opt_g.step()
        return loss_d.item(), loss_g.item(), loss_rec.item()


# --- Coupled GAN (Liu and Tuzel 2016) ----------------------------------------------------------------

class Couple(nn.Module):
    """Layers by name: "conv0" is shared, "conv0_a" and "conv0_b" are not."""

    def layer(self, stem, i, kind):
        return getattr(self, f"{stem}{i}{kind}")

    def both(self, x, step, count, private):
        """step(x, i, kind) does layer i; the last `private` ones for each kind."""
        for i in range(count - private):
            x = step(x, i, "")
        result = []
        for kind in ("_a", "_b"):
            y = x
            for i in range(count - private, count):
                y = step(y, i, kind)
            result.append(y)
        return result

    def add(self, stem, i, shared, make):
        """make(kind) gives a layer: one for both kinds, or one for each."""
        for k, suffix in enumerate([""] if shared else ["_a", "_b"]):
            self.add_module(f"{stem}{i}{suffix}", make(k))


class CoupledGenerator(Couple):
    """Transposed convolutions, the last `private` of which are not shared."""

    def __init__(self, size=28, channels=(1, 1), latent=100, ngf=128, private=1):
        super().__init__()
        count, base = (3, 4) if size == 28 else stages_of(size)
        self.count, self.private = count + 2, private
        inner, draw = (3, 6) if size == 28 else (4, 3)
        width = latent
        for i in range(self.count):
            last = i > count
            out = None if last else ngf << min(4, count - i)
            shape = (base, 1, 0) if i == 0 else (draw, 1, 1) if last else (inner, 2, 1)
            shared = i < self.count - private
            self.add("dconv", i, shared, lambda k: nn.ConvTranspose2d(width, out or channels[k], *shape))
            if not last:
                self.add("bn", i, shared, lambda k: nn.BatchNorm2d(out, affine=False))
                self.add("prelu", i, shared, lambda k: nn.PReLU())
            width = out

    def step(self, x, i, kind):
        x = self.layer("dconv", i, kind)(x)
        if i == self.count - 1:
            return 2 * torch.sigmoid(x) - 1
        return self.layer("prelu", i, kind)(self.layer("bn", i, kind)(x))

    def forward(self, z):
        return self.both(z[:, :, None, None], self.step, self.count, self.private)


class CoupledDiscriminator(Couple):
    """LeNet, the first `private` convolutions of which are not shared; gives a logit."""

    def __init__(self, channels=(1, 1), ndf=20, private=1):
        super().__init__()
        self.private = private
        widths = [None, ndf, 5 * ndf // 2, 25 * ndf, 2]
        for i, kernel in enumerate((5, 5, 4, 1)):
            self.add("conv", i, i >= private, lambda k: nn.Conv2d(widths[i] or channels[k], widths[i + 1], kernel))
        self.add("prelu", 2, private < 3, lambda k: nn.PReLU())

    def chain(self, x, layers, kind):
        for i in layers:
            x = self.layer("conv", i, kind)(x)
            x = nn.functional.max_pool2d(x, 2) if i < 2 else self.layer("prelu", i, kind)(x) if i == 2 else x
        return x

    def forward(self, images):
        x = torch.cat([self.chain(x / 2 + 0.5, range(self.private), kind) for x, kind in zip(images, ("_a", "_b"))])
        x = self.chain(x, range(self.private, 4), "").flatten(1)
        return x[:, 1] - x[:, 0]


class CoupledDcganDiscriminator(Couple):
    """For other sizes than 28."""

    def __init__(self, size=64, channels=(3, 3), ndf=20, private=1):
        super().__init__()
        (self.count, base), self.private, width = stages_of(size), private, None
        for i in range(self.count):
            out, shared = ndf << min(4, i), i >= private
            self.add("conv", i, shared, lambda k: nn.Conv2d(width or channels[k], out, 4, 2, 1, bias=i == 0))
            if i > 0:
                self.add("bn", i, shared, lambda k: nn.BatchNorm2d(out))
            width = out
        self.add("conv", self.count, True, lambda k: nn.Conv2d(width, 1, base, bias=False))

    def chain(self, x, layers, kind):
        for i in layers:
            x = self.layer("conv", i, kind)(x)
            x = self.layer("bn", i, kind)(x) if 0 < i < self.count else x
            x = x if i == self.count else nn.functional.leaky_relu(x, 0.2)
        return x

    def forward(self, images):
        x = torch.cat([self.chain(x, range(self.private), kind) for x, kind in zip(images, ("_a", "_b"))])
        return self.chain(x, range(self.private, self.count + 1), "").flatten()


class CoupledMlpGenerator(Couple):
    def __init__(self, size=28, channels=(1, 1), latent=100, private=1):
        super().__init__()
        widths = [latent, 256, 512, 1024]
        for i in range(3):
            shared = i < 4 - private
            self.add("dense", i, shared, lambda k: nn.Linear(widths[i], widths[i + 1]))
            if i > 0:
                self.add("bn", i, shared, lambda k: nn.BatchNorm1d(widths[i + 1]))
        self.add("dense", 3, False, lambda k: nn.Linear(1024, channels[k] * size * size))
        self.private, self.shapes = private, {kind: (c, size, size) for kind, c in zip(("_a", "_b"), channels)}

    def step(self, x, i, kind):
        x = self.layer("dense", i, kind)(x)
        if i == 3:
            return torch.tanh(x).unflatten(1, self.shapes[kind])
        return nn.functional.leaky_relu(self.layer("bn", i, kind)(x) if i > 0 else x, 0.2)

    def forward(self, z):
        return self.both(z, self.step, 4, self.private)


class CoupledMlpDiscriminator(Couple):
    def __init__(self, size=28, channels=(1, 1), private=1):
        super().__init__()
        self.private = private
        widths = [None, 512, 256, 1]
        for i in range(3):
            self.add("dense", i, i >= private, lambda k: nn.Linear(widths[i] or channels[k] * size * size, widths[i + 1]))

    def chain(self, x, layers, kind):
        for i in layers:
            x = self.layer("dense", i, kind)(x)
            x = x if i == 2 else nn.functional.leaky_relu(x, 0.2)
        return x

    def forward(self, images):
        x = torch.cat([self.chain(x.flatten(1), range(self.private), kind)
                       for x, kind in zip(images, ("_a", "_b"))])
        return self.chain(x, range(self.private, 3), "")


class CoupledTrainer:
    """D on one noise, then G on another."""

    def __init__(self, g, d, lr=2e-4, betas=(0.5, 0.999), weight_decay=5e-4):
        self.g, self.d = g, d
        self.opt_g = torch.optim.Adam(g.parameters(), lr, betas, weight_decay=weight_decay)
        self.opt_d = torch.optim.Adam(d.parameters(), lr, betas, weight_decay=weight_decay)

    def step(self, z, real_a, real_b, z_g):
        with torch.no_grad():
            fake = self.g(z)
        loss_d = bce(self.d([real_a, real_b]), 1.0) + bce(self.d(fake), 0.0)
        self.opt_d.zero_grad()
        loss_d.backward()
        self.opt_d.step()
        loss_g = bce(self.d(self.g(z_g)), 1.0)
        self.opt_g.zero_grad()
        loss_g.backward()
        self.opt_g.step()
        return loss_d.item(), loss_g.item()
