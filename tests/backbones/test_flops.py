"""Operations are counted per group."""

from graft.backbones.backbone import build_backbone
from graft.backbones.flops import count_operations


def test_operations_of_resnet18() -> None:
    backbone = build_backbone("resnet18", "none")
    counted = count_operations(backbone)
    assert len(counted) == len(backbone.groups)
    # 1.82 billion multiply-adds without the classifier (He et al. 2016, table 1)
    assert abs(sum(counted) / 2 / 1.82e9 - 1) < 0.01
