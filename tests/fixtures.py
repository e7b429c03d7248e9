#!/usr/bin/env python3
"""Writes tests/fixtures/*.safetensors with PyTorch: what tests/test_parity.c compares gan.h with.

A case "c" is a function of named inputs. Its tensors are called

    c.in.x       input or parameter
    c.out.y      output
    c.grad.x     gradient of L1 = sum over outputs of sum(y * mix)   in x, for every input that has one
    c.grad2.x    gradient of L2 = sum over those inputs of sum(grad.x * mix2)   in x: the second derivative

and mix, mix2 are random numbers by formula (random below), which the test draws again, so that they need not be
stored. Inputs are float32; everything is computed in float64 and rounded once, so a fixture is as good as float32
can hold, and the same bytes on every machine but for a rare last bit.

Needs torch (1.13 will do). Run from anywhere: python3 tests/fixtures.py
"""
import json
import math
import os
import re
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "bench", "peers"))
import steps  # noqa: E402  the networks and training steps

torch.set_num_threads(1)


# --- files and random numbers ----------------------------------------------------------------------

def write_safetensors(path, tensors):
    """tensors: name -> float32 array. Format: length of header, JSON header, data."""
    header, offset = {}, 0
    for name, value in tensors.items():
        header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [offset, offset + value.nbytes]}
        offset += value.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for value in tensors.values():
            file.write(value.astype("<f4").tobytes())


def philox_uniform(seed, stream, count):
    """gan_random_uniform(seed, stream, 0, ..., count): Philox4x32-10, multiples of 2^-24 in [0,1)."""
    mask = np.uint64(0xFFFFFFFF)
    block = np.arange((count + 3) // 4, dtype=np.uint64)
    half = np.uint64(32)
    c = [block & mask, block >> half, np.full_like(block, stream & 0xFFFFFFFF), np.full_like(block, stream >> 32)]
    key = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> half) ^ c[1] ^ np.uint64(key[0]), p1 & mask, (p0 >> half) ^ c[3] ^ np.uint64(key[1]), p0 & mask]
        key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
    bits = np.stack(c, axis=1).reshape(-1)[:count]
    return (bits >> np.uint64(8)).astype(np.float32) / np.float32(16777216)


