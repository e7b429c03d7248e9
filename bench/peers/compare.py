#!/usr/bin/env python3
"""Training steps, generators, layers and products of gan.h and of its peers in turn, in one run.

    compare.py [--bench build/bench] [--threads N] [--rounds N] [--filter TEXT]

Each case is run by bench/bench.c and by each peer, one after the other, --rounds times; a line has the medians over the
rounds: name threads gan_ms peer_ms ratio. The peer of all cases is PyTorch; lines whose name ends in _openblas are matrix
products by the OpenBLAS of numpy, _onnxruntime generators by onnxruntime (needs the packages onnx, onnxscript and
onnxruntime). What cannot be imported is named and left out. Networks, losses and order of updates are those of gan.h
(steps.py, latent.py, hd.py, pairs.py, translate.py). Peers run with as many threads as gan.h; the variables OPENBLAS_*
and OMP_NUM_THREADS of the environment are taken out for them, and with one thread all are bound to one processor where
the system can.
"""
import argparse
import importlib.util
import io
import os
import statistics
import subprocess
import sys
import time

parser = argparse.ArgumentParser()
parser.add_argument("--bench", default="build/bench")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--filter", default="")
args = parser.parse_args()

for variable in [name for name in os.environ if name.startswith("OPENBLAS_") or name == "OMP_NUM_THREADS"]:
    del os.environ[variable]
os.environ["OPENBLAS_NUM_THREADS"] = str(args.threads)
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import torch  # noqa: E402
from torch.nn.functional import conv2d, conv_transpose2d, pad  # noqa: E402

import hd  # noqa: E402
import latent  # noqa: E402
import pairs  # noqa: E402
import steps  # noqa: E402
import translate  # noqa: E402


def images(n, channels, size):
    return torch.rand(n, channels, size, size) * 2 - 1


def flat(n=64):
    return torch.rand(n, 784) * 2 - 1


def step_gan():
    trainer, x, z = steps.Trainer(*steps.gan_networks(), "gd"), flat(), torch.randn(64, 100)
    return lambda: trainer.step(x, z)


def step_cgan():
    g = steps.CganGenerator(steps.gan_networks(latent=110)[0])
    trainer = steps.ConditionalTrainer(g, steps.CganDiscriminator(dropout=0.4), "gd", steps.least_squares)
    x, z, label = flat(), torch.randn(64, 100), torch.randint(10, (64,))
    return lambda: trainer.step(x, z, label, label)


def step_wgan():
    trainer = steps.wgan(*steps.gan_networks())
    x, z = flat(), torch.randn(64, 100)
    return lambda: [trainer.step(x, z, z) for _ in range(5)]


def step_dcgan(order="dg", loss=steps.bce, targets=(0.0, 1.0, 1.0)):
    trainer = steps.Trainer(*steps.dcgan_networks(), order, loss, targets)
    x, z = images(64, 3, 64), torch.randn(64, 100, 1, 1)
    return lambda: trainer.step(x, z)


def step_wgan_gp():
    trainer = steps.wgan_gp(*steps.dcgan_networks(critic=True))
    x, z, epsilon = images(64, 3, 64), torch.randn(64, 100, 1, 1), torch.rand(64, 1, 1, 1)
    return lambda: [trainer.step(x, z, z, epsilon) for _ in range(5)]


def step_acgan():
    trainer = steps.AuxiliaryTrainer(steps.AcganGenerator(), steps.AcganDiscriminator(dropout=0.25))
    x, z, label = images(64, 1, 32), torch.randn(64, 100), torch.randint(10, (64,))
    return lambda: trainer.step(x, z, label, label)


def step_infogan():
    trainer = latent.InfoGanTrainer(latent.InfoGanGenerator(), latent.InfoGanDiscriminator())
    x, z, code, c = images(128, 1, 28), torch.randn(128, 62), torch.randint(10, (128, 1)), torch.rand(128, 2) * 2 - 1
    return lambda: trainer.step(x, z, code, c)


def step_context_encoder():
    trainer = pairs.ContextTrainer(pairs.ContextGenerator(bottleneck=512), pairs.ContextDiscriminator())
    x = images(64, 3, 128)
    return lambda: trainer.step(x)


def step_cogan():
    trainer = pairs.CoupledTrainer(pairs.CoupledGenerator(32), pairs.CoupledDcganDiscriminator(32, (1, 1)))
    a, b, z = images(64, 1, 32), images(64, 1, 32), torch.randn(64, 100)
    return lambda: trainer.step(z, a, b, z)


