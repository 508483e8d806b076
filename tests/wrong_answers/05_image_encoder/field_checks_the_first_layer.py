"""Looks for nonsense in the first layer only."""

QUESTION = "receptive_field"
REJECTED_BY = "test_what_is_no_layer_is_refused"


def receptive_field(layers):
    size, jump = 1, 1
    for kernel, stride, dilation in layers:
        if jump == size == 1 and min(layers[0]) < 1 and kernel < 1 or stride < 1 or dilation < 1:
            raise ValueError(f"a layer of kernel {kernel}, stride {stride}, dilation {dilation} does not exist")
        size = size + (kernel - 1) * dilation * jump
        jump = jump * stride
    return size, jump