def random(name, shape, low=-1.5, high=1.5, seed=1):
    """Uniform in [low,high), a function of the name alone; the bounds must make low + (high-low)*u exact enough:
    one float32 product and one sum, as C computes them."""
    stream = 0xCBF29CE484222325  # FNV-1a of the name
    for byte in name.encode():
        stream = (stream ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    u = philox_uniform(seed, stream, math.prod(shape))
    return (np.float32(low) + np.float32(high - low) * u).reshape(shape)


# --- cases -----------------------------------------------------------------------------------------

class Positive(tuple):
    """Shape of an input whose values are in [0.5,2)."""


class Given:
    """Values written out; by default without gradient: labels, indices, targets, running statistics."""

    def __init__(self, values, gradient=False):
        self.values, self.gradient = np.asarray(values, dtype=np.float32), gradient


class Uniform(tuple):
    """Shape of an input without gradient, values in [0,1): targets."""


files = {}


def case(file, name, function, **inputs):
    """function takes the inputs as float64 tensors and returns a tensor (output "y") or a dictionary. Outputs whose
    name starts with "after." are values that a run leaves in inputs; they have no gradient."""
    store = files.setdefault(file, {})
    leaves, frozen = {}, set()
    for key, spec in inputs.items():
        key, full = key.replace("__", "."), f"{name}.in.{key.replace('__', '.')}"
        if isinstance(spec, Given):
            value = spec.values
        elif isinstance(spec, Positive):
            value = random(full, spec, 0.5, 2.0)
        elif isinstance(spec, Uniform):
            value = random(full, spec, 0.0, 1.0)
        else:
            value = random(full, spec)
        if isinstance(spec, Uniform) or isinstance(spec, Given) and not spec.gradient:
            frozen.add(key)
        store[full] = value
        leaves[key] = torch.tensor(value, dtype=torch.float64, requires_grad=key not in frozen)

    arguments = {key.replace(".", "__"): value for key, value in leaves.items()}
    outputs = function(**arguments)
    outputs = outputs if isinstance(outputs, dict) else {"y": outputs}
    wrt = [key for key in leaves if key not in frozen]

    def keep(full, value):
        store[full] = value.numpy(force=True).astype(np.float32)

    def mixed(kind, values):
        """Sum of all values, each weighted by random numbers."""
        return sum((value * torch.from_numpy(random(f"{name}.{kind}.{key}", value.shape)).double()).sum()
                   for key, value in values.items())

    def gradients(loss):
        if not wrt or not loss.requires_grad:
            return {key: torch.zeros_like(leaves[key]) for key in wrt}
        grads = torch.autograd.grad(loss, [leaves[key] for key in wrt], create_graph=True, allow_unused=True)
        return {key: torch.zeros_like(leaves[key]) if grad is None else grad for key, grad in zip(wrt, grads)}

    after = {key: value for key, value in outputs.items() if key.startswith("after.")}
    outputs = {key: value for key, value in outputs.items() if key not in after}
    for key, value in outputs.items():
        keep(f"{name}.out.{key}", value)
    for key, value in after.items():
        keep(f"{name}.{key}", value)
    first = gradients(mixed("mix", outputs))
    second = gradients(mixed("mix2", first))
    for key in wrt:
        keep(f"{name}.grad.{key}", first[key])
    for key in wrt:
        keep(f"{name}.grad2.{key}", second[key])


def elementwise():
    a, b = (2, 3, 1, 4), (3, 5, 1)
    case("ops", "add", torch.add, input=a, other=b)
    case("ops", "sub", torch.sub, input=a, other=b)
    case("ops", "mul", torch.mul, input=a, other=b)
    case("ops", "div", torch.div, input=a, other=Positive(b))
    case("ops", "maximum", torch.maximum, input=(3, 7), other=(7,))
    case("ops", "minimum", torch.minimum, input=(3, 7), other=(3, 1))
    case("ops", "greater", lambda input, other: (input > other).double(), input=(3, 7), other=(7,))
    case("ops", "affine", lambda x: 0.75 * x - 1.25, x=(3, 7))
    case("ops", "square", torch.square, input=(3, 7))
    case("ops", "sqrt", torch.sqrt, input=Positive((3, 7)))
    case("ops", "rsqrt", torch.rsqrt, input=Positive((3, 7)))
    case("ops", "exp", torch.exp, input=(3, 7))
    case("ops", "log", torch.log, input=Positive((3, 7)))
    case("ops", "abs", torch.abs, input=(3, 7))
    case("ops", "sign", torch.sign, input=(3, 7))
    case("ops", "softplus", F.softplus, input=(3, 7))
    case("ops", "softplus_far", F.softplus, input=Given([-100, -30, -20, -1, 0, 1, 19, 30, 100], True))
    case("ops", "clamp", lambda x: x.clamp(-0.5, 0.75), x=(3, 7))
    case("ops", "relu", F.relu, input=(3, 17))
    case("ops", "leaky_relu", lambda x: F.leaky_relu(x, 0.2), x=(3, 17))
    case("ops", "tanh", torch.tanh, input=(3, 17))
    case("ops", "sigmoid", torch.sigmoid, input=(3, 17))
    case("ops", "bce_logits", lambda x, target: F.binary_cross_entropy_with_logits(x, target, reduction="none"),
         x=(3, 7), target=Uniform((3, 7)))
    case("ops", "prelu_shared", F.prelu, input=(2, 3, 2, 3), weight=(1,))
    case("ops", "prelu_channels", F.prelu, input=(2, 3, 2, 3), weight=(3,))


def reductions_and_shapes():
    x = (2, 3, 4, 5)
    case("ops", "sum_axes_0_2", lambda x: x.sum((0, 2), keepdim=True), x=x)
    case("ops", "sum_all", torch.sum, input=x)
    case("ops", "mean_axis_1", lambda x: x.mean(1, keepdim=True), x=x)
    case("ops", "mean_last", lambda x: x.mean(3, keepdim=True), x=x)
    case("ops", "max_over_2_3", lambda x: x.amax((2, 3), keepdim=True), x=x)
    case("ops", "broadcast", lambda x: x.broadcast_to(2, 3, 4), x=(3, 1))
    case("ops", "reshape", lambda x: x.reshape(4, 6), x=(2, 3, 4))
    case("ops", "permute", lambda x: x.permute(2, 0, 3, 1), x=(2, 3, 4, 5))
    case("ops", "concat", lambda a, b, c: torch.cat((a, b, c), 1), a=(2, 3, 2), b=(2, 1, 2), c=(2, 4, 2))
    case("ops", "concat_column", lambda a, b, c: torch.cat((a, b, c), 2), a=(2, 3, 2), b=(2, 3, 1), c=(2, 3, 1))
    case("ops", "slice_column", lambda x: x[..., 1:2], x=(3, 4))
    case("ops", "pad_column", lambda x: F.pad(x, (2, 1)), x=(3, 1))
    case("ops", "slice", lambda x: x[:, 1:4], x=(2, 5, 3))
    case("ops", "pad", lambda x: F.pad(x, (0, 0, 2, 1)), x=(2, 3, 4))
    case("ops", "pad_reflect", lambda x: F.pad(x, (3, 3, 1, 1), mode="reflect"), x=(2, 2, 3, 5))
    case("ops", "softmax", lambda x: F.softmax(x, -1), x=(3, 2, 7))
    case("ops", "log_softmax", lambda x: F.log_softmax(x, -1), x=(3, 2, 7))
    case("ops", "one_hot", lambda index: F.one_hot(index.long(), 4).double(), index=Given([3, 0, 2, 2, 1]))
    case("ops", "gather_rows", lambda table, index: F.embedding(index.long(), table),
         table=(5, 3), index=Given([4, 0, 2, 2]))
    case("ops", "scatter_rows", lambda x, index: torch.zeros(5, 3).double().index_add(0, index.long(), x),
         x=(4, 3), index=Given([4, 0, 2, 2]))


def linear_algebra():
    case("ops", "matmul", torch.matmul, input=(2, 3, 5), other=(2, 5, 4))
    case("ops", "matmul_ta", lambda a, b: a.transpose(1, 2) @ b, a=(2, 5, 3), b=(2, 5, 4))
    case("ops", "matmul_tb", lambda a, b: a @ b.transpose(1, 2), a=(2, 3, 5), b=(2, 4, 5))
    case("ops", "matmul_ta_tb", lambda a, b: a.transpose(1, 2) @ b.transpose(1, 2), a=(2, 5, 3), b=(2, 4, 5))
    case("ops", "matmul_shared", torch.matmul, input=(2, 3, 5), other=(5, 4))
    case("ops", "linear", F.linear, input=(5, 7), weight=(9, 7), bias=(9,))
    case("ops", "linear_plain", F.linear, input=(2, 3), weight=(1, 3))


def convolutions():
    def conv(name, x, w, bias=True, **options):
        extra = {"bias": (w[0],)} if bias else {}
        case("conv", "conv_" + name, lambda input, weight, bias=None: F.conv2d(input, weight, bias, **options),
             input=x, weight=w, **extra)

    def transposed(name, x, w, bias=True, **options):
        extra = {"bias": (w[1] * options.get("groups", 1),)} if bias else {}
        case("conv", "deconv_" + name,
             lambda input, weight, bias=None: F.conv_transpose2d(input, weight, bias, **options),
             input=x, weight=w, **extra)

    conv("3x3", (2, 3, 6, 5), (4, 3, 3, 3), padding=1)
    conv("4x4_stride2", (2, 3, 8, 6), (5, 3, 4, 4), bias=False, stride=2, padding=1)
    conv("rectangular", (2, 2, 6, 7), (3, 2, 3, 5), stride=(2, 1), padding=(0, 2))
    conv("1x1", (2, 5, 3, 4), (7, 5, 1, 1))
    conv("dilated", (1, 2, 7, 6), (3, 2, 3, 3), dilation=2, padding=2)
    conv("groups", (2, 4, 5, 4), (6, 2, 3, 3), groups=2, padding=1)
    conv("depthwise", (2, 3, 5, 4), (3, 1, 3, 3), groups=3, padding=1, stride=2)
    conv("to_1x1", (3, 5, 4, 4), (1, 5, 4, 4), bias=False)
    conv("stride_beyond_kernel", (2, 2, 8, 7), (3, 2, 2, 2), stride=3)
    conv("unused_edge", (1, 2, 8, 6), (3, 2, 3, 3), stride=2)
    conv("1_channel_7x7", (1, 1, 9, 8), (3, 1, 7, 7), padding=3)

    def reflect(input, weight, bias):
        return F.conv2d(F.pad(input, (3, 3, 3, 3), mode="reflect"), weight, bias)
    case("conv", "conv_reflect_7x7", reflect, input=(2, 2, 6, 5), weight=(2, 2, 7, 7), bias=(2,))

    transposed("4x4_stride2", (2, 3, 4, 3), (3, 4, 4, 4), bias=False, stride=2, padding=1)
    transposed("from_1x1", (3, 5, 1, 1), (5, 3, 4, 4), bias=False)
    transposed("3x3_out_pad", (2, 3, 4, 3), (3, 2, 3, 3), stride=2, padding=1, output_padding=1)
    transposed("5x5_out_pad", (2, 2, 3, 4), (2, 3, 5, 5), stride=2, padding=2, output_padding=1)
    transposed("3x3_stride1", (2, 3, 4, 5), (3, 2, 3, 3), padding=1)
    transposed("groups", (2, 4, 3, 4), (4, 3, 3, 3), groups=2, stride=2, padding=1)
    transposed("dilated", (1, 2, 4, 3), (2, 3, 3, 3), dilation=2, stride=2, padding=1)
    transposed("rectangular", (2, 2, 3, 4), (2, 3, 4, 3), stride=(3, 2), padding=(1, 0), output_padding=(2, 1))


def pooling():
    x = (2, 2, 7, 5)
    case("ops", "avg_pool", lambda x: F.avg_pool2d(x, 2), x=x)
    case("ops", "avg_pool_count_pad", lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=True), x=x)
    case("ops", "avg_pool_no_count_pad", lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), x=x)
    case("ops", "max_pool", lambda x: F.max_pool2d(x, 2), x=x)
    case("ops", "max_pool_overlap", lambda x: F.max_pool2d(x, 3, 2, 1), x=x)
    case("ops", "upsample", lambda x: F.interpolate(x, scale_factor=2, mode="nearest"), x=(2, 2, 2, 3))
    case("ops", "upsample_3", lambda x: F.interpolate(x, scale_factor=3, mode="nearest"), x=(1, 2, 2, 3))


