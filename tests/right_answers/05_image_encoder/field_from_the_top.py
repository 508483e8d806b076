"""Goes from the output down: how many positions of each layer's input an output needs."""

QUESTION = "receptive_field"


def receptive_field(layers):
    size, jump = 1, 1
    for kernel, stride, dilation in list(layers)[::-1]:
        if not (kernel >= 1 and stride >= 1 and dilation >= 1):
            raise ValueError(f"{kernel, stride, dilation} is no layer")
        size = (size - 1) * stride + dilation * (kernel - 1) + 1
        jump *= stride
    return size, jump
