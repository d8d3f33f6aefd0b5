"""Operations on single numbers that numba lacks: counters shared by threads, and bits of floats."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ostinato.kernels.vectors import INT


@intrinsic
def add_atomic(typing: Any, array: Any, index: Any, value: Any):
    """Add to a counter that other threads change too; return what it was."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array, index, value = values
        data = context.make_array(signature.args[0])(context, builder, array).data
        value = context.cast(builder, value, signature.args[2], types.int64)
        return builder.atomic_rmw("add", builder.gep(data, [index]), value, "seq_cst")

    return types.int64(array, index, value), generate


@intrinsic
def read_atomic(typing: Any, array: Any, index: Any):
    """Return a counter that other threads change."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array, index = values
        data = context.make_array(signature.args[0])(context, builder, array).data
        return builder.load_atomic(builder.gep(data, [index]), "seq_cst", align=8)

    return types.int64(array, index), generate


@intrinsic
def power_of_two(typing: Any, exponent: Any):
    """Return 2 to the power of a float32 that is a whole number from -126 to 127."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        biased = builder.add(builder.fptosi(values[0], INT), ir.Constant(INT, 127))
        return builder.bitcast(builder.shl(biased, ir.Constant(INT, 23)), ir.FloatType())

    return types.float32(exponent), generate


@intrinsic
def magnitude(typing: Any, number: Any):
    """Return the bits of |number| as an integer; the larger the one, the larger the other."""
    integer = {32: types.int32, 64: types.int64}[number.bitwidth]

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.IntType(number.bitwidth)
        bits = builder.bitcast(values[0], kind)
        return builder.and_(bits, ir.Constant(kind, 2 ** (number.bitwidth - 1) - 1))

    return integer(number), generate


@intrinsic
def number_of(typing: Any, bits: Any):
    """Return the number that has these bits."""
    number = {32: types.float32, 64: types.float64}[bits.bitwidth]

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], context.get_value_type(number))

    return number(bits), generate