def normalisation():
    x, c = (3, 4, 3, 2), (4,)
    case("ops", "moments_batch", lambda x: torch.stack((x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False))), x=x)
    case("ops", "moments_instance",
         lambda x: torch.stack((x.mean((2, 3)).flatten(), x.var((2, 3), unbiased=False).flatten())), x=x)

    def batch_norm(input, weight=None, bias=None):
        return F.batch_norm(input, None, None, weight, bias, training=True)
    case("ops", "batch_norm", batch_norm, input=x, weight=c, bias=c)
    case("ops", "batch_norm_vectors", batch_norm, input=(5, 4), weight=c, bias=c)
    case("ops", "batch_norm_plain", batch_norm, input=x)
    case("ops", "batch_norm_then_relu", lambda **inputs: F.relu(batch_norm(**inputs)), input=x, weight=c, bias=c)
    case("ops", "batch_norm_given",
         lambda input, moments, weight, bias: F.batch_norm(input, moments[0], moments[1], weight, bias),
         input=x, moments=Given([[0.5, -0.25, 0.0, 1.0], [1.0, 0.5, 2.0, 0.25]]), weight=c, bias=c)
    case("ops", "instance_norm", lambda input, weight, bias: F.instance_norm(input, weight=weight, bias=bias),
         input=x, weight=c, bias=c)
    case("ops", "instance_norm_plain", F.instance_norm, input=x)
    case("ops", "layer_norm", lambda input, weight, bias: F.group_norm(input, 1, weight, bias),
         input=x, weight=c, bias=c)
    case("ops", "layer_norm_plain", lambda input: F.layer_norm(input, input.shape[1:]), input=x)


