"""ResNet-18, -34 and -50 (He et al. 2015), cut after the stem or any block.

With the small stem (3x3, no pooling, for 32x32 images) and cut = "layer1.0" the front is the paper's: 75,840
parameters with BatchNorm, activations [64, 32, 32].
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from heron_core.errors import ModelError
from heron_core.models.families.layers import ConvNorm, Norm, make_conv, make_norm
from heron_core.models.families.outputs import vector_task
from heron_core.models.families.stages import Network, Shape, Stage
from heron_core.models.lean import convolve, normalise, overwrite, relu
from heron_core.models.split_model import SplitModel
from heron_core.spec.run_spec import ModelSpec

WIDTHS = (64, 128, 256, 512)
DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}


class Shortcut(ConvNorm):
    """1x1 convolution and normalisation, where a block changes the shape."""

    def __init__(self, incoming: int, outgoing: int, norm: Norm, stride: int) -> None:
        super().__init__(incoming, outgoing, 1, norm, stride, active=False)


def _shortcut(incoming: int, outgoing: int, norm: Norm, stride: int) -> nn.Module:
    if stride == 1 and incoming == outgoing:
        return nn.Identity()
    return Shortcut(incoming, outgoing, norm, stride)


class BasicBlock(nn.Module):
    """relu(x + norm(conv(relu(norm(conv(x)))))), 3x3: [B, incoming, H, W] to [B, width, H/stride, W/stride]."""

    expansion = 1

    def __init__(self, incoming: int, width: int, norm: Norm, stride: int) -> None:
        super().__init__()
        self.conv1 = make_conv(incoming, width, 3, stride)
        self.norm1 = make_norm(norm, width)
        self.conv2 = make_conv(width, width, 3)
        self.norm2 = make_norm(norm, width)
        self.shortcut = _shortcut(incoming, width, norm, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H', W']."""
        h = relu(normalise(self.norm1, convolve(self.conv1, x)))
        h = normalise(self.norm2, overwrite(self.conv2, h))
        h += self.shortcut(x)
        return relu(h)


class Bottleneck(nn.Module):
    """1x1 to `width`, 3x3 (with the stride), 1x1 to 4 x width, around a shortcut."""

    expansion = 4

    def __init__(self, incoming: int, width: int, norm: Norm, stride: int) -> None:
        super().__init__()
        self.conv1 = make_conv(incoming, width, 1)
        self.norm1 = make_norm(norm, width)
        self.conv2 = make_conv(width, width, 3, stride)
        self.norm2 = make_norm(norm, width)
        self.conv3 = make_conv(width, width * self.expansion, 1)
        self.norm3 = make_norm(norm, width * self.expansion)
        self.shortcut = _shortcut(incoming, width * self.expansion, norm, stride)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H', W']."""
        h = relu(normalise(self.norm1, convolve(self.conv1, x)))
        convolve2 = overwrite if self.conv2.stride == (1, 1) else convolve
        h = relu(normalise(self.norm2, convolve2(self.conv2, h)))
        h = normalise(self.norm3, convolve(self.conv3, h))
        h += self.shortcut(x)
        return relu(h)


class ImageNetStem(ConvNorm):
    """7x7 convolution of stride 2, norm, ReLU, 3x3 pool of stride 2: [B, C, H, W] to [B, 64, H/4, W/4]."""

    def __init__(self, incoming: int, norm: Norm) -> None:
        super().__init__(incoming, WIDTHS[0], 7, norm, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, C', H / 4, W / 4]."""
        return F.max_pool2d(super().forward(x), 3, stride=2, padding=1)


class Classifier(nn.Module):
    """Mean over H and W, linear: [B, C, H, W] to [B, K]."""

    def __init__(self, incoming: int, classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(incoming, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to logits [B, K]."""
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


def _half(size: int) -> int:
    return (size + 1) // 2


def _stem(spec: ModelSpec, shape: Shape) -> Stage:
    channels, height, width = shape
    if spec.stem == "small":
        return Stage("stem", lambda: ConvNorm(channels, WIDTHS[0], 3, spec.norm), (WIDTHS[0], height, width))
    height, width = _half(height), _half(width)
    pooled = (WIDTHS[0], _half(height), _half(width))
    return Stage("stem", lambda: ImageNetStem(channels, spec.norm), pooled, WIDTHS[0] * height * width)


def _stages(spec: ModelSpec, shape: Shape, classes: int) -> list[Stage]:
    block = Bottleneck if spec.name == "resnet50" else BasicBlock
    stages = [_stem(spec, shape)]
    for layer, (width, depth) in enumerate(zip(WIDTHS, DEPTHS[spec.name], strict=True), start=1):
        for index in range(depth):
            stride = 2 if index == 0 and layer > 1 else 1
            stages.append(_block_stage(f"layer{layer}.{index}", block, stages[-1].shape, width, spec.norm, stride))
    features = stages[-1].shape[0]
    return [*stages, Stage("classifier", lambda: Classifier(features, classes), (classes,))]


def _block_stage(
    name: str, block: type[BasicBlock] | type[Bottleneck], shape: Shape, width: int, norm: Norm, stride: int
) -> Stage:
    incoming, height, breadth = shape
    if stride == 2:
        height, breadth = _half(height), _half(breadth)
    return Stage(name, lambda: block(incoming, width, norm, stride), (width * block.expansion, height, breadth))


def resnet(spec: ModelSpec) -> SplitModel:
    """The family spec.name; cut after stem, layerX or layerX.Y (default layer1.0). Input by the stem."""
    shape = spec.input_shape or ((3, 32, 32) if spec.stem == "small" else (3, 224, 224))
    if len(shape) != 3:
        raise ModelError(f"{spec.name} needs model.input_shape [C, H, W], got {list(shape)}")
    task = vector_task(spec)
    network = Network(_stages(spec, shape, task.output_shape[0]), shape, task, per_sample=spec.norm == "group")
    return network.split(spec.cut or "layer1.0", spec.auxiliary, spec.name)
