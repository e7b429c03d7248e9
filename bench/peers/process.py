#!/usr/bin/env python3
"""One image through a CycleGAN generator, as a whole process: `gan translate` and PyTorch in turn, from the same .pth file.

    process.py IN.ppm [--gan build/gan] [--threads N] [--rounds N] [--blocks N] [--seed N]

IN is a PPM file of 8 bits, sides divisible by 4 (256x256: the case of the README). The weights are random, named as in
junyanz/pytorch-CycleGAN-and-pix2pix. Both sides start, read weights and image, write a picture and end; lines are

    who threads wall_s cpu_s peak_MiB

medians over the rounds, of gan, of PyTorch, and of PyTorch that only starts and reads (import), followed by PyTorch's second
forward pass alone, and by the largest difference between the two pictures (levels of 255).
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
parser = argparse.ArgumentParser()
parser.add_argument("image")
parser.add_argument("--gan", default="build/gan")
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--blocks", type=int, default=9)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--as-peer", nargs=3, metavar=("KIND", "WEIGHTS", "OUT"), help="used by the script itself")
args = parser.parse_args()

for variable in [name for name in os.environ if name.startswith("OPENBLAS_") or name == "OMP_NUM_THREADS"]:
    del os.environ[variable]


def read_ppm(path):
    """(width, height, bytes)"""
    with open(path, "rb") as file:
        data = file.read()
    fields, at = [], 0
    while len(fields) < 4:
        if data[at:at + 1].isspace():
            at += 1
        elif data[at:at + 1] == b"#":
            at = data.index(b"\n", at)
        else:
            end = at
            while not data[end:end + 1].isspace():
                end += 1
            fields.append(data[at:end])
            at = end
    if fields[0] != b"P6" or fields[3] != b"255":
        sys.exit(f"{path}: a PPM file of 8 bits is needed, found {fields}")
    return int(fields[1]), int(fields[2]), data[at + 1:]


def translate(kind, weights, out):
    """PyTorch's side. kind: write only makes the weights, import stops in front of the network, twice prints the seconds
    of a second pass."""
    import torch
    import hd
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    net = hd.ResnetGenerator(blocks=args.blocks)
    if kind == "write":
        torch.save(net.state_dict(), weights)
        return
    net.load_state_dict(torch.load(weights))
    net.eval()
    width, height, data = read_ppm(args.image)
    x = torch.frombuffer(bytearray(data), dtype=torch.uint8).reshape(1, height, width, 3).permute(0, 3, 1, 2)
    x = x.float() / 127.5 - 1
    if kind == "import":
        return
    with torch.inference_mode():
        y = net(x)
        if kind == "twice":
            start = time.perf_counter()
            net(x)
            print(time.perf_counter() - start)
    y = ((y[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    with open(out, "wb") as file:
        file.write(b"P6\n%d %d\n255\n" % (width, height) + y.numpy().tobytes())


def spend(command):
    """[wall seconds, processor seconds, MiB] of a process."""
    start = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"{command[0]} failed")
    return [time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024]


def main():
    """Imports nothing large: the peak of a child counts what its parent held when it forked."""
    if args.threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, "latest_net_G.pth")
        pictures = [os.path.join(folder, name) for name in ("gan.ppm", "torch.ppm")]
        this = [sys.executable, os.path.abspath(__file__), args.image, "--threads", str(args.threads), "--blocks",
                str(args.blocks), "--seed", str(args.seed)]
        spend(this + ["--as-peer", "write", weights, ""])
        commands = {"gan": [args.gan, "translate", weights, args.image, pictures[0], "--threads", str(args.threads)],
                    "torch": this + ["--as-peer", "once", weights, pictures[1]],
                    "torch_import": this + ["--as-peer", "import", weights, pictures[1]]}
        seen = {name: [] for name in commands}
        for _ in range(args.rounds):
            for name, command in commands.items():
                seen[name].append(spend(command))
        print(f"# medians of {args.rounds} rounds\n# who threads wall_s cpu_s peak_MiB")
        for name, rows in seen.items():
            wall, cpu, peak = (statistics.median(column) for column in zip(*rows))
            print(f"{name} {args.threads} {wall:.3f} {cpu:.3f} {peak:.0f}")
        second = subprocess.run(this + ["--as-peer", "twice", weights, pictures[1]], check=True, capture_output=True, text=True)
        print(f"torch_second_pass {args.threads} {float(second.stdout):.3f}")
        (_, _, ours), (_, _, theirs) = map(read_ppm, pictures)
        print(f"# largest difference: {max(abs(a - b) for a, b in zip(ours, theirs))} of 255")


if args.as_peer:
    translate(*args.as_peer)
else:
    main()