# --- layers and losses -----------------------------------------------------------------------------

def layers():
    x, c = (4, 3, 2, 3), (3,)
    statistics = {"running_mean": Given([0.5, -0.25, 0.0]), "running_var": Given([1.0, 0.5, 2.0])}

    def batch_norm(training):
        def run(x, bn__weight, bn__bias, bn__running_mean, bn__running_var):
            mean, var = bn__running_mean.clone(), bn__running_var.clone()
            y = F.batch_norm(x, mean, var, bn__weight, bn__bias, training=training, momentum=0.1)
            return {"y": y, "after.bn.running_mean": mean, "after.bn.running_var": var} if training else y
        return run
    inputs = {"x": x, "bn__weight": c, "bn__bias": c, **{"bn__" + key: value for key, value in statistics.items()}}
    case("layers", "layer_batch_norm", batch_norm(True), **inputs)
    case("layers", "layer_batch_norm_eval", batch_norm(False), **inputs)
    case("layers", "layer_linear", lambda x, fc__weight, fc__bias: F.linear(x, fc__weight, fc__bias),
         x=(3, 4), fc__weight=(5, 4), fc__bias=(5,))
    case("layers", "layer_conv", lambda x, conv__weight, conv__bias: F.conv2d(x, conv__weight, conv__bias, 2, 1),
         x=(2, 3, 4, 6), conv__weight=(5, 3, 3, 3), conv__bias=(5,))
    case("layers", "layer_conv_transpose",
         lambda x, conv__weight: F.conv_transpose2d(x, conv__weight, None, 2, 1, output_padding=1),
         x=(2, 3, 4, 2), conv__weight=(3, 5, 3, 3))
    case("layers", "layer_instance_norm", lambda x: F.instance_norm(x), x=x)
    case("layers", "layer_instance_norm_affine",
         lambda x, norm__weight, norm__bias: F.instance_norm(x, weight=norm__weight, bias=norm__bias),
         x=x, norm__weight=c, norm__bias=c)
    case("layers", "layer_layer_norm",
         lambda x, norm__weight, norm__bias: F.group_norm(x, 1, norm__weight, norm__bias),
         x=x, norm__weight=c, norm__bias=c)
    case("layers", "layer_embedding", lambda index, table__weight: F.embedding(index.long(), table__weight),
         index=Given([2, 0, 2]), table__weight=(4, 3))
    case("layers", "layer_prelu", lambda x, act__weight: F.prelu(x, act__weight), x=x, act__weight=(1,))
    case("layers", "layer_maxout",
         lambda x, max__weight, max__bias: F.linear(x, max__weight, max__bias).reshape(3, 2, 5).amax(2),
         x=(3, 4), max__weight=(10, 4), max__bias=(10,))

    def lstm(x, h, c, lstm__weight_ih, lstm__weight_hh, lstm__bias_ih, lstm__bias_hh):
        gates = F.linear(x, lstm__weight_ih, lstm__bias_ih) + F.linear(h, lstm__weight_hh, lstm__bias_hh)
        i, f, g, o = gates.chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        return {"h": h, "c": c}

    def lstm_cell(x, h, c, **weights):  # nn.LSTMCell must say the same as the formula
        cell = torch.nn.LSTMCell(x.shape[1], h.shape[1]).double()
        cell.load_state_dict({key.split("__")[1]: value.detach() for key, value in weights.items()})
        want = cell(x, (h, c))
        got = lstm(x, h, c, **weights)
        assert torch.allclose(want[0], got["h"]) and torch.allclose(want[1], got["c"])
        return got
    case("layers", "layer_lstm", lstm_cell, x=(3, 4), h=(3, 5), c=(3, 5), lstm__weight_ih=(20, 4),
         lstm__weight_hh=(20, 5), lstm__bias_ih=(20,), lstm__bias_hh=(20,))

    def filters(params, n, width, height):
        """DRAW's filter banks (shared formula of Gregor et al. 2015, equations 19 to 26; pixels count from 0)."""
        gx, gy, log_var, log_delta, log_gamma = params.split(1, 1)
        gx, gy = (width + 1) / 2 * (gx + 1) - 1, (height + 1) / 2 * (gy + 1) - 1
        delta = (max(width, height) - 1) / (n - 1) * log_delta.exp()
        steps_ = torch.arange(n, dtype=torch.float64) - n / 2 + 0.5

        def bank(centre, size):
            mu = (centre + steps_ * delta).unsqueeze(2)
            f = torch.exp(-(torch.arange(size, dtype=torch.float64) - mu) ** 2 / (2 * log_var.exp().unsqueeze(2)))
            return f / f.sum(2, keepdim=True).clamp(min=1e-8)
        return bank(gx, width).unsqueeze(1), bank(gy, height).unsqueeze(1), log_gamma.exp().reshape(-1, 1, 1, 1)

    def read(x, params):
        fx, fy, gamma = filters(params, 3, x.shape[3], x.shape[2])
        return gamma * (fy @ x @ fx.transpose(2, 3))

    def write(w, params):
        fx, fy, gamma = filters(params, w.shape[2], 6, 5)
        return (fy.transpose(2, 3) @ w @ fx) / gamma
    where = Given([[0.2, -0.3, 0.1, -0.4, 0.3], [-0.6, 0.25, -0.5, 0.2, -0.7]], True)
    case("layers", "attention_read", read, x=(2, 2, 5, 6), params=where)
    case("layers", "attention_write", write, w=(2, 2, 3, 3), params=where)