def step_draw():
    trainer = latent.DrawTrainer(latent.Draw())
    x, z, chance = images(64, 1, 28), torch.randn(64, 100), torch.rand(64, 1, 28, 28)
    return lambda: trainer.step(x, z, chance)


def step_pix2pix():
    trainer = translate.Pix2pix(translate.Unet(dropout=0.5), hd.PatchDiscriminator(6, 64, 3, "batch"))
    a, b = images(1, 3, 256), images(1, 3, 256)
    return lambda: trainer.step(a, b)


def step_cyclegan():
    trainer = translate.CycleGan(hd.ResnetGenerator, lambda: hd.PatchDiscriminator(3, 64, 3, "instance"))
    a, b = images(1, 3, 256), images(1, 3, 256)
    return lambda: trainer.step(a, b)


def step_dualgan():
    """Of three steps one also updates the generators: the median is one that does not, as in bench.c."""
    trainer = translate.DualGan(lambda: translate.Unet(3, 3, 8, 64, "affine", 3, 5), lambda: translate.DualCritic(256))
    a, b = images(1, 3, 256), images(1, 3, 256)
    return lambda: trainer.step(a, b)


def step_discogan():
    """Of three steps two update the generators."""
    trainer = translate.DiscoGan(translate.DiscoGenerator, translate.DiscoDiscriminator)
    a, b = images(64, 3, 64), images(64, 3, 64)
    return lambda: trainer.step(a, b)


def step_pix2pixhd():
    trainer = hd.HdTrainer(hd.ResnetGenerator(downs=4, hd=True), hd.MultiscaleDiscriminator(6))
    trainer.condition = lambda real, seen, instance: seen  # an image instead of classes
    a, b = images(1, 3, 256), images(1, 3, 256)
    return lambda: trainer.step(b, a)


def generator(make, shape):
    """One image through a generator, as it is used after training."""
    net, x = make().eval(), torch.randn(shape)

    def run():
        with torch.inference_mode():
            net(x)
    return run


def generator_onnxruntime(make, shape):
    import onnxruntime
    file, options = io.BytesIO(), onnxruntime.SessionOptions()
    torch.onnx.export(make().eval(), (torch.randn(shape),), file, dynamo=False)
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: torch.randn(shape).numpy()}
    return lambda: session.run(None, feed)


GENERATORS = {
    "generator_dcgan_64x64_b1": (lambda: steps.dcgan_networks()[0], (1, 100, 1, 1)),
    "generator_pix2pix_256x256_b1": (translate.Unet, (1, 3, 256, 256)),
    "generator_cyclegan_256x256_b1": (hd.ResnetGenerator, (1, 3, 256, 256)),
}

STEPS = {
    "step_gan_28x28_b64": step_gan,
    "step_cgan_28x28_b64": step_cgan,
    "step_wgan_28x28_b64": step_wgan,
    "step_dcgan_64x64_b64": step_dcgan,
    "step_lsgan_64x64_b64": lambda: step_dcgan("gd", steps.least_squares),
    "step_wgan-gp_64x64_b64": step_wgan_gp,
    "step_acgan_32x32_b64": step_acgan,
    "step_infogan_28x28_b128": step_infogan,
    "step_draw_28x28_b64": step_draw,
    "step_context-encoder_128x128_b64": step_context_encoder,
    "step_cogan_32x32_b64": step_cogan,
    "step_pix2pix_256x256_b1": step_pix2pix,
    "step_cyclegan_256x256_b1": step_cyclegan,
    "step_dualgan_256x256_b1": step_dualgan,
    "step_discogan_64x64_b64": step_discogan,
    "step_pix2pixhd_256x256_b1": step_pix2pixhd,
}


