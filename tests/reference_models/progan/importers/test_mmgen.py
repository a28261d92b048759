"""MMGeneration's files say their stage."""

from __future__ import annotations

import torch

from tests.helpers.foreign_networks import FILES, imported, refuses


def test_mmgeneration_s_buffers_say_the_stage_and_the_images_shown(out, saved):
    facts, _ = imported(FILES / "mmagic-1.2.0-fused.pth", out)
    assert (facts.resolution, facts.alpha, facts.images_shown) == (16, 0.25, 1_234_500)
    content = torch.load(FILES / "mmagic-1.2.0-fused.pth", weights_only=True)
    state = content["state_dict"]
    state["_curr_scale_int"] = torch.tensor(8, dtype=torch.int32)
    state["shown_nkimg"] = torch.tensor(0.0)
    facts, _ = imported(saved(content), out)
    assert (facts.resolution, facts.config.resolution, facts.images_shown) == (8, 16, None)
    out.unlink()
    state["_curr_scale_int"] = torch.tensor(12, dtype=torch.int32)
    refuses(
        saved(content), out, "stands at 12 x 12 and alpha 0.25, which is no stage of a network that grows"
    )
    state["_curr_scale_int"] = torch.tensor(float("nan"))
    refuses(saved(content), out, "'_curr_scale_int' is no finite number")
    only = {name: tensor for name, tensor in state.items() if not name.startswith("generator_ema")}
    refuses(saved({"state_dict": only}), out, "holds no generator_ema; --which G takes the other")