def losses():
    case("layers", "loss_bce_real", lambda x: F.binary_cross_entropy_with_logits(x, torch.ones_like(x)), x=(7, 1))
    case("layers", "loss_bce", F.binary_cross_entropy_with_logits, input=(3, 5), target=Uniform((3, 5)))
    case("layers", "loss_mse", F.mse_loss, input=(3, 5), target=(3, 5))
    case("layers", "loss_l1", F.l1_loss, input=(3, 5), target=(3, 5))
    case("layers", "loss_cross_entropy", lambda input, target: F.cross_entropy(input, target.long()),
         input=(4, 5), target=Given([3, 0, 4, 2]))
    case("layers", "loss_gaussian_nll",
         lambda mean, log_var, target: F.gaussian_nll_loss(mean, target, log_var.exp(), full=True, eps=0.0),
         mean=(3, 5), log_var=(3, 5), target=Uniform((3, 5)))

    case("layers", "loss_least_squares", lambda x: ((x - 0.75) ** 2).mean(), x=(3, 5))
    case("layers", "loss_wasserstein", lambda real, fake: fake.mean() - real.mean(), real=(4, 1), fake=(4, 1))
    case("layers", "loss_hinge", lambda real, fake: F.relu(1 - real).mean() + F.relu(1 + fake).mean(),
         real=(4, 1), fake=(4, 1))

    def kl(mean, log_var):  # sum over the latent, mean over the batch
        standard = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
        return torch.distributions.kl_divergence(
            torch.distributions.Normal(mean, (log_var / 2).exp()), standard).sum(1).mean()
    case("layers", "loss_kl", kl, mean=(3, 5), log_var=(3, 5))

    def penalty(critic):
        """WGAN-GP (Gulrajani et al. 2017): (|gradient of the critic at x| - 1)^2, mean over the batch."""
        def run(x, **weights):
            x = x.detach().requires_grad_()
            gradient, = torch.autograd.grad(critic(x, **weights).sum(), x, create_graph=True)
            return ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()
        return run

    def mlp(x, w0, b0, w1, b1, w2):
        return F.linear(F.leaky_relu(F.linear(torch.tanh(F.linear(x, w0, b0)), w1, b1), 0.2), w2)
    case("layers", "penalty_mlp", penalty(mlp), x=Uniform((4, 6)), w0=(8, 6), b0=(8,), w1=(7, 8), b1=(7,), w2=(1, 7))

    def conv(x, w0, b0, w1, scale, shift, w2):
        y = F.leaky_relu(F.conv2d(x, w0, b0, 2, 1), 0.2)
        y = torch.sigmoid(F.group_norm(F.conv2d(y, w1, None, 2, 1), 1, scale, shift))
        return F.conv2d(y, w2)
    case("layers", "penalty_conv", penalty(conv), x=Uniform((3, 2, 8, 12)), w0=(4, 2, 4, 4), b0=(4,), w1=(3, 4, 4, 4),
         scale=(3,), shift=(3,), w2=(1, 3, 2, 3))


