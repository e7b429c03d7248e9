#!/usr/bin/env python3
"""Writes tests/fixtures/pairs.safetensors: the first losses of the context encoder and of Coupled GAN, for
tests/test_pairs.c. See tests/fixtures.py."""
from fixtures import Range, Whole, train, write_files
import pairs


def context(name, batch, size, channels, seed, bottleneck, whole=False, overlap=4, l1=False, lr=2e-3, **inputs):
    def make():
        return pairs.ContextTrainer(pairs.ContextGenerator(size, channels, 8, bottleneck, whole),
                                    pairs.ContextDiscriminator(size, channels, 8, whole), overlap, l1, lr=lr)

    train(name, make, batch, (channels, size, size), None, seed, file="pairs", **inputs)


def couple(name, make_g, make_d, batch, size, channels, seed):
    def make():
        return pairs.CoupledTrainer(make_g(), make_d())

    images = [Range(-1.0, 1.0, batch, c, size, size) for c in channels]
    train(name, make, batch, None, (20,), seed, file="pairs", real_a=images[0], real_b=images[1],
          z_g=Range(0.0, 1.0, batch, 20))


def main():
    context("context", 6, 32, 3, 4, 40, overlap=2)
    context("context_l1", 6, 32, 3, 7, 40, overlap=2, l1=True, lr=2e-4)
    context("context_random", 6, 32, 1, 10, 40, whole=True, overlap=0, lr=2e-4, left=Whole((6,)), top=Whole((6,)))
    couple("cogan", lambda: pairs.CoupledGenerator(28, (1, 1), 20, 8), lambda: pairs.CoupledDiscriminator((1, 1), 4),
           5, 28, (1, 1), 3)
    couple("cogan_32", lambda: pairs.CoupledGenerator(32, (3, 3), 20, 4, 2),
           lambda: pairs.CoupledDcganDiscriminator(32, (3, 3), 4, 2), 5, 32, (3, 3), 3)
    couple("cogan_mlp", lambda: pairs.CoupledMlpGenerator(16, (1, 1), 20, 2),
           lambda: pairs.CoupledMlpDiscriminator(16, (1, 1)), 6, 16, (1, 1), 3)
    write_files()


if __name__ == "__main__":
    main()
