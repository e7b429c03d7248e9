#!/usr/bin/env python3
"""Writes checkpoints with PyTorch, as people have them (tests/fixtures/weights), and what the networks in them make of an
image (outputs.safetensors beside them), for tests/test_weights.c. The networks are those of bench/peers.

    python3 tests/fixtures_weights.py            small networks, committed
    python3 tests/fixtures_weights.py FOLDER     networks of full size, each as .pth and .safetensors, into FOLDER;
                                                 then: GAN_TEST_WEIGHTS=FOLDER build/test_weights full_size

Weights, images and maps are random numbers by name; outputs are computed in float64.
"""
import os
import sys

import numpy as np
import torch
import torch.nn.functional as F

import fixtures
import hd
import steps
import translate as peers

SEED = 1
OUTPUTS = {}
folder = os.path.join(fixtures.HERE, "fixtures", "weights")


def filled(name, net, rename=lambda key: key):
    """The network's state_dict with random numbers, also for running statistics; net keeps them in float64."""
    fixtures.fill(name, net, SEED)
    for key, value in net.named_buffers():
        if key.endswith("running_mean"):
            value.copy_(torch.tensor(fixtures.random(f"{name}.{key}", value.shape, -0.1, 0.1, SEED)))
        elif key.endswith("running_var"):
            value.copy_(torch.tensor(fixtures.random(f"{name}.{key}", value.shape, 0.5, 1.5, SEED)))
    state = {rename(key): value.clone() for key, value in net.state_dict().items()}
    net.double()
    return state


def draw(name, shape, low=-1.0, high=1.0):
    return torch.tensor(fixtures.random(name, shape, low, high, SEED), dtype=torch.float64)


def image(name, channels, height, width):
    return draw(f"{name}.x", (1, channels, height, width))


def seen(name, classes, height, width, instances=False):
    """A map as pix2pixHD's networks see it."""
    label = draw(f"{name}.label", (1, height, width), 0.0, classes).floor().long()
    parts = [F.one_hot(label, classes).permute(0, 3, 1, 2).double()]
    if instances:
        parts.append(hd.edges(draw(f"{name}.instance", (1, 1, height, width), 0.0, 3.0).floor()).double())
    return torch.cat(parts, 1)


def keep(name, y):
    OUTPUTS[f"{name}.out.y"] = torch.cat([part.detach().reshape(-1) for part in y]).numpy().astype(np.float32) \
        if isinstance(y, list) else y.detach().numpy().astype(np.float32)


def save(name, state, kinds="p", **options):
    """kinds: p .pth, s .safetensors"""
    if "p" in kinds:
        torch.save(state, os.path.join(folder, name + ".pth"), **options)
    if "s" in kinds:
        fixtures.write_safetensors(os.path.join(folder, name + ".safetensors"),
                                   {key: value.float().numpy() for key, value in state.items()})


class OldUnetBlock(peers.UnetBlock):
    def forward(self, x):
        return self.model(x) if self.outermost else torch.cat((self.model(x), x), 1)


def old_unet(levels, ngf, september=False):
    """As before August 2017 (biases in front of batch norm), or September: what comes from below is joined first."""
    usual, peers.UnetBlock = peers.UnetBlock, OldUnetBlock
    make, peers.make_norm = peers.make_norm, lambda kind: (torch.nn.BatchNorm2d, not september)
    net = peers.Unet(1, 1, levels, ngf)
    peers.UnetBlock, peers.make_norm = usual, make
    return net


def unpadded(chain):
    """A chain whose convolutions pad with zeros instead of a layer in front of them that mirrors the border."""
    kept, pad = [], 0
    for layer in chain:
        if isinstance(layer, torch.nn.ReflectionPad2d):
            pad = layer.padding[0]
            continue
        if isinstance(layer, torch.nn.Conv2d) and pad:
            layer.padding, pad = (pad, pad), 0
        kept.append(torch.nn.InstanceNorm2d(layer.num_features, affine=True)
                    if isinstance(layer, torch.nn.InstanceNorm2d) else layer)
    return torch.nn.Sequential(*kept)


def old_resnet(ngf, blocks):
    """As before July 2017."""
    net = hd.ResnetGenerator(3, 1, ngf, blocks)
    net.model = unpadded(net.model)
    for block in net.model:
        if isinstance(block, hd.ResidualBlock):
            block.conv_block = unpadded(block.conv_block)
    return net


def dcgan(size, channels, latent, width):
    g, d = steps.dcgan_networks(size, channels, latent, width, width)
    return g.eval(), d, lambda key: "main." + key


