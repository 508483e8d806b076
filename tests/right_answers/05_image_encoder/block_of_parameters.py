"""Functions in place of layers: the modules only hold the numbers, the norm is written out."""

import torch
import torch.nn.functional as F
from torch import nn

QUESTION = "ResidualBlock"


class Kernel(nn.Module):
    def __init__(self, outputs, inputs, side):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, side, side) / (inputs * side))


class Norm(nn.Module):
    def __init__(self, width, start):
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), start))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        if self.training:
            var, mean = torch.var_mean(x, (0, 2, 3), unbiased=False)
            count = x.numel() / x.shape[1]
            with torch.no_grad():
                self.running_mean += 0.1 * (mean - self.running_mean)
                self.running_var += 0.1 * (var * count / (count - 1) - self.running_var)
                self.num_batches_tracked += 1
        scale = self.weight * torch.rsqrt(var + 1e-5)
        return x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]


class ResidualBlock(nn.Module):
    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.stride, self.same = stride, (inputs, 1) == (outputs, stride)
        self.conv1, self.norm1 = Kernel(outputs, inputs, 3), Norm(outputs, 1.0)
        self.conv2, self.norm2 = Kernel(outputs, outputs, 3), Norm(outputs, 0.0)
        if not self.same:
            self.project, self.project_norm = Kernel(outputs, inputs, 1), Norm(outputs, 1.0)

    def forward(self, x):
        inner = self.norm1(F.conv2d(x, self.conv1.weight, None, self.stride, 1)).clamp(min=0)
        out = self.norm2(F.conv2d(inner, self.conv2.weight, None, 1, 1))
        out = out + (x if self.same else self.project_norm(F.conv2d(x, self.project.weight, None, self.stride)))
        return torch.where(out > 0, out, 0)
