"""Lets dilation widen the jump for later layers, like a stride."""

QUESTION = "receptive_field"
REJECTED_BY = "test_dilation_spreads_the_kernel"


def receptive_field(layers):
    size, jump = 1, 1
    for kernel, stride, dilation in layers:
        if kernel < 1 or stride < 1 or dilation < 1:
            raise ValueError(f"a layer of kernel {kernel}, stride {stride}, dilation {dilation} does not exist")
        size = size + (kernel - 1) * dilation * jump
        jump = jump * stride * dilation
    return size, jump
