"""Networks and training step of pix2pixHD, and the networks of pix2pix and CycleGAN that the image translators share, in
PyTorch: what tests/fixtures_hd.py compares gan.h with. Modules are named so that state_dicts have the keys of
junyanz/pytorch-CycleGAN-and-pix2pix and NVIDIA/pix2pixHD."""
import torch
from torch import nn


def norm_layer(kind, channels):
    return nn.BatchNorm2d(channels) if kind == "batch" else nn.InstanceNorm2d(channels)


class ResidualBlock(nn.Module):
    def __init__(self, channels, norm, bias, dropout=False):
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=bias), norm_layer(norm, channels), nn.ReLU(),
            *([nn.Dropout(0.5)] if dropout else []),
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=bias), norm_layer(norm, channels))

    def forward(self, x):
        return x + self.conv_block(x)


def first(channels_in, channels, norm, bias=True):
    return [nn.ReflectionPad2d(3), nn.Conv2d(channels_in, channels, 7, bias=bias), norm_layer(norm, channels), nn.ReLU()]


def halve(channels_in, channels, norm, bias=True):
    return [nn.Conv2d(channels_in, channels, 3, 2, 1, bias=bias), norm_layer(norm, channels), nn.ReLU()]


def double(channels_in, channels, norm, bias=True):
    return [nn.ConvTranspose2d(channels_in, channels, 3, 2, 1, 1, bias=bias), norm_layer(norm, channels), nn.ReLU()]


def last(channels_in, channels):
    return [nn.ReflectionPad2d(3), nn.Conv2d(channels_in, channels, 7), nn.Tanh()]


class ResnetGenerator(nn.Module):
    """hd: biases also beside batch norm. The encoder of pix2pixHD is one without blocks."""

    def __init__(self, channels_in=3, channels=3, ngf=64, blocks=9, downs=2, norm="instance", dropout=False, hd=False):
        super().__init__()
        bias = hd or norm == "instance"
        layers = first(channels_in, ngf, norm, bias)
        for i in range(downs):
            layers += halve(ngf << i, ngf << i + 1, norm, bias)
        layers += [ResidualBlock(ngf << downs, norm, bias, dropout) for _ in range(blocks)]
        for i in reversed(range(downs)):
            layers += double(ngf << i + 1, ngf << i, norm, bias)
        self.model = nn.Sequential(*layers, *last(ngf, channels))

    def forward(self, x):
        return self.model(x)


class LocalEnhancer(nn.Module):
    def __init__(self, channels_in=36, channels=3, ngf=32, blocks=9, downs=4, enhancers=1, blocks_local=3, norm="instance"):
        super().__init__()
        whole = ResnetGenerator(channels_in, channels, ngf << enhancers, blocks, downs, norm, hd=True).model
        self.model = whole[:-3]
        self.enhancers = enhancers
        for n in range(1, enhancers + 1):
            width = ngf << enhancers - n
            layers = [ResidualBlock(2 * width, norm, True) for _ in range(blocks_local)] + double(2 * width, width, norm)
            layers += last(width, channels) if n == enhancers else []
            setattr(self, f"model{n}_1", nn.Sequential(*first(channels_in, width, norm), *halve(width, 2 * width, norm)))
            setattr(self, f"model{n}_2", nn.Sequential(*layers))
        self.downsample = nn.AvgPool2d(3, 2, 1, count_include_pad=False)

    def forward(self, x):
        pyramid = [x]
        for _ in range(self.enhancers):
            pyramid.append(self.downsample(pyramid[-1]))
        y = self.model(pyramid.pop())
        for n in range(1, self.enhancers + 1):
            y = getattr(self, f"model{n}_2")(getattr(self, f"model{n}_1")(pyramid.pop()) + y)
        return y


class PatchDiscriminator(nn.Module):
    def __init__(self, channels_in=6, ndf=64, layers=3, norm="batch"):
        super().__init__()
        bias = norm == "instance"
        net, width = [nn.Conv2d(channels_in, ndf, 4, 2, 1), nn.LeakyReLU(0.2)], ndf
        for i in range(1, layers + 1):
            wider = ndf * min(2 ** i, 8)
            net += [nn.Conv2d(width, wider, 4, 2 if i < layers else 1, 1, bias=bias), norm_layer(norm, wider), nn.LeakyReLU(0.2)]
            width = wider
        self.model = nn.Sequential(*net, nn.Conv2d(width, 1, 4, 1, 1))

    def forward(self, x):
        return self.model(x)


class PixelDiscriminator(nn.Module):
    def __init__(self, channels_in=6, ndf=64, norm="batch"):
        super().__init__()
        bias = norm == "instance"
        self.net = nn.Sequential(nn.Conv2d(channels_in, ndf, 1), nn.LeakyReLU(0.2),
                                 nn.Conv2d(ndf, 2 * ndf, 1, bias=bias), norm_layer(norm, 2 * ndf), nn.LeakyReLU(0.2),
                                 nn.Conv2d(2 * ndf, 1, 1, bias=bias))

    def forward(self, x):
        return self.net(x)


