"""From logical operations to steps with kernels: one family a file; importing them fills `LOWER`."""

from glassnet.engine.lowering import augment, conv, conv_input_grad, image, linear, step
from glassnet.engine.lowering.base import LEAVES, LOWER, Context, Slots, lower
from glassnet.engine.lowering.linear import is_large

FAMILIES = (conv, conv_input_grad, linear, image, step, augment)

__all__ = ["FAMILIES", "LEAVES", "LOWER", "Context", "Slots", "is_large", "lower"]
