"""Counts kernels alone, as if every stride were 1."""

QUESTION = "receptive_field"
REJECTED_BY = "test_strides_multiply"


def receptive_field(layers):
    size, jump = 1, 1
    for kernel, stride, dilation in layers:
        if kernel < 1 or stride < 1 or dilation < 1:
            raise ValueError(f"a layer of kernel {kernel}, stride {stride}, dilation {dilation} does not exist")
        size = size + (kernel - 1) * dilation
        jump = jump * stride
    return size, jump