class MultiscaleDiscriminator(nn.Module):
    """Returns, from full resolution to the coarsest, the outputs of all stages; the last stage's are the scores."""

    def __init__(self, channels_in=39, ndf=64, layers=3, scales=2, norm="instance"):
        super().__init__()
        self.layers, self.scales = layers, scales
        for k in range(scales):
            width = channels_in
            for i in range(layers + 2):
                wider = min(ndf << i, 512) if i <= layers else 1
                stage = [nn.Conv2d(width, wider, 4, 2 if i < layers else 1, 2)]
                stage += [norm_layer(norm, wider)] if 0 < i <= layers else []
                stage += [nn.LeakyReLU(0.2)] if i <= layers else []
                setattr(self, f"scale{k}_layer{i}", nn.Sequential(*stage))
                width = wider
        self.downsample = nn.AvgPool2d(3, 2, 1, count_include_pad=False)

    def forward(self, x):
        result = []
        for k in reversed(range(self.scales)):
            stages, y = [], x
            for i in range(self.layers + 2):
                y = getattr(self, f"scale{k}_layer{i}")(y)
                stages.append(y)
            result.append(stages)
            x = self.downsample(x)
        return result


class InstanceEncoder(nn.Module):
    """Features of an image, averaged over each instance."""

    def __init__(self, channels_in=3, features=3, nef=16, downs=4, norm="instance"):
        super().__init__()
        self.model = ResnetGenerator(channels_in, features, nef, 0, downs, norm, hd=True).model

    def forward(self, image, instance):
        y = self.model(image)
        pooled = torch.zeros_like(y)
        for n in range(y.shape[0]):
            for identity in instance[n].unique():
                where = (instance[n, 0] == identity).to(y.dtype)
                mean = (y[n] * where).sum((1, 2), keepdim=True) / where.sum()
                pooled = pooled + torch.zeros_like(y).index_add(0, torch.tensor([n]), (mean * where)[None])
        return pooled


class Vgg19(nn.Module):
    """torchvision's vgg19().features up to the last tap; returns the five taps."""
    CONVS, TAPS = (2, 2, 4, 4, 1), (1, 6, 11, 20, 29)

    def __init__(self):
        super().__init__()
        layers, width = [], 3
        for block, convs in enumerate(self.CONVS):
            for _ in range(convs):
                layers += [nn.Conv2d(width, min(64 << block, 512), 3, 1, 1), nn.ReLU()]
                width = min(64 << block, 512)
            layers += [nn.MaxPool2d(2, 2)]
        self.features = nn.Sequential(*layers[:-1])

    def forward(self, x):
        taps = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i in self.TAPS:
                taps.append(x)
        return taps


def perceptual(vgg, x, y):
    return sum(weight * (a - b.detach()).abs().mean()
               for weight, a, b in zip((1 / 32, 1 / 16, 1 / 8, 1 / 4, 1), vgg(x), vgg(y)))


def edges(instance):
    """1 where the number differs from that of a neighbour."""
    edge = torch.zeros_like(instance, dtype=torch.bool)
    across = instance[..., :, 1:] != instance[..., :, :-1]
    down = instance[..., 1:, :] != instance[..., :-1, :]
    edge[..., :, 1:] |= across
    edge[..., :, :-1] |= across
    edge[..., 1:, :] |= down
    edge[..., :-1, :] |= down
    return edge


class HdTrainer:
    """G first, then D; both losses come from one forward pass. match: weight of feature matching, vgg: of the perceptual
    term."""

    def __init__(self, generator, discriminator, classes=10, encoder=None, vgg=None, match=10.0, lr=2e-4):
        self.networks = {"generator": generator, "discriminator": discriminator}
        if encoder:
            self.networks["encoder"] = encoder
        if vgg:
            self.networks["vgg"] = vgg
        self.g, self.d, self.e, self.vgg = generator, discriminator, encoder, vgg
        self.classes, self.match = classes, match
        self.opt_g, self.opt_d = None, None
        self.lr = lr

    def condition(self, real, label, instance):
        parts = [nn.functional.one_hot(label[:, 0], self.classes).permute(0, 3, 1, 2).to(real.dtype)]
        if instance is not None:
            parts.append(edges(instance).to(real.dtype))
        return torch.cat(parts, 1)

    @staticmethod
    def score(stages, target):
        return sum(((scale[-1] - target) ** 2).mean() for scale in stages)

    def step(self, real, label, instance=None):
        if self.opt_g is None:
            trained = list(self.g.parameters()) + (list(self.e.parameters()) if self.e else [])
            self.opt_g = torch.optim.Adam(trained, self.lr, (0.5, 0.999))
            self.opt_d = torch.optim.Adam(self.d.parameters(), self.lr, (0.5, 0.999))
        seen = self.condition(real, label, instance)
        given = torch.cat([seen, self.e(real, instance)], 1) if self.e else seen
        fake = self.g(given)
        d_detached = self.d(torch.cat([seen, fake.detach()], 1))
        d_real = self.d(torch.cat([seen, real], 1))
        d_fake = self.d(torch.cat([seen, fake], 1))
        loss_d = (self.score(d_detached, 0.0) + self.score(d_real, 1.0)) / 2
        loss_g = self.score(d_fake, 1.0)
        match = sum((a - b.detach()).abs().mean() for x, y in zip(d_fake, d_real) for a, b in zip(x[:-1], y[:-1]))
        match = match * self.match / self.d.scales * 4 / (self.d.layers + 1)
        if self.match:
            loss_g = loss_g + match
        if self.vgg:
            loss_g = loss_g + 10.0 * perceptual(self.vgg, fake, real)
        self.opt_g.zero_grad()
        loss_g.backward()
        self.opt_g.step()
        self.opt_d.zero_grad()
        loss_d.backward()
        self.opt_d.step()
        return loss_d.item(), loss_g.item()
