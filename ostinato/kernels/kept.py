"""Hand numba's functions many arrays at once: as it reads an argument anew at each call, 50 arrays
take as long as a small model's matrices."""

from typing import Any, no_type_check

import numpy as np
from numba import typeof, types
from numba.core.registry import cpu_target
from numba.extending import NativeValue, intrinsic, models, register_model, unbox

from ostinato.kernels.vectors import compiled


class KeptType(types.Type):
    """Describe a `Kept` to numba."""

    def __init__(self, kind: Any):
        self.kind = kind
        super().__init__(f"Kept({kind})")


class Kept:
    """Hold a tuple of arrays, which numba has read; `value_of` is the tuple."""

    def __init__(self, value: tuple):
        kind = typeof(value)
        context: Any = cpu_target.target_context
        self.value: Any = value
        self._numba_type_ = KeptType(kind)
        self.memory = np.zeros(context.get_abi_sizeof(context.get_value_type(kind)), np.uint8)
        self.address = self.memory.ctypes.data
        keep(self.memory, value)


@register_model(KeptType)
class KeptModel(models.PrimitiveModel):
    """Keep the address."""

    def __init__(self, manager: Any, kind: KeptType):
        context: Any = cpu_target.target_context
        super().__init__(manager, kind, context.get_value_type(types.voidptr))


@unbox(KeptType)
def unbox_kept(kind: KeptType, kept: Any, context: Any) -> NativeValue:
    """Read the address of a `Kept`."""
    number = context.pyapi.object_getattr_string(kept, "address")
    address = context.pyapi.long_as_voidptr(number)
    context.pyapi.decref(number)
    return NativeValue(address)


@intrinsic
def value_of(typing: Any, kept: Any):
    """Return the tuple of a `Kept`."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = context.get_value_type(kept.kind)
        return builder.load(builder.bitcast(values[0], kind.as_pointer()))

    return kept.kind(kept), generate


@intrinsic
def write_value(typing: Any, memory: Any, value: Any):
    """Write what numba has read of a value."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        data = context.make_array(memory)(context, builder, values[0]).data
        builder.store(values[1], builder.bitcast(data, values[1].type.as_pointer()))
        return context.get_dummy_value()

    return types.void(memory, value), generate


@no_type_check
@compiled
def keep(memory, value):
    """Write what numba has read of a value."""
    write_value(memory, value)
