"""Layers that keep how bright an image is."""

import torch

from pipeline.models.renorm import BatchRenorm, Compression


def test_renormalised_features_do_not_depend_on_the_rest_of_the_batch():
    """After some steps training computes what inference does; the first steps are plain batch norm."""
    torch.manual_seed(0)
    norm, plain = BatchRenorm(3), torch.nn.BatchNorm2d(3)
    batches = [torch.randn(4, 3, 8, 8) * 2 + 1 for _ in range(300)]
    torch.testing.assert_close(norm(batches[0]), plain(batches[0]))
    for batch in batches:
        norm(batch)
    bright = torch.cat([batches[0], batches[1] + 5])
    seen = norm(bright)[:4]
    torch.testing.assert_close(seen, norm.eval()(batches[0]), rtol=0.2, atol=0.3)
    assert (plain(bright)[:4] - plain.eval()(batches[0])).abs().mean() > 0.5


def test_compression_keeps_0_and_the_order_of_reflectance():
    compression = Compression(2)
    values = torch.tensor([0.0, 0.02, 0.1, 0.5, 1.0]).view(1, 1, 1, 5).expand(1, 2, 1, 5)
    compressed = compression(values)
    assert (compressed[..., 0] == 0).all()
    assert (compressed.diff(dim=-1) > 0).all()
    assert compressed.max() < 1


def test_statistics_are_those_of_batch_norm_and_gradients_too_at_first():
    torch.manual_seed(0)
    norm, plain = BatchRenorm(3), torch.nn.BatchNorm2d(3, momentum=None)
    for _ in range(4):
        batch = torch.randn(4, 3, 8, 8) * 3 - 1
        ours, theirs = batch.clone().requires_grad_(), batch.clone().requires_grad_()
        (norm(ours) ** 3).sum().backward()
        (plain(theirs) ** 3).sum().backward()
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(norm.running_mean, plain.running_mean)
    torch.testing.assert_close(norm.running_var, plain.running_var)
    torch.testing.assert_close(norm.weight.grad, plain.weight.grad, rtol=1e-3, atol=1e-3)
