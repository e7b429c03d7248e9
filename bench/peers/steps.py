#!/usr/bin/env python3
"""The training steps of gan.h in PyTorch, to compare speed (compare.py) and values (tests/fixtures.py).

Networks, order of the updates and settings are those of gan.h: GAN as eriklindernoren/PyTorch-GAN has it (with batch
norm's eps 1e-5), DCGAN as pytorch/examples.
"""
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy


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


def dcgan_networks(size=64, channels=3, latent=100, ngf=64, ndf=64, critic=False):
    """Radford et al. 2015: stages of 4/2/1 around a map of 4x4 (28: 7x7), no biases. critic: the second network without
    norms and with biases, as WGAN-GP has it."""
    base, stages = size, 0
    while base % 2 == 0 and base >= 8:
        base, stages = base // 2, stages + 1
    width = ngf << (stages - 1)
    g = [nn.ConvTranspose2d(latent, width, base, 1, 0, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    for _ in range(stages - 1):
        g += [nn.ConvTranspose2d(width, width // 2, 4, 2, 1, bias=False), nn.BatchNorm2d(width // 2), nn.ReLU()]
        width //= 2
    g += [nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False), nn.Tanh()]
    d, width = [nn.Conv2d(channels, ndf, 4, 2, 1, bias=critic), nn.LeakyReLU(0.2)], ndf
    for _ in range(stages - 1):
        norm = nn.Identity() if critic else nn.BatchNorm2d(2 * width)
        d += [nn.Conv2d(width, 2 * width, 4, 2, 1, bias=critic), norm, nn.LeakyReLU(0.2)]
        width *= 2
    return nn.Sequential(*g), nn.Sequential(*d, nn.Conv2d(width, 1, base, 1, 0, bias=critic))


class CganGenerator(nn.Module):
    """An embedding of the class in front of the noise, then the network of GAN or, convolutional, of DCGAN."""

    def __init__(self, net, classes=10):
        super().__init__()
        self.label_emb, self.net = nn.Embedding(classes, classes), net

    def forward(self, z, label):
        embedding = self.label_emb(label)
        return self.net(torch.cat((embedding.reshape(*embedding.shape, *z.shape[2:]), z), 1))


class CganDiscriminator(nn.Module):
    """Mirza and Osindero 2014 as eriklindernoren/PyTorch-GAN has it; dropout 0 to compare losses."""

    def __init__(self, pixels=784, classes=10, dropout=0.0):
        super().__init__()
        self.label_embedding = nn.Embedding(classes, classes)
        self.net = nn.Sequential(
            nn.Linear(pixels + classes, 512), nn.LeakyReLU(0.2),
            nn.Linear(512, 512), nn.Dropout(dropout), nn.LeakyReLU(0.2),
            nn.Linear(512, 512), nn.Dropout(dropout), nn.LeakyReLU(0.2), nn.Linear(512, 1))

    def forward(self, images, label):
        return self.net(torch.cat((images, self.label_embedding(label)), 1))


class CganDiscriminatorConv(nn.Module):
    """The network of DCGAN; behind the channels of the image one for each class."""

    def __init__(self, net, classes=10):
        super().__init__()
        self.net, self.classes = net, classes

    def forward(self, images, label):
        planes = nn.functional.one_hot(label, self.classes).to(images)[:, :, None, None]
        return self.net(torch.cat((images, planes.expand(-1, -1, *images.shape[2:])), 1))


class AcganGenerator(nn.Module):
    """Odena et al. 2016 as eriklindernoren/PyTorch-GAN has it, channels by ngf."""

    def __init__(self, size=32, channels=1, latent=100, ngf=64, classes=10):
        super().__init__()
        self.label_emb, self.side = nn.Embedding(classes, latent), size // 4
        self.l1 = nn.Sequential(nn.Linear(latent, 2 * ngf * self.side ** 2))
        self.conv_blocks = nn.Sequential(
            nn.BatchNorm2d(2 * ngf), nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * ngf, 2 * ngf, 3, 1, 1), nn.BatchNorm2d(2 * ngf), nn.LeakyReLU(0.2), nn.Upsample(scale_factor=2),
            nn.Conv2d(2 * ngf, ngf, 3, 1, 1), nn.BatchNorm2d(ngf), nn.LeakyReLU(0.2),
            nn.Conv2d(ngf, channels, 3, 1, 1), nn.Tanh())

    def forward(self, z, label):
        return self.conv_blocks(self.l1(self.label_emb(label) * z).unflatten(1, (-1, self.side, self.side)))


class AcganDiscriminator(nn.Module):
    """Logits of both heads; dropout 0 to compare losses."""

    def __init__(self, size=32, channels=1, ndf=16, classes=10, dropout=0.0):
        super().__init__()
        blocks, width = [], channels
        for i in range(4):
            blocks += [nn.Conv2d(width, ndf << i, 3, 2, 1), nn.LeakyReLU(0.2), nn.Dropout2d(dropout)]
            blocks += [nn.BatchNorm2d(ndf << i)] if i else []
            width, size = ndf << i, (size + 1) // 2
        self.conv_blocks = nn.Sequential(*blocks)
        self.adv_layer = nn.Sequential(nn.Linear(width * size ** 2, 1))
        self.aux_layer = nn.Sequential(nn.Linear(width * size ** 2, classes))

    def forward(self, images):
        x = self.conv_blocks(images).flatten(1)
        return self.adv_layer(x), self.aux_layer(x)


class AcganGeneratorConv(nn.Module):
    """The class, one-hot, in front of the noise; then the network of DCGAN."""

    def __init__(self, net, classes=10):
        super().__init__()
        self.net, self.classes = net, classes

    def forward(self, z, label):
        return self.net(torch.cat((nn.functional.one_hot(label, self.classes).to(z)[:, :, None, None], z), 1))


class AcganDiscriminatorConv(nn.Module):
    """The network of DCGAN up to its last layer, and two heads."""

    def __init__(self, net, classes=10):
        super().__init__()
        self.net = net[:-1]
        features = net[-1].weight[0].numel()
        self.adv_layer = nn.Sequential(nn.Linear(features, 1))
        self.aux_layer = nn.Sequential(nn.Linear(features, classes))

    def forward(self, images):
        x = self.net(images).flatten(1)
        return self.adv_layer(x), self.aux_layer(x)


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


class ConditionalTrainer(Trainer):
    """CGAN: both networks see the class; G first, then D on the same images."""

    def step(self, images, z, label, label_fake):
        fake = self.g(z, label_fake)
        loss_g = self.loss(self.d(fake, label_fake), 1.0)
        self.opt_g.zero_grad()
        loss_g.backward()
        self.opt_g.step()
        loss_d = (self.loss(self.d(images, label), 1.0) + self.loss(self.d(fake.detach(), label_fake), 0.0)) / 2
        self.opt_d.zero_grad()
        loss_d.backward()
        self.opt_d.step()
        return loss_d.item(), loss_g.item()


class AuxiliaryTrainer(Trainer):
    """AC-GAN: D also finds the class out; G first, then D on the same images. told: where D is to put generated images,
    if not in the class they were made for; weight: how much that counts."""

    def __init__(self, g, d, told=None, weight=1.0):
        super().__init__(g, d, "gd")
        self.told, self.weight = told, weight

    def step(self, images, z, label, label_fake):
        fake = self.g(z, label_fake)
        source, aux = self.d(fake)
        loss_g = (bce(source, 1.0) + cross_entropy(aux, label_fake)) / 2
        self.opt_g.zero_grad()
        loss_g.backward()
        self.opt_g.step()
        told = label_fake if self.told is None else torch.full_like(label_fake, self.told)
        source, aux = self.d(images)
        loss_d = bce(source, 1.0) + cross_entropy(aux, label)
        source, aux = self.d(fake.detach())
        loss_d = (loss_d + bce(source, 0.0) + self.weight * cross_entropy(aux, told)) / 4
        self.opt_d.zero_grad()
        loss_d.backward()
        self.opt_d.step()
        return loss_d.item(), loss_g.item()


class CriticTrainer:
    """WGAN and WGAN-GP: a step updates the critic; every n_critic-th one also updates the generator, on noise of its own.
    after(d) is done to the critic after its update, penalty(d, images, fake, epsilon) added to its loss."""

    def __init__(self, g, d, n_critic, opt_g, opt_d, after=None, penalty=None):
        self.g, self.d, self.n_critic, self.opt_g, self.opt_d = g, d, n_critic, opt_g, opt_d
        self.after, self.penalty, self.steps, self.loss_g = after, penalty, 0, 0.0

    def step(self, images, z, z_g, epsilon=None):
        """Returns the losses of critic and generator, the latter's from when it was computed last."""
        fake = self.g(z).detach()
        loss_d = self.d(fake).mean() - self.d(images).mean()
        if self.penalty:
            loss_d = loss_d + self.penalty(self.d, images, fake, epsilon)
        self.opt_d.zero_grad()
        loss_d.backward()
        self.opt_d.step()
        if self.after:
            self.after(self.d)
        self.steps += 1
        if self.steps % self.n_critic == 0:
            loss_g = -self.d(self.g(z_g)).mean()
            self.opt_g.zero_grad()
            loss_g.backward()
            self.opt_g.step()
            self.loss_g = loss_g.item()
        return loss_d.item(), self.loss_g


def wgan(g, d, n_critic=5, lr=5e-5, clip=0.01):
    """Arjovsky et al. 2017, algorithm 1."""
    def clip_weights(net):
        for value in net.parameters():
            value.data.clamp_(-clip, clip)
    return CriticTrainer(g, d, n_critic, torch.optim.RMSprop(g.parameters(), lr),
                         torch.optim.RMSprop(d.parameters(), lr), after=clip_weights)


def wgan_gp(g, d, n_critic=5, lr=1e-4, betas=(0.5, 0.9), weight=10.0):
    """Gulrajani et al. 2017, algorithm 1."""
    def penalty(net, images, fake, epsilon):
        between = (epsilon * images + (1 - epsilon) * fake).requires_grad_()
        gradient, = torch.autograd.grad(net(between).sum(), between, create_graph=True)
        return weight * ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()
    return CriticTrainer(g, d, n_critic, torch.optim.Adam(g.parameters(), lr, betas),
                         torch.optim.Adam(d.parameters(), lr, betas), penalty=penalty)