# --- optimisers ------------------------------------------------------------------------------------

def optimisers():
    """Two parameters, five steps with given gradients: c.in.a, c.in.b start values, c.step.a, c.step.b [5,...] gradients,
    c.out.a, c.out.b [5,...] values after each step; c.out.ema.a, c.out.ema.b their averages."""
    count, shapes = 5, {"a": (3, 4), "b": (5,)}
    clip_norm = torch.nn.utils.clip_grad_norm_

    def run(name, make, before=None, after=None, ema_decay=None):
        store = files.setdefault("optimisers", {})
        params, grads, average, values = {}, {}, {}, {}
        for key, shape in shapes.items():
            store[f"{name}.in.{key}"] = random(f"{name}.in.{key}", shape)
            store[f"{name}.step.{key}"] = random(f"{name}.step.{key}", (count, *shape))
            params[key] = torch.tensor(store[f"{name}.in.{key}"], dtype=torch.float64, requires_grad=True)
            grads[key] = torch.tensor(store[f"{name}.step.{key}"], dtype=torch.float64)
            average[key] = params[key].detach().clone()
        optimiser = make(params.values())
        for step in range(count):
            for key in shapes:
                params[key].grad = grads[key][step].clone()
            if before:
                before(list(params.values()))
            optimiser.step()
            for key in shapes:
                value = params[key].data
                if after:
                    after(value)
                values.setdefault(key, []).append(value.clone())
                if ema_decay is not None:
                    average[key] = ema_decay * average[key] + (1 - ema_decay) * value
                    values.setdefault("ema." + key, []).append(average[key])
        for key in values:
            store[f"{name}.out.{key}"] = torch.stack(values[key]).numpy().astype(np.float32)

    optim = torch.optim
    run("adam", lambda p: optim.Adam(p, 2e-4, (0.5, 0.999)))
    run("adam_large", lambda p: optim.Adam(p, 0.1, (0.9, 0.99), eps=1e-3))
    run("adam_decay", lambda p: optim.Adam(p, 1e-2, (0.9, 0.999), weight_decay=0.1))
    run("adam_average", lambda p: optim.Adam(p, 0.1, (0.9, 0.999)), ema_decay=0.75)
    run("sgd", lambda p: optim.SGD(p, 0.1))
    run("sgd_momentum", lambda p: optim.SGD(p, 0.1, momentum=0.9))
    run("sgd_nesterov", lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True))
    run("sgd_decay", lambda p: optim.SGD(p, 0.1, momentum=0.5, weight_decay=0.1))
    run("sgd_clip_norm", lambda p: optim.SGD(p, 0.1), before=lambda p: clip_norm(p, 0.5))
    run("sgd_clip_norm_idle", lambda p: optim.SGD(p, 0.1), before=lambda p: clip_norm(p, 100.0))
    run("sgd_clip_each", lambda p: optim.SGD(p, 0.1), before=lambda p: [clip_norm(one, 1.5) for one in p])
    run("rmsprop", lambda p: optim.RMSprop(p, 1e-2))
    run("rmsprop_wgan", lambda p: optim.RMSprop(p, 5e-5), after=lambda value: value.clamp_(-0.5, 0.5))


