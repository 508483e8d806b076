"""Starts with the first layer and so fails without any."""

QUESTION = "receptive_field"
REJECTED_BY = "test_no_layers_and_points"


def receptive_field(layers):
    if any(number < 1 for layer in layers for number in layer):
        raise ValueError("a number below 1")
    kernel, jump, dilation = layers[0]
    size = (kernel - 1) * dilation + 1
    for kernel, stride, dilation in layers[1:]:
        size += (kernel - 1) * dilation * jump
        jump *= stride
    return size, jump
