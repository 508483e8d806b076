"""Adds up whole kernels: two layers of width 3 would see 6 pixels."""

QUESTION = "receptive_field"
REJECTED_BY = "test_two_layers_by_hand"


def receptive_field(layers):
    size, jump = 1, 1
    for kernel, stride, dilation in layers:
        if kernel < 1 or stride < 1 or dilation < 1:
            raise ValueError(f"a layer of kernel {kernel}, stride {stride}, dilation {dilation} does not exist")
        size = size + kernel * dilation * jump
        jump = jump * stride
    return size, jump
