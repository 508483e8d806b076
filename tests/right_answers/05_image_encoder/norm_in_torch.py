"""The same steps with PyTorch's tensors, but not its norm."""

import torch

QUESTION = "batch_norm"


def batch_norm(x, gamma, beta, running_mean, running_var, training, momentum=0.1, eps=1e-5):
    t, g, b, m, v = (torch.from_numpy(array.copy()) for array in (x, gamma, beta, running_mean, running_var))
    new = m, v
    if training:
        if t.numel() // t.shape[1] < 2:
            raise ValueError("a channel needs two values")
        flat = t.transpose(0, 1).flatten(1)
        new = torch.lerp(m, flat.mean(1), momentum), torch.lerp(v, flat.var(1, unbiased=True), momentum)
        m, v = flat.mean(1), flat.var(1, unbiased=False)
    wide = [part.reshape(-1, *[1] * (t.ndim - 2)) for part in (m, v, g, b)]
    out = (t - wide[0]) * torch.rsqrt(wide[1] + eps) * wide[2] + wide[3]
    return out.numpy(), new[0].numpy(), new[1].numpy()
