"""Operations are counted per group."""

from graft.backbones.backbone import build
from graft.backbones.flops import operations


def test_operations_of_resnet18() -> None:
    backbone = build("resnet18", "none")
    counted = operations(backbone)
    assert len(counted) == len(backbone.groups)
    # 1.82 billion multiply-adds without the classifier (He et al. 2016, table 1)
    assert abs(sum(counted) / 2 / 1.82e9 - 1) < 0.01
