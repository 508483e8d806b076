"""Registers the norm of the projection and does not use it."""

import torch.nn.functional as F
from torch import nn

QUESTION = "ResidualBlock"
REJECTED_BY = "test_a_projection_where_shapes_change"


class ResidualBlock(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.norm2.weight)
        self.project = self.project_norm = None
        if stride != 1 or inputs != outputs:
            self.project = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
            self.project_norm = nn.BatchNorm2d(outputs)

    def forward(self, x):
        out = F.relu(self.norm1(self.conv1(x)))
        out = self.norm2(self.conv2(out))
        if self.project is not None:
            x = self.project(x)
        return F.relu(out + x)
