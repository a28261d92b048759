"""The page beside a checkpoint says what the checkpoint says."""

from __future__ import annotations

import json
from dataclasses import replace

from reference_models.progan.model.checkpoint import Checkpoint
from reference_models.progan.model.config import ProGANConfig
from reference_models.progan.model.model_card import model_card, save_model_card

CONFIG = ProGANConfig(resolution=32, label_size=2, ema=0.99, total_images=77_000)
FACTS = Checkpoint(
    config=CONFIG,
    images_shown=44_032,
    resolution=16,
    alpha=0.25,
    data_fingerprint="folder:1f2e",
    licence="CC BY 4.0",
    label_names=("cat", "a|b\nc"),
    label_distribution=(0.25, 0.75),
)


def test_the_card_says_what_it_is_and_where_it_comes_from():
    card = model_card(FACTS, "c.safetensors")
    for fact in (
        "# ProGAN at 16 × 16: c.safetensors",
        "| Stage | 16 × 16, 25.0% faded in, on the way to 32 × 32 |",
        "| Real images shown | 44,032 of 77,000 |",
        "0.99 of it kept in each discriminator step",
        "| Trained on | images with the fingerprint `folder:1f2e` |",
        "| Licence of the weights | CC BY 4.0 |",
        "| cat | 25.00% |",
        r"| a\|b\\nc | 75.00% |",
        "$ progan sample c.safetensors --num 64 --out grid.png",
    ):
        assert fact in card
    config = card.partition("```json\n")[2].partition("```")[0]
    assert ProGANConfig.from_json(json.loads(config)) == CONFIG


def test_a_finished_unconditional_network_has_neither_a_way_to_go_nor_classes():
    facts = replace(
        FACTS, config=replace(CONFIG, label_size=0), resolution=32, alpha=1.0, label_names=(),
        label_distribution=(),
    )  # fmt: skip
    card = model_card(facts, "c.safetensors")
    assert "| Stage | 32 × 32, faded in |" in card
    assert "Classes" not in card


def test_the_card_lies_beside_its_checkpoint(tmp_path):
    save_model_card(tmp_path / "c.safetensors", FACTS)
    assert [path.name for path in tmp_path.iterdir()] == ["c.md"]
    assert (tmp_path / "c.md").read_text(encoding="utf-8") == model_card(FACTS, "c.safetensors")
