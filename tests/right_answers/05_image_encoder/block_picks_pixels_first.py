"""Strides by slicing before the 1 x 1 projection, ReLUs in place where nobody else looks."""

from torch import nn

QUESTION = "ResidualBlock"


class ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.stride, self.relu = stride, nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(
            inputs, outputs, kernel_size=3, stride=stride, padding="same" if stride == 1 else 1, bias=False
        )
        self.norm1, self.norm2 = (nn.BatchNorm2d(outputs) for _ in range(2))
        self.conv2 = nn.Conv2d(outputs, outputs, kernel_size=3, padding="same", bias=False)
        self.norm2.weight.data.fill_(0)
        if stride > 1 or inputs != outputs:
            self.project = nn.Conv2d(inputs, outputs, kernel_size=1, bias=False)
            self.project_norm = nn.BatchNorm2d(outputs)

    def forward(self, x):
        shortcut = x
        if hasattr(self, "project"):
            shortcut = self.project_norm(self.project(x[:, :, :: self.stride, :: self.stride]))
        out = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        out += shortcut
        return self.relu(out)
