"""What every network that makes features has: batches of one length, so that rows have no neighbors."""

import pytest
import torch

from tests.helpers.toy_network import ToyNetwork


class Noting(ToyNetwork):
    """Notes the batches that it was given."""

    def __init__(self):
        super().__init__()
        self.given = []

    def _forward(self, pixels, layers):
        self.given.append(pixels.clone())
        assert torch.is_inference_mode_enabled()
        return super()._forward(pixels, layers)


def pixels(n):
    return torch.randint(0, 256, (n, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("n", [1, 16, 17, 40])
def test_a_network_gets_batches_of_one_length_and_padding_leaves_no_row(n):
    network, images = Noting(), pixels(n)
    rows = network.extract(images, ["features", "logits"])
    assert [len(batch) for batch in network.given] == [network.length] * -(-n // network.length)
    assert torch.equal(torch.cat(network.given)[:n], images)
    assert torch.equal(torch.cat(network.given)[n:], images[-1:].expand(-n % network.length, -1, -1, -1))
    assert {layer: len(made) for layer, made in rows.items()} == {"features": n, "logits": n}


def test_a_row_does_not_depend_on_the_images_beside_it():
    images = pixels(20)
    together = ToyNetwork().extract(images, ["features"])["features"]
    alone = [ToyNetwork().extract(image[None], ["features"])["features"] for image in images]
    assert torch.equal(together, torch.cat(alone))


def test_rows_may_be_used_in_any_computation():
    # Tensors of inference mode cannot be saved for a gradient.
    rows = ToyNetwork().extract(pixels(3), ["features"])["features"]
    assert not rows.is_inference()
    weight = torch.ones(rows.shape[1], requires_grad=True)
    (rows @ weight).sum().backward()
    torch.testing.assert_close(weight.grad, rows.sum(0))