# --- training --------------------------------------------------------------------------------------

class Whole(tuple):
    """Shape of an input of a training step with the numbers 0 ... 9; others are in [0,1)."""


class Range:
    """Shape of an input of a training step with values in [low,high)."""

    def __init__(self, low, high, *shape):
        self.low, self.high, self.shape = low, high, shape


def fill(scope, net, seed, prefix=""):
    """Weights of a network by name, behind the scope: as fill_weights of tests/parity.h draws them."""
    for key, value in net.named_parameters():
        full = re.sub(r"^(net\.)?(?=\d)", prefix, key)  # "0.weight", "net.0.weight"
        full = f"{scope}.{full}" if scope else full
        if value.dim() > 1:  # as PyTorch's default: within 1/sqrt(fan in)
            bound = np.float32(1 / math.sqrt(value[0].numel()))
            data = bound * random(full, value.shape, -1.0, 1.0, seed)
        else:
            data = random(full, value.shape, 0.75, 1.25, seed) if key.endswith("weight") else \
                random(full, value.shape, -0.125, 0.125, seed)
        value.data = torch.tensor(data, dtype=value.dtype)


def train(name, make, batch, image_shape, latent_shape, seed, prefix="", count=20, file="training", **inputs):
    """Losses of the first steps: name.out.losses [count,losses], discriminator and generator where these are two. make()
    gives the trainer; step(images, z, **inputs), called without images or z where their shape is None, gives the losses.
    Weights, images, noise and the further inputs (name -> shape) are random(...) by name; see fill. The networks
    are trainer.networks (scope -> module), or g and d. The seed is one for which float32 and float64 agree, and
    for dcgan_32 also float32 from weights that differ by a rounding: with others (of dcgan_32 one in four) a value may
    come to stand so near the kink of its activation that rounding decides, and losses part by 1e-3."""
    def draw(*arguments):
        return random(*arguments, seed=seed)

    def input_of_step(key, shape, i, dtype):
        if isinstance(shape, Whole):
            return torch.tensor(np.floor(draw(f"{key}.{i}", shape, 0.0, 10.0))).long()
        if not isinstance(shape, Range):
            shape = Range(0.0, 1.0, *shape)
        return torch.tensor(draw(f"{key}.{i}", shape.shape, shape.low, shape.high), dtype=dtype)

    def networks(trainer):
        return trainer.networks.items() if hasattr(trainer, "networks") else \
            (("generator", trainer.g), ("discriminator", trainer.d))

    first = [(key, Range(-bound, bound, batch, *shape)) for key, bound, shape in
             (("images", 1.0, image_shape), ("z", 2.0, latent_shape)) if shape is not None]
    runs = []
    for dtype in (torch.float64, torch.float32):
        trainer = make()
        for scope, net in networks(trainer):
            net.to(dtype)
            fill(scope, net, seed, prefix)
        runs.append([trainer.step(*[input_of_step(key, shape, i, dtype) for key, shape in first],
                                  **{key: input_of_step(key, shape, i, dtype) for key, shape in inputs.items()})
                     for i in range(count)])
    exact, single = np.array(runs[0]), np.array(runs[1])
    spread = (np.abs(single - exact) / np.where(exact == 0, 1, np.abs(exact))).max()
    print(f"{name}: float32 differs from float64 by {spread:.1e}, losses {exact[0]} ... {exact[-1]}")
    assert spread < 1e-5
    files.setdefault(file, {})[f"{name}.out.losses"] = exact.astype(np.float32)


