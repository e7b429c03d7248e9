#!/usr/bin/env python3
"""InfoGAN and DRAW in PyTorch, to compare speed (compare.py) and values (tests/fixtures_latent.py).

Networks, order of the updates and settings are those of gan.h.
"""
import math

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, leaky_relu, one_hot, relu

import steps


class Flat(nn.Module):
    """[n,...] to [n,channels,h,w]."""

    def __init__(self, *shape):
        super().__init__()
        self.shape = shape

    def forward(self, x):
        return x.reshape(x.shape[0], *self.shape)


class InfoGanGenerator(nn.Module):
    """Chen et al. 2016, appendix C.1, channels by ngf."""

    def __init__(self, size=28, channels=1, inputs=74, ngf=64):
        super().__init__()
        side = size // 4
        self.shape = (2 * ngf, side, side)
        self.fc1, self.norm1 = nn.Linear(inputs, 1024), nn.BatchNorm1d(1024)
        self.fc2, self.norm2 = nn.Linear(1024, math.prod(self.shape)), nn.BatchNorm1d(math.prod(self.shape))
        self.conv3, self.norm3 = nn.ConvTranspose2d(2 * ngf, ngf, 4, 2, 1, bias=False), nn.BatchNorm2d(ngf)
        self.conv4 = nn.ConvTranspose2d(ngf, channels, 4, 2, 1, bias=False)

    def forward(self, x):
        x = relu(self.norm1(self.fc1(x)))
        x = relu(self.norm2(self.fc2(x))).reshape(-1, *self.shape)
        x = self.conv4(relu(self.norm3(self.conv3(x))))
        return 2 * torch.sigmoid(x) - 1


