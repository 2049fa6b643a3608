"""Depthwise convolutions whose backward pass is fast on a CPU; the numbers are the same up to rounding"""

import types
import torch
from torch import nn
from torch.nn import functional as F


class Depthwise(torch.autograd.Function):
    """A depthwise convolution without bias.

    The backward pass of PyTorch has fast code neither for dilated nor for bfloat16 depthwise convolutions on a CPU.
    Two others do: the gradient of the input, at stride 1, is a forward convolution with the turned kernel; the
    gradient of the kernel is computed in single precision."""

    @staticmethod
    def forward(ctx, x, weight, stride: int, padding: int, dilation: int):
        ctx.save_for_backward(x, weight)
        ctx.options = stride, padding, dilation
        return F.conv2d(x, weight, None, stride, padding, dilation, len(weight))

    @staticmethod
    def backward(ctx, grad):
        (x, weight), (stride, padding, dilation) = ctx.saved_tensors, ctx.options
        channels = len(weight)

        def of_torch(grad, x, weight, wanted):
            options = [stride] * 2, [padding] * 2, [dilation] * 2, False, [0, 0], channels, wanted
            return torch.ops.aten.convolution_backward(grad, x, weight, None, *options)

        grad_x = grad_weight = None
        if ctx.needs_input_grad[0] and stride == 1:
            around = dilation * (weight.shape[-1] - 1) - padding
            grad_x = F.conv2d(grad, weight.flip(2, 3), None, 1, around, dilation, channels)
        elif ctx.needs_input_grad[0]:
            grad_x = of_torch(grad, x, weight, [True, False, False])[0]
        if ctx.needs_input_grad[1]:
            grad_weight = of_torch(grad.float(), x.float(), weight.float(), [False, True, False])[1].to(weight.dtype)
        return grad_x, grad_weight, None, None, None


def _forward(self, x):
    "The convolution of a module, with timm's padding where it has stride 2."
    padding = self.padding[0]
    if type(self).__name__ == "Conv2dSame":
        from timm.layers import pad_same

        x, padding = pad_same(x, self.kernel_size, self.stride, self.dilation), 0
    weight = self.weight
    if torch.is_autocast_enabled("cpu"):
        x, weight = (t.to(torch.get_autocast_dtype("cpu")) for t in (x, weight))
    return Depthwise.apply(x, weight, self.stride[0], padding, self.dilation[0])


def fast_depthwise(
    module: nn.Module,  # is changed
) -> int:  # convolutions that were changed
    "Let every depthwise convolution without bias use `Depthwise`."
    found = [m for m in module.modules() if isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1]
    found = [m for m in found if m.bias is None and m.out_channels == m.in_channels]
    for m in found:
        m.forward = types.MethodType(_forward, m)
    return len(found)
