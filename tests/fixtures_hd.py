#!/usr/bin/env python3
"""Writes tests/fixtures/hd.safetensors with PyTorch: outputs of the networks that image translators share and of
pix2pixHD's, and its first training losses, for tests/test_hd.c. The networks are those of bench/peers/hd.py.

A network "c" has weights and input drawn by name (fixtures.fill, "c.x"), so only its output is stored: "c.out.y", of several
outputs one behind the other. Run from anywhere: python3 tests/fixtures_hd.py
"""
import numpy as np
import torch

import fixtures
import hd

SEED = 1


def forward(name, net, shape, prefix="", use=lambda net, x: net(x)):
    """use(net, x) gives the output or a list of them."""
    with torch.no_grad():
        net = net.double()
        fixtures.fill(name, net, SEED, prefix)
        result = use(net, torch.tensor(fixtures.random(f"{name}.x", shape, -1.0, 1.0, SEED), dtype=torch.float64))
    result = result if isinstance(result, list) else [result]
    y = np.concatenate([part.numpy().reshape(-1) for part in result]).astype(np.float32)
    print(f"{name}: {y.size} values, {sum(p.numel() for p in net.parameters())} parameters, largest {np.abs(y).max():.3g}")
    fixtures.files.setdefault("hd", {})[f"{name}.out.y"] = y


def networks():
    image = (1, 3, 16, 24)
    forward("resnet6", hd.ResnetGenerator(3, 2, 4, 6), image)
    forward("resnet9", hd.ResnetGenerator(3, 3, 4, 9), image)
    forward("resnet9_batch", hd.ResnetGenerator(3, 3, 4, 9, norm="batch"), (2, 3, 16, 16))
    dropped = hd.ResnetGenerator(3, 3, 4, 2, norm="batch", dropout=True)
    for block in dropped.model[10:12]:
        block.conv_block[4].eval()
    forward("resnet2_dropout", dropped, image)
    forward("patch3", hd.PatchDiscriminator(6, 4, 3, "batch"), (2, 6, 32, 40))
    forward("patch3_instance", hd.PatchDiscriminator(3, 4, 3, "instance"), (1, 3, 32, 40))
    forward("patch5", hd.PatchDiscriminator(3, 2, 5, "batch"), (2, 3, 128, 96))
    forward("pixel", hd.PixelDiscriminator(6, 4, "batch"), (2, 6, 16, 16), "net.")
    forward("pixel_instance", hd.PixelDiscriminator(6, 4, "instance"), (1, 6, 16, 16), "net.")
    forward("global", hd.ResnetGenerator(5, 1, 2, 3, 4, hd=True), (1, 5, 64, 48))
    forward("global_batch", hd.ResnetGenerator(5, 3, 4, 2, 2, "batch", hd=True), (2, 5, 16, 16))
    forward("local", hd.LocalEnhancer(5, 3, 2, 2, 2, 1, 3), (1, 5, 32, 24))
    forward("local2", hd.LocalEnhancer(5, 3, 2, 1, 2, 2, 1), (1, 5, 32, 32))
    forward("scales2", hd.MultiscaleDiscriminator(8, 4, 3, 2), (1, 8, 32, 40),
            use=lambda net, x: [scale[-1] for scale in net(x)])
    forward("scales3", hd.MultiscaleDiscriminator(8, 4, 2, 3), (1, 8, 32, 32),
            use=lambda net, x: [stage for scale in net(x) for stage in (scale[0].mean((2, 3)), scale[-1])])
    forward("vgg19", hd.Vgg19(), (1, 3, 16, 16), use=lambda net, x: [tap.mean((0, 2, 3)) for tap in net(x)])
    forward("perceptual", hd.Vgg19(), (1, 6, 16, 16), use=lambda net, x: hd.perceptual(net, x[:, :3], x[:, 3:]).reshape(1))


def training():
    def make(match=10.0, instances=False, features=0, enhancers=0):
        def trainer():
            seen = 10 + instances
            arguments = (seen + features, 1, 4, 2, 2, enhancers, 1) if enhancers else (seen + features, 1, 4, 2, 2)
            g = hd.LocalEnhancer(*arguments) if enhancers else hd.ResnetGenerator(*arguments, hd=True)
            return hd.HdTrainer(g, hd.MultiscaleDiscriminator(seen + 1, 4, 3, 2), 10,
                                hd.InstanceEncoder(1, features, 2, 2) if features else None, match=match)
        return trainer

    def train(name, make, seed, **inputs):
        inputs = {key: fixtures.Whole((2, 1, 32, 32)) for key in ("label", *inputs)}
        fixtures.train(name, make, 2, (1, 32, 32), None, seed, count=10, file="hd", **inputs)

    train("pix2pixhd", make(), 1)
    train("pix2pixhd_unmatched", make(0.0), 1)
    train("pix2pixhd_local", make(enhancers=1), 1)
    train("pix2pixhd_edges", make(instances=True), 2, instance=True)
    train("pix2pixhd_features", make(instances=True, features=3), 2, instance=True)


if __name__ == "__main__":
    networks()
    training()
    fixtures.write_files()