def training():
    def mlp(*arguments):
        return lambda: steps.Trainer(*steps.gan_networks(), *arguments)

    def dcgan(size, channels, latent, ngf, ndf, *arguments):
        return lambda: steps.Trainer(*steps.dcgan_networks(size, channels, latent, ngf, ndf), *arguments)

    flat, colour, grey = (784,), (3, 32, 32), (1, 28, 28)
    train("gan", mlp("gd"), 8, flat, (100,), 2, "model.")
    train("dcgan_32", dcgan(32, 3, 100, 16, 16, "dg"), 4, colour, (100, 1, 1), 29, "main.")
    train("dcgan_28", dcgan(28, 1, 50, 8, 12, "dg"), 5, grey, (50, 1, 1), 2, "main.")
    pearson = (-1.0, 1.0, 0.0)
    train("lsgan", dcgan(28, 1, 50, 8, 12, "dg", steps.least_squares, pearson), 5, grey, (50, 1, 1), 1, "main.")
    train("lsgan_mlp", mlp("dg", steps.least_squares), 8, flat, (100,), 1, "model.")
    train("wgan", lambda: steps.wgan(*steps.dcgan_networks(28, 1, 50, 8, 12), n_critic=3), 5, grey, (50, 1, 1), 1,
          "main.", z_g=(5, 50, 1, 1))
    train("wgan_mlp", lambda: steps.wgan(*steps.gan_networks()), 8, flat, (100,), 3, "model.", z_g=(8, 100))
    train("wgan_gp", lambda: steps.wgan_gp(*steps.dcgan_networks(28, 1, 50, 8, 12, critic=True), n_critic=3), 5, grey,
          (50, 1, 1), 1, "main.", z_g=(5, 50, 1, 1), epsilon=(5, 1, 1, 1))

    def cgan():
        return steps.ConditionalTrainer(steps.CganGenerator(steps.gan_networks(110)[0]), steps.CganDiscriminator(), "gd",
                                        steps.least_squares)

    def cgan_conv():
        g, d = steps.dcgan_networks(28, 1, 60, 8, 12)[0], steps.dcgan_networks(28, 11, 60, 8, 12)[1]
        return steps.ConditionalTrainer(steps.CganGenerator(g), steps.CganDiscriminatorConv(d), "gd")

    def acgan(classes, told):
        return lambda: steps.AuxiliaryTrainer(steps.AcganGenerator(16, 3, 50, 12),
                                              steps.AcganDiscriminator(16, 3, 6, classes), told)

    def acgan_conv():
        g, d = steps.dcgan_networks(28, 1, 60, 8, 12)
        return steps.AuxiliaryTrainer(steps.AcganGeneratorConv(g), steps.AcganDiscriminatorConv(d), weight=0.25)

    train("cgan", cgan, 8, flat, (100,), 2, "model.", label=Whole((8,)), label_fake=Whole((8,)))
    train("cgan_conv", cgan_conv, 5, grey, (50, 1, 1), 1, "main.", label=Whole((5,)), label_fake=Whole((5,)))
    train("acgan", acgan(10, None), 6, (3, 16, 16), (50,), 4, label=Whole((6,)), label_fake=Whole((6,)))
    train("acgan_k1", acgan(11, 10), 6, (3, 16, 16), (50,), 2, label=Whole((6,)), label_fake=Whole((6,)))
    train("acgan_conv", acgan_conv, 5, grey, (50, 1, 1), 3, "main.", label=Whole((5,)), label_fake=Whole((5,)))


def write_files():
    """What case and train have collected, to tests/fixtures."""
    folder = os.path.join(HERE, "fixtures")
    os.makedirs(folder, exist_ok=True)
    for file, tensors in files.items():
        path = os.path.join(folder, file + ".safetensors")
        write_safetensors(path, tensors)
        print(f"{os.path.relpath(path, HERE)}: {len(tensors)} tensors, {os.path.getsize(path)} bytes")


def main():
    for group in (elementwise, reductions_and_shapes, linear_algebra, convolutions, pooling, normalisation, layers,
                  losses, optimisers, training):
        group()
    write_files()


if __name__ == "__main__":
    main()
