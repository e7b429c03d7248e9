#!/usr/bin/env python3
"""Writes tests/fixtures/latent.safetensors: the first training losses of InfoGAN and DRAW, for tests/test_latent.c."""
from fixtures import Range, Whole, train, write_files

import latent
import steps


def infogan():
    def paper():
        return latent.InfoGanTrainer(latent.InfoGanGenerator(12, 1, 20 + 2 * 10 + 3, 8),
                                     latent.InfoGanDiscriminator(12, 1, 6, 20, 3), weight=0.5, weight_c=0.25, lr_g=2e-4)

    def upsampling():
        return latent.InfoGanTrainer(
            latent.UpsamplingGenerator(32, 1, 20 + 10 + 2, 6), latent.UpsamplingDiscriminator(32, 1, 4, 10, means=2),
            steps.least_squares, apart=True, weight_c=0.1, lr_g=2e-4)

    train("infogan", paper, 8, (1, 12, 12), (20,), 2, file="latent", code=Whole((8, 2)), c=Range(-1.0, 1.0, 8, 3))
    train("infogan_apart", upsampling, 12, (1, 32, 32), (20,), 3, file="latent", code=Whole((12, 1)),
          c=Range(-1.0, 1.0, 12, 2), z_info=Range(-2.0, 2.0, 12, 20), code_info=Whole((12, 1)),
          c_info=Range(-1.0, 1.0, 12, 2))


def draw():
    def trainer(*arguments, **options):
        return lambda: latent.DrawTrainer(latent.Draw(*arguments, **options), clip=2.0)

    grey, colour = (1, 14, 14), (3, 10, 10)
    train("draw", trainer((14, 14), 1, 4, 24, 6, read=3, write=4), 6, grey, (24,), 1, file="latent", chance=(6, *grey))
    train("draw_offset", trainer((10, 10), 3, 3, 16, 5, read=5, write=2, offset=0.0), 6, colour, (15,), 1,
          file="latent", chance=(6, *colour))
    train("draw_plain", trainer((14, 14), 1, 4, 24, 6, attention=False), 6, grey, (24,), 1, file="latent",
          chance=(6, *grey))


if __name__ == "__main__":
    infogan()
    draw()
    write_files()
