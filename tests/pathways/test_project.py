import pytest
import torch

from dualsight.pathways.project import MergeProjector, make_fusion


def test_merge_projector_has_the_released_names_and_shapes():
    projector = MergeProjector(8, 20, 12)
    shapes = {name: tuple(parameter.shape) for name, parameter in projector.named_parameters()}
    hidden = {"mlp.0.weight": (20, 4 * 8), "mlp.0.bias": (20,)}
    assert shapes == {"ln_q.weight": (8,), **hidden, "mlp.2.weight": (12, 20), "mlp.2.bias": (12,)}
    assert projector(torch.rand(2, 3, 16, 8)).shape == (2, 3, 4, 12)


def test_one_output_token_depends_on_its_own_cell_only():
    projector = MergeProjector(8, 20, 12)
    features = torch.rand(1, 8, 8)
    changed = features.clone()
    changed[:, 4:] += 1
    before, after = projector(features), projector(changed)
    assert torch.equal(before[:, 0], after[:, 0])
    assert not torch.allclose(before[:, 1], after[:, 1])


def test_add_is_the_equation():
    semantic, spatial = torch.rand(2, 4, 6), torch.rand(2, 4, 6)
    assert torch.equal(make_fusion("add", 6, 2, 0.2)(semantic, spatial), semantic + 0.2 * spatial)


@pytest.mark.parametrize("kind", ["concat", "cross_attention"])
def test_learned_fusions_start_from_semantics_alone(kind):
    semantic, spatial = torch.rand(2, 4, 6), torch.rand(2, 4, 6)
    torch.testing.assert_close(make_fusion(kind, 6, 2, 0.2)(semantic, spatial), semantic)


def test_unknown_fusion_is_named():
    with pytest.raises(ValueError, match="'sum'"):
        make_fusion("sum", 6, 2, 0.2)
    assert make_fusion("none", 6, 2, 0.2) is None
