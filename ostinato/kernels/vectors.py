"""Vectors of a processor's registers in numba's functions, and counters that threads share.

Numba leaves it to LLVM to find vectors in loops, and LLVM does not find the one instruction that a
product of bytes needs. So the few operations on vectors that `ostinato.kernels.step` needs are
written here as LLVM code. Each has a form for every processor; where x86 has an instruction for it,
that is used, if the processor (or NUMBA_CPU_FEATURES) has it.
"""

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

# Without reference counts (_nrt), for nothing is allocated: this halves compilation and time
OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "_nrt": False, "error_model": "numpy"}
compiled: Any = njit(**OPTIONS, fastmath={"contract", "reassoc", "nsz"})
compiled_for_finite: Any = njit(**OPTIONS, fastmath=True)
inlined: Any = njit(**OPTIONS, forceinline=True)

BYTES = 32
"""Bytes of a vector; 16- and 32-bit sums of a vector of bytes fill as many."""
INT, SHORT, BYTE = ir.IntType(32), ir.IntType(16), ir.IntType(8)
ELEMENTS = {"i8": BYTE, "i16": SHORT, "i32": INT, "f32": ir.FloatType(), "f64": ir.DoubleType()}


class Vector(types.Type):
    """Describe a vector to numba: the name of its elements and their number."""

    def __init__(self, element: str, count: int):
        self.llvm = ir.VectorType(ELEMENTS[element], count)
        self.element, self.count = element, count
        super().__init__(f"Vector({element}, {count})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """Keep a vector in a register."""

    def __init__(self, manager: Any, kind: Vector):
        super().__init__(manager, kind, kind.llvm)


CODES, SUMS = Vector("i8", BYTES), Vector("i32", BYTES // 4)


def floats(dtype: types.Float) -> Vector:
    """Return the vector of numbers that goes with `SUMS`."""
    return Vector(f"f{dtype.bitwidth}", BYTES // 4)


def constant(kind: ir.VectorType, value: int) -> ir.Constant:
    """Return a vector of equal elements."""
    return ir.Constant(kind, [value] * kind.count)


def address(context: Any, builder: Any, kind: Any, array: Any, index: Any, vector: Any) -> Any:
    """Return the address of element `index` of a flat array, as that of a vector."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def call(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    """Call an LLVM intrinsic."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def has(context: Any, feature: str) -> bool:
    """Return whether the code is for a processor with this feature."""
    return f"+{feature}" in context.codegen().magic_tuple()[2].split(",")


def half(builder: Any, vector: Any, first: int) -> Any:
    """Return the elements from `first` on, half of them."""
    count = vector.type.count // 2
    mask = ir.Constant(ir.VectorType(INT, count), [first + i for i in range(count)])
    return builder.shuffle_vector(vector, vector, mask)


def add_products(context: Any, builder: Any, start: Any, lanes: list[tuple[Any, Any]]) -> Any:
    """Return `start` plus the products of codes (0 to 3) and int8 activations, summed by fours."""
    if has(context, "avx512vnni") and has(context, "avx512vl"):
        whole = llvmlite.binding.llvm_version_info[0] < 22  # later versions pass bytes as bytes
        for pair in lanes:
            pair = [builder.bitcast(v, SUMS.llvm) for v in pair] if whole else pair
            start = call(builder, "llvm.x86.avx512.vpdpbusd.256", SUMS.llvm, start, *pair)
        return start
    wide = ir.VectorType(SHORT, BYTES)
    shorts = ir.VectorType(SHORT, BYTES // 2)
    total = None
    for codes, activations in lanes:
        if has(context, "avx2"):
            sums = call(builder, "llvm.x86.avx2.pmadd.ub.sw", shorts, codes, activations)
        else:
            product = builder.mul(builder.zext(codes, wide), builder.sext(activations, wide))
            sums = builder.add(half(builder, product, 0), half(builder, product, BYTES // 2))
        total = sums if total is None else builder.add(total, sums)
    if has(context, "avx2"):
        sums = call(builder, "llvm.x86.avx2.pmadd.wd", SUMS.llvm, total, constant(shorts, 1))
    else:
        parts = [builder.sext(half(builder, total, n), SUMS.llvm) for n in (0, BYTES // 4)]
        sums = builder.add(*parts)
    return builder.add(start, sums)


def picked(builder: Any, packed: Any, number: int) -> Any:
    """Return the codes of one of the four lanes of a packed vector."""
    words = builder.bitcast(packed, ir.VectorType(SHORT, BYTES // 2))
    words = builder.lshr(words, constant(words.type, 2 * number))
    return builder.and_(builder.bitcast(words, CODES.llvm), constant(CODES.llvm, 3))


def load_of(vector: Vector) -> Any:
    """Return an intrinsic that loads such vectors."""

    @intrinsic
    def load(typing: Any, array: Any, index: Any) -> Any:
        """Return the vector that begins at element `index` of a flat array."""

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            array, index = values
            place = address(context, builder, signature.args[0], array, index, vector.llvm)
            return builder.load(place, align=1)

        return vector(array, index), generate

    return load


load_codes, load_sums = load_of(CODES), load_of(SUMS)


@intrinsic
def lane_sums(typing: Any, start: Any, packed: Any, number: Any, activations: Any, index: Any):
    """Add the products of one lane (a literal number) of packed codes with the activations from
    `index` on to `start`."""
    if not isinstance(number, types.IntegerLiteral):
        return None

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        start, packed, _, array, index = values
        place = address(context, builder, signature.args[3], array, index, CODES.llvm)
        codes = picked(builder, packed, number.literal_value)
        return add_products(context, builder, start, [(codes, builder.load(place, align=1))])

    return SUMS(start, packed, number, activations, index), generate


@intrinsic
def block_sums(typing: Any, start: Any, packed: Any, activations: Any, index: Any):
    """Add the products of all four lanes of packed codes with the activations from `index` on."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        start, packed, array, index = values
        lanes = []
        for number in range(4):
            at = builder.add(index, ir.Constant(index.type, BYTES * number))
            place = address(context, builder, signature.args[2], array, at, CODES.llvm)
            lanes.append((picked(builder, packed, number), builder.load(place, align=1)))
        return add_products(context, builder, start, lanes)

    return SUMS(start, packed, activations, index), generate


@intrinsic
def no_floats(typing: Any, like: Any):
    """Return a vector of zeros of the type of `like`."""
    vector = floats(like)
    return vector(like), lambda context, builder, signature, values: constant(vector.llvm, 0)


@intrinsic
def add_scaled(typing: Any, total: Any, sums: Any, scale: Any):
    """Return total + sums · scale."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        total, sums, scale = values
        empty = ir.Constant(total.type, ir.Undefined)
        first = builder.insert_element(empty, scale, ir.Constant(INT, 0))
        spread = builder.shuffle_vector(first, empty, constant(ir.VectorType(INT, 8), 0))
        name = f"llvm.fmuladd.v{total.type.count}{signature.args[0].element}"
        return call(builder, name, total.type, builder.sitofp(sums, total.type), spread, total)

    return total(total, sums, scale), generate


@intrinsic
def total_of(typing: Any, total: Any):
    """Return the sum of the elements of a vector of numbers."""
    number = types.float32 if total.element == "f32" else types.float64

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        vector = values[0]
        while vector.type.count > 1:
            count = vector.type.count // 2
            vector = builder.fadd(half(builder, vector, 0), half(builder, vector, count))
        return builder.extract_element(vector, ir.Constant(INT, 0))

    return number(total), generate


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