def small():
    net = peers.Unet(3, 2, 5, 2)
    save("unet", filled("unet", net))
    keep("unet", net(image("unet", 3, 32, 32)))

    net = peers.Unet(1, 1, 5, 1, "instance")  # saved from a DataParallel
    save("unet_instance", {"module." + key: value for key, value in filled("unet_instance", net).items()}, "s")
    keep("unet_instance", net(image("unet_instance", 1, 32, 32)))

    net = peers.Unet(1, 1, 5, 1)  # as PyTorch wrote it before 1.6
    save("unet_stream", filled("unet_stream", net), _use_new_zipfile_serialization=False)
    keep("unet_stream", net(image("unet_stream", 1, 32, 32)))

    net = old_unet(4, 1)
    save("unet_august", filled("unet_august", net), "s")
    keep("unet_august", net(image("unet_august", 1, 16, 16)))
    net = old_unet(4, 1, september=True)
    save("unet_september", filled("unet_september", net), "s")
    keep("unet_september", net(image("unet_september", 1, 16, 16)))

    net = old_resnet(1, 2)  # with the running statistics that instance norm had then
    state = filled("resnet_july", net)
    for key, layer in net.named_modules():
        if isinstance(layer, torch.nn.InstanceNorm2d):
            state[key + ".running_mean"] = torch.zeros(layer.num_features)
            state[key + ".running_var"] = torch.ones(layer.num_features)
    save("resnet_july", state, "s")
    keep("resnet_july", net(image("resnet_july", 3, 16, 20)))

    net = hd.ResnetGenerator(3, 3, 2, 6)  # half precision, in a training checkpoint, with the buffers of PyTorch before 0.4
    state = {key: value.half() for key, value in filled("resnet", net).items()}
    net.load_state_dict({key: value.double() for key, value in state.items()})
    state["model.2.running_mean"], state["model.2.running_var"] = torch.zeros(2), torch.ones(2)
    state["model.2.num_batches_tracked"] = torch.tensor(7)
    save("resnet", {"epoch": 3, "lr": 2e-4, "params": {key: 2 * value for key, value in state.items()},
                    "params_ema": state, "betas": (0.5, 0.999)})
    keep("resnet", net(image("resnet", 3, 16, 20)))

    net = hd.ResnetGenerator(3, 1, 2, 2, norm="batch", dropout=True)
    for block in net.model[10:12]:
        block.conv_block[4].eval()
    save("resnet_dropout", filled("resnet_dropout", net))
    keep("resnet_dropout", net(image("resnet_dropout", 3, 16, 16)))

    g, d, rename = dcgan(16, 1, 4, 2)
    save("dcgan", {"netG": filled("dcgan", g, rename), "netD": filled("dcgan_d", d, rename), "nz": 4})
    keep("dcgan", g(torch.full((1, 4, 1, 1), 0.5, dtype=torch.float64)))
    save("discriminator", filled("dcgan_d", dcgan(16, 1, 4, 2)[1], rename))

    net = hd.ResnetGenerator(5, 3, 2, 2, 3, hd=True)
    save("global", filled("global", net))
    keep("global", net(seen("global", 5, 16, 24)))

    net = hd.LocalEnhancer(36, 3, 1, 1, 2, 1, 2)
    save("local", filled("local", net))
    keep("local", net(seen("local", 35, 16, 24, True)))

    pair = {"G_A": filled("pair_a", hd.ResnetGenerator(1, 1, 1, 1)),
            "G_B": filled("pair_b", hd.ResnetGenerator(1, 1, 1, 1))}
    save("pair", pair)


def full():
    for name, net in (("unet_128", peers.Unet(3, 3, 7, 64)), ("unet_256", peers.Unet(3, 3, 8, 64)),
                      ("resnet_6", hd.ResnetGenerator(3, 3, 64, 6)), ("resnet_9", hd.ResnetGenerator(3, 3, 64, 9))):
        size = 128 if name == "unet_128" else 256
        save(name, filled(name, net), "ps")
        keep(name, net(image(name, 3, size, size)))
    net = hd.ResnetGenerator(36, 3, 64, 9, 4, hd=True)
    save("hd_global", filled("hd_global", net), "ps")
    keep("hd_global", net(seen("hd_global", 35, 64, 128, True)))
    net = hd.LocalEnhancer(36, 3, 32, 9, 4, 1, 3)
    save("hd_local", filled("hd_local", net), "ps")
    keep("hd_local", net(seen("hd_local", 35, 64, 128, True)))
    for name, net, size in (("patch", hd.PatchDiscriminator(6, 64, 3, "batch"), 256),
                            ("pixel", hd.PixelDiscriminator(6, 64, "batch"), 64),
                            ("scales", hd.MultiscaleDiscriminator(39, 64, 3, 2), 128)):
        channels = 39 if name == "scales" else 6
        save(name, filled(name, net), "ps")
        y = net(image(name, channels, size, size))
        keep(name, [scale[-1] for scale in y] if name == "scales" else y)
    g, _, rename = dcgan(64, 3, 100, 64)
    save("dcgan_64", filled("dcgan_64", g, rename), "ps")
    keep("dcgan_64", g(torch.full((1, 100, 1, 1), 0.5, dtype=torch.float64)))


def main():
    global folder
    folder = sys.argv[1] if len(sys.argv) > 1 else folder
    os.makedirs(folder, exist_ok=True)
    with torch.no_grad():
        full() if len(sys.argv) > 1 else small()
    out = os.path.join(folder, "outputs.safetensors")
    fixtures.write_safetensors(out, OUTPUTS)
    files = os.listdir(folder)
    print(len(files), "files,", sum(os.path.getsize(os.path.join(folder, name)) for name in files), "bytes")


if __name__ == "__main__":
    main()