def layer(name):
    """A convolution whose name says what it is, as bench/bench.c puts it together:
    CLASS_NETWORK_conv[t]_CtoO_atSIZE_bN[_reflect]_PASS. None if it is none."""
    words = name.split("_")
    kind = next((word for word in words if word in ("conv", "convt")), None)
    if kind is None:
        return None
    channels, size, batch = words[words.index(kind) + 1:words.index(kind) + 4]
    c, o = map(int, channels.split("to"))
    size, batch = int(size[2:]), int(batch[1:])
    kernel, stride, padding = {"3x3s1": (3, 1, 1), "3x3s2": (3, 2, 1), "4x4s1": (4, 1, 1), "7x7": (7, 1, 3),
                               "latent": (4, 1, 0), "1channel": (4, 1, 0 if size == 4 else 1)}.get(words[0], (4, 2, 1))
    transposed = kind == "convt"
    x = torch.randn(batch, c, size, size)
    w = torch.randn(*((c, o) if transposed else (o, c)), kernel, kernel)

    def forward(x, w):
        if transposed:
            return conv_transpose2d(x, w, stride=stride, padding=padding, output_padding=int(words[0] == "3x3s2"))
        if "reflect" in words:
            return conv2d(pad(x, (padding,) * 4, mode="reflect"), w, stride=stride)
        return conv2d(x, w, stride=stride, padding=padding)

    if words[-1] == "forward":
        def run():
            with torch.no_grad():
                forward(x, w)
        return run
    wanted = x if words[-1] == "input" else w
    y = forward(x, w.requires_grad_(wanted is w)) if wanted is w else forward(x.requires_grad_(), w)
    dy = torch.randn_like(y)
    return lambda: torch.autograd.grad(y, wanted, dy, retain_graph=True)


def factors(name):
    """Of gemm_MxNxK[_at][_bt]: a, b and room for their product."""
    words = name.split("_")
    m, n, k = map(int, words[1].split("x"))
    a = torch.randn(k, m).T if "at" in words else torch.randn(m, k)
    b = torch.randn(n, k).T if "bt" in words else torch.randn(k, n)
    return a, b, torch.empty(m, n)


def product(name):
    a, b, c = factors(name)
    return lambda: torch.mm(a, b, out=c)


def product_openblas(name):
    import numpy
    a, b, c = (x.numpy() for x in factors(name))
    return lambda: numpy.matmul(a, b, out=c)


# Kind of a case, peer, the packages that it needs, and what makes a run of it.
PEERS = [
    ("gemm_", "openblas", ["numpy"], product_openblas),
    ("generator_", "onnxruntime", ["onnx", "onnxscript", "onnxruntime"], lambda name: generator_onnxruntime(*GENERATORS[name])),
]


def case(name):
    if name in STEPS:
        return STEPS[name]()
    if name in GENERATORS:
        return generator(*GENERATORS[name])
    return product(name) if name.startswith("gemm_") else layer(name)


def cases(name):
    """[suffix of the line's name, run] of each peer that has the case; PyTorch first."""
    run = case(name)
    found = [("", run)] if run else []
    for kind, peer, packages, make in PEERS:
        if name.startswith(kind) and all(importlib.util.find_spec(package) for package in packages):
            found.append((f"_{peer}", make(name)))
    return found


def measure(run, seconds=0.4):
    """Median milliseconds; one thread by its processor time, as bench.c does."""
    clock = time.process_time if args.threads == 1 else time.perf_counter
    times = []
    while len(times) < 3 or sum(times) < 1e3 * seconds and len(times) < 1000:
        start = clock()
        run()
        times.append((clock() - start) * 1e3)
    return statistics.median(times)


def measure_ours(name):
    out = subprocess.run([args.bench, "--exact", name, "--threads", str(args.threads)], check=True, capture_output=True,
                         text=True).stdout
    return float(next(line.split()[2] for line in out.splitlines() if line.startswith(name)))


def main():
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    if args.threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    listing = subprocess.run([args.bench, "--list", "1", "--filter", args.filter], check=True, capture_output=True, text=True)
    print(f"# torch {torch.__version__}, {args.threads} threads, medians of {args.rounds} rounds")
    for _, peer, packages, _ in PEERS:
        missing = [package for package in packages if not importlib.util.find_spec(package)]
        if missing:
            print(f"# {peer} is not measured: missing packages: {', '.join(missing)}")
    print("# name threads gan_ms peer_ms ratio")
    for name in listing.stdout.split():
        peers, ours = cases(name), []
        theirs = [[] for _ in peers]
        for _, run in peers:
            run()
        for _ in range(args.rounds if peers else 0):
            ours.append(measure_ours(name))
            for times, (_, run) in zip(theirs, peers):
                times.append(measure(run))
        for times, (suffix, _) in zip(theirs, peers):
            a, b = statistics.median(ours), statistics.median(times)
            print(f"{name}{suffix} {args.threads} {a:.3f} {b:.3f} {b / a:.2f}", flush=True)


if __name__ == "__main__":
    main()
