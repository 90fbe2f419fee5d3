"""The ResNet that CNTK published: torchvision's ResNet-18 with a third block in the last stage, so 20 layers."""

from torch import nn
from torchvision.models.resnet import BasicBlock, ResNet


def resnet20(num_classes: int) -> nn.Module:
    """Images come as [n, 3, 224, 224], normalised with ImageNet's mean and standard deviation."""
    return ResNet(BasicBlock, [2, 2, 2, 3], num_classes=num_classes)
