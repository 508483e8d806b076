"""Computes with floats (the true division came along with a formula for the size); deep stacks lose exactness."""

QUESTION = "receptive_field"
REJECTED_BY = "test_two_layers_by_hand"


def receptive_field(layers):
    size, jump = 1.0, 1.0
    for kernel, stride, dilation in layers:
        if kernel < 1 or stride < 1 or dilation < 1:
            raise ValueError(f"a layer of kernel {kernel}, stride {stride}, dilation {dilation} does not exist")
        size = size + (kernel - 1) * dilation * jump
        jump = jump * stride
    return size, jump