class InfoGanDiscriminator(nn.Module):
    """Score, logits of the categorical codes, means of the continuous ones."""

    def __init__(self, size=28, channels=1, ndf=64, logits=10, means=2):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, ndf, 4, 2, 1, bias=False)
        self.conv2, self.norm2 = nn.Conv2d(ndf, 2 * ndf, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * ndf)
        self.fc3, self.norm3 = nn.Linear(2 * ndf * (size // 4) ** 2, 1024), nn.BatchNorm1d(1024)
        self.adv_layer = nn.Sequential(nn.Linear(1024, 1))
        self.q, self.q_norm = nn.Linear(1024, 128), nn.BatchNorm1d(128)
        self.aux_layer, self.latent_layer = nn.Sequential(nn.Linear(128, logits)), nn.Sequential(nn.Linear(128, means))

    def forward(self, images):
        x = leaky_relu(self.conv1(images), 0.1)
        x = leaky_relu(self.norm2(self.conv2(x)), 0.1).flatten(1)
        x = leaky_relu(self.norm3(self.fc3(x)), 0.1)
        q = leaky_relu(self.q_norm(self.q(x)), 0.1)
        return self.adv_layer(x), self.aux_layer(q), self.latent_layer(q)


class UpsamplingGenerator(steps.AcganGenerator):
    """As eriklindernoren/PyTorch-GAN has it: noise and codes in a row instead of an embedding."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        del self.label_emb

    def forward(self, x):
        return self.conv_blocks(self.l1(x).unflatten(1, (-1, self.side, self.side)))


class UpsamplingDiscriminator(steps.AcganDiscriminator):
    def __init__(self, *arguments, means=2):
        super().__init__(*arguments)
        self.latent_layer = nn.Sequential(nn.Linear(self.adv_layer[0].in_features, means))

    def forward(self, images):
        x = self.conv_blocks(images).flatten(1)
        return self.adv_layer(x), self.aux_layer(x), self.latent_layer(x)


class InfoGanTrainer:
    """G first, then D and Q on the same images; apart: a third update, of all by what Q says of the codes alone."""

    def __init__(self, g, d, loss=steps.bce, apart=False, categories=10, weight=1.0, weight_c=1.0, lr_g=1e-3,
                 lr_d=2e-4):
        self.g, self.d, self.loss, self.apart, self.categories = g, d, loss, apart, categories
        self.weight, self.weight_c = weight, weight_c
        self.opt_g = torch.optim.Adam(g.parameters(), lr_g, (0.5, 0.999))
        self.opt_d = torch.optim.Adam(d.parameters(), lr_d, (0.5, 0.999))
        self.opt_info = torch.optim.Adam([*g.parameters(), *d.parameters()], lr_d, (0.5, 0.999))

    def images(self, z, code, c):
        return self.g(torch.cat((z, one_hot(code, self.categories).flatten(1).to(z), c), 1))

    def info(self, heads, code, c):
        _, logits, means = heads
        wrong = cross_entropy(logits.reshape(-1, self.categories), code.flatten()) * code.shape[1]
        return self.weight * wrong + self.weight_c * ((c - means) ** 2).mean(0).sum() / 2

    def update(self, optimiser, loss):
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss.item()

    def step(self, real, z, code, c, z_info=None, code_info=None, c_info=None):
        fake = self.images(z, code, c)
        heads = self.d(fake)
        info = self.info(heads, code, c)
        losses = [0.0, self.update(self.opt_g, self.loss(heads[0], 1.0) + (0.0 if self.apart else info)), info.item()]
        heads = self.d(fake.detach())
        loss_d = self.loss(self.d(real)[0], 1.0) + self.loss(heads[0], 0.0)
        losses[0] = self.update(self.opt_d, loss_d + (0.0 if self.apart else self.info(heads, code, c)))
        if self.apart:
            heads = self.d(self.images(z_info, code_info, c_info))
            losses[2] = self.update(self.opt_info, self.info(heads, code_info, c_info))
        return losses


class Draw(nn.Module):
    """Gregor et al. 2015. size: (height, width)."""

    def __init__(self, size=(28, 28), channels=1, glimpses=10, hidden=256, z=10, attention=True, read=5, write=5,
                 offset=1.0):
        super().__init__()
        self.size, self.channels, self.glimpses, self.hidden, self.z = size, channels, glimpses, hidden, z
        self.attention, self.read_side, self.write_side, self.offset = attention, read, write, offset
        pixels = channels * size[0] * size[1]
        self.encoder = nn.LSTMCell((2 * channels * read ** 2 if attention else 2 * pixels) + hidden, hidden)
        self.decoder = nn.LSTMCell(z, hidden)
        self.mu, self.log_sigma = nn.Linear(hidden, z), nn.Linear(hidden, z)
        self.write = nn.Linear(hidden, channels * write ** 2 if attention else pixels)
        if attention:
            self.read_attn, self.write_attn = nn.Linear(hidden, 5), nn.Linear(hidden, 5)

    def window(self, where, side):
        """Filters [n,side,h], [n,side,w] and gamma [n,1,1,1]."""
        gx, gy, log_var, log_delta, log_gamma = where.unsqueeze(-1).unbind(1)
        i = torch.arange(side).to(where) - side / 2 + 0.5
        delta = (max(self.size) - 1) / (side - 1) * log_delta.exp()

        def filters(g, extent):
            centres = (extent + 1) / 2 * (g + 1) + i * delta
            pixels = torch.arange(extent).to(where) + self.offset
            f = torch.exp(-(pixels - centres.unsqueeze(-1)) ** 2 / (2 * log_var.exp().unsqueeze(-1)))
            return f / f.sum(-1, keepdim=True).clamp(min=1e-8)
        return filters(gy, self.size[0]).unsqueeze(1), filters(gx, self.size[1]).unsqueeze(1), \
            log_gamma.exp().reshape(-1, 1, 1, 1)

    def forward(self, x, noise):
        """The bound in nats for each image: reconstruction and divergence."""
        zeros = torch.zeros(x.shape[0], self.hidden).to(x)
        enc, dec, canvas, kl = (zeros, zeros), (zeros, zeros), torch.zeros_like(x), 0.0
        for t in range(self.glimpses):
            seen = torch.cat((x, x - torch.sigmoid(canvas)), 1)
            if self.attention:
                fy, fx, gamma = self.window(self.read_attn(dec[0]), self.read_side)
                seen = gamma * (fy @ seen @ fx.mT)
            enc = self.encoder(torch.cat((seen.flatten(1), dec[0]), 1), enc)
            mu, log_sigma = self.mu(enc[0]), self.log_sigma(enc[0])
            kl = kl + (mu ** 2 + (2 * log_sigma).exp() - 2 * log_sigma - 1).sum(1) / 2
            z = mu + log_sigma.exp() * noise[:, t * self.z:(t + 1) * self.z]
            dec = self.decoder(z, dec)
            patch = self.write(dec[0])
            if self.attention:
                fy, fx, gamma = self.window(self.write_attn(dec[0]), self.write_side)
                patch = fy.mT @ patch.reshape(-1, self.channels, self.write_side, self.write_side) @ fx / gamma
            canvas = canvas + patch.reshape(x.shape)
        return binary_cross_entropy_with_logits(canvas, x, reduction="none").flatten(1).sum(1), kl


class DrawTrainer:
    def __init__(self, net, lr=1e-3, betas=(0.9, 0.999), clip=10.0):
        self.networks = {"": net}
        self.net, self.clip, self.optimiser = net, clip, torch.optim.Adam(net.parameters(), lr, betas)

    def step(self, images, z, chance):
        """Pixels in [-1,1] are taken for probabilities and become 0 or 1 by chance."""
        error, kl = self.net(((images + 1) / 2 > chance).to(z), z)
        loss = (error + kl).mean()
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), self.clip)
        self.optimiser.step()
        return loss.item(), error.mean().item(), kl.mean().item()
