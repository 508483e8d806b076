"""Multiplies the jump before the layer's own kernel is counted."""

QUESTION = "receptive_field"
REJECTED_BY = "test_two_layers_by_hand"


def receptive_field(layers):
    size, jump = 1, 1
    for kernel, stride, dilation in layers:
        if kernel < 1 or stride < 1 or dilation < 1:
            raise ValueError(f"a layer of kernel {kernel}, stride {stride}, dilation {dilation} does not exist")
        jump = jump * stride
        size = size + (kernel - 1) * dilation * jump
    return size, jump
