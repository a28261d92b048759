"""Snapshots as the original ProGAN pickled them, of networks whose weights are formulas."""

from __future__ import annotations

from math import prod

import numpy as np

from tests.helpers.foreign_networks import by_name


def variable_shapes(kind, *, resolution, base, most, latent, labels=0, channels=3, fused=True):
    """Names and stored shapes of the original's variables, in its order, without lod."""

    def nf(s):
        return min(base >> s, most)

    levels = resolution.bit_length() - 1
    out = {}

    def layer(name, shape, bias):
        out[f"{name}/weight"], out[f"{name}/bias"] = shape, (bias,)

    if kind == "D":
        layer("FromRGB_lod0", (1, 1, channels, nf(levels - 1)), nf(levels - 1))
        for r in range(levels, 2, -1):
            side = f"{2**r}x{2**r}"
            layer(f"{side}/Conv0", (3, 3, nf(r - 1), nf(r - 1)), nf(r - 1))
            layer(f"{side}/Conv1{'_down' * fused}", (3, 3, nf(r - 1), nf(r - 2)), nf(r - 2))
            layer(f"FromRGB_lod{levels - r + 1}", (1, 1, channels, nf(r - 2)), nf(r - 2))
        layer("4x4/Conv", (3, 3, nf(1) + 1, nf(1)), nf(1))
        layer("4x4/Dense0", (nf(1) * 16, nf(0)), nf(0))
        layer("4x4/Dense1", (nf(0), 1 + labels), 1 + labels)
        return out
    layer("4x4/Dense", (latent + labels, nf(1) * 16), nf(1))
    layer("4x4/Conv", (3, 3, nf(1), nf(1)), nf(1))
    layer(f"ToRGB_lod{levels - 2}", (1, 1, nf(1), channels), channels)
    for r in range(3, levels + 1):
        side = f"{2**r}x{2**r}"
        if fused:
            layer(f"{side}/Conv0_up", (3, 3, nf(r - 1), nf(r - 2)), nf(r - 1))
        else:
            layer(f"{side}/Conv0", (3, 3, nf(r - 2), nf(r - 1)), nf(r - 1))
        layer(f"{side}/Conv1", (3, 3, nf(r - 1), nf(r - 1)), nf(r - 1))
        layer(f"ToRGB_lod{levels - r}", (1, 1, nf(r - 1), channels), channels)
    return out


def by_number(number, name, shape):
    i = np.arange(prod(shape), dtype=np.float64)
    value = 1.4 * np.sin(1 + number + 0.7 * i + 0.013 * i**2)
    return value.reshape(shape) * (0.1 if name.endswith("bias") else 1)


def network(kind, size, *, lod=0.0, numbered=False, **arguments):
    """The state of one network of a snapshot."""
    variables = [("lod", np.float32(lod))]
    for number, (name, shape) in enumerate(variable_shapes(kind[0], **size).items()):
        value = by_number(number, name, shape) if numbered else by_name(name, shape)
        # Gs must not be G, or taking the wrong one would pass.
        variables.append((name, value.astype(np.float32) * (2 if kind == "G" else 1)))
    return {
        "version": 2,
        "name": kind,
        "static_kwargs": {
            "num_channels": size.get("channels", 3),
            "resolution": size["resolution"],
            "label_size": size.get("labels", 0),
            "fmap_base": size["base"],
            "fmap_max": size["most"],
            "latent_size": size["latent"],
        }
        | arguments,
        "build_module_src": "raise SystemExit('executed')",
        "build_func_name": f"{kind[0]}_paper",
        "variables": variables,
    }


SMALL = {"resolution": 32, "base": 128, "most": 32, "latent": 32}


TINY = {"resolution": 16, "base": 16, "most": 4, "latent": 4}


def snapshot(size, d_arguments=None, **options):
    d_options = {name: options[name] for name in ("lod", "numbered") if name in options}
    return [
        network("G", size, **options),
        network("D", size, **d_options, **(d_arguments or {})),
        network("Gs", size, **options),
    ]


def changed_variable(states, name, change):
    for state in (states[0], states[2]):
        state["variables"] = [(n, change(v) if n == name else v) for n, v in state["variables"]]
    return states
