"""Vectors of a processor's registers in numba's functions, and counters that threads share.

Numba leaves it to LLVM to find vectors in loops, and LLVM does not find the one instruction that a
product of bytes needs. So the few operations on vectors that `ostinato.kernels.step` needs are
written here as LLVM code. Each has a form for every processor; where x86 has an instruction for it,
that is used, if the processor (or NUMBA_CPU_FEATURES) has it.
"""

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from ostinato.kernels.cache import cached

# Without reference counts (_nrt), for nothing is allocated: this halves compilation and time
OPTIONS: dict[str, Any] = {"nogil": True, "_nrt": False, "error_model": "numpy"}
compiled: Any = cached(**OPTIONS, fastmath={"contract", "reassoc", "nsz"})
inlined: Any = cached(**OPTIONS, forceinline=True)

LANE = 32
"""Activations of a lane. A vector has those of two rows, for 512 bits; LLVM splits it in halves for
processors with less."""
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


CODES, SUMS = Vector("i8", 2 * LANE), Vector("i32", LANE // 2)


def floats(dtype: types.Float) -> Vector:
    """Return the vector of numbers that goes with `SUMS`."""
    return Vector(f"f{dtype.bitwidth}", SUMS.count)


def constant(kind: ir.VectorType, value: int) -> ir.Constant:
    """Return a vector of equal elements."""
    return ir.Constant(kind, [value] * kind.count)


def address(context: Any, builder: Any, kind: Any, array: Any, index: Any, vector: Any) -> Any:
    """Return the address of element `index` of a flat array, as that of a vector."""
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def shuffled(builder: Any, one: Any, other: Any, places: Any) -> Any:
    """Return the elements of two vectors that are at these places."""
    places = list(places)
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(INT, len(places)), places))


def load_twice(context: Any, builder: Any, kind: Any, array: Any, index: Any, vector: Any) -> Any:
    """Return a vector whose two halves are both what is at `index`."""
    part = ir.VectorType(vector.element, vector.count // 2)
    loaded = builder.load(address(context, builder, kind, array, index, part), align=1)
    return shuffled(builder, loaded, loaded, [*range(part.count)] * 2)


def call(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    """Call an LLVM intrinsic."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def has(context: Any, *features: str) -> bool:
    """Return whether the code is for a processor with these features."""
    found = context.codegen().magic_tuple()[2].split(",")
    return all(f"+{feature}" in found for feature in features)


def half(builder: Any, vector: Any, number: int) -> Any:
    """Return the first or second half of the elements."""
    count = vector.type.count // 2
    return shuffled(builder, vector, vector, range(number * count, number * count + count))


def joined(builder: Any, one: Any, other: Any) -> Any:
    """Return the vector with these halves."""
    return shuffled(builder, one, other, range(2 * one.type.count))


def add_products(context: Any, builder: Any, start: Any, lanes: list[tuple[Any, Any]]) -> Any:
    """Return `start` plus the products of codes (0 to 3) and int8 activations, summed by fours."""
    if has(context, "avx512vnni"):
        whole = llvmlite.binding.llvm_version_info[0] < 22  # later versions pass bytes as bytes
        for pair in lanes:
            pair = [builder.bitcast(v, SUMS.llvm) for v in pair] if whole else pair
            start = call(builder, "llvm.x86.avx512.vpdpbusd.512", SUMS.llvm, start, *pair)
        return start
    rows = [[[half(builder, v, n) for v in pair] for pair in lanes] for n in (0, 1)]
    return builder.add(start, joined(builder, *(row_products(context, builder, r) for r in rows)))


def row_products(context: Any, builder: Any, lanes: list[list[Any]]) -> Any:
    """Return the products of one row, summed by fours, without VNNI."""
    wide, shorts = ir.VectorType(SHORT, LANE), ir.VectorType(SHORT, LANE // 2)
    ints, avx2, total = ir.VectorType(INT, LANE // 4), has(context, "avx2"), None
    for codes, activations in lanes:
        if avx2:
            sums = call(builder, "llvm.x86.avx2.pmadd.ub.sw", shorts, codes, activations)
        else:
            product = builder.mul(builder.zext(codes, wide), builder.sext(activations, wide))
            sums = builder.add(half(builder, product, 0), half(builder, product, 1))
        total = sums if total is None else builder.add(total, sums)
    if avx2:
        return call(builder, "llvm.x86.avx2.pmadd.wd", ints, total, constant(shorts, 1))
    return builder.add(*(builder.sext(half(builder, total, n), ints) for n in (0, 1)))


def picked(context: Any, builder: Any, packed: Any, number: int) -> Any:
    """Return the codes of one of the four lanes of a packed vector."""
    if number and has(context, "gfni", "avx512f"):
        # An 8×8 matrix of bits for each byte: its last two rows pick bits 2n and 2n + 1
        matrix = (1 << 2 * number) << 56 | (2 << 2 * number) << 48
        matrix = constant(ir.VectorType(ir.IntType(64), 2 * LANE // 8), matrix)
        matrix = builder.bitcast(matrix, CODES.llvm)
        name = "llvm.x86.vgf2p8affineqb.512"
        return call(builder, name, CODES.llvm, packed, matrix, ir.Constant(BYTE, 0))
    words = builder.bitcast(packed, ir.VectorType(SHORT, LANE))
    words = builder.lshr(words, constant(words.type, 2 * number))
    return builder.and_(builder.bitcast(words, CODES.llvm), constant(CODES.llvm, 3))


@intrinsic
def load_codes(typing: Any, array: Any, index: Any):
    """Return the packed codes of a block of two rows."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = address(context, builder, signature.args[0], values[0], values[1], CODES.llvm)
        return builder.load(place, align=1)

    return CODES(array, index), generate


@intrinsic
def load_sums(typing: Any, array: Any, index: Any):
    """Return the sums from `index` on, for either row."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return load_twice(context, builder, signature.args[0], values[0], values[1], SUMS.llvm)

    return SUMS(array, index), generate


@intrinsic
def lane_sums(typing: Any, start: Any, packed: Any, number: Any, activations: Any, index: Any):
    """Add the products of one lane (a literal number) of packed codes with the activations from
    `index` on to `start`."""
    if not isinstance(number, types.IntegerLiteral):
        return None

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        start, packed, _, array, index = values
        given = load_twice(context, builder, signature.args[3], array, index, CODES.llvm)
        codes = picked(context, builder, packed, number.literal_value)
        return add_products(context, builder, start, [(codes, given)])

    return SUMS(start, packed, number, activations, index), generate


@intrinsic
def block_sums(typing: Any, start: Any, packed: Any, activations: Any, index: Any):
    """Add the products of all four lanes of packed codes with the activations from `index` on."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        start, packed, array, index = values
        lanes = []
        for number in range(4):
            at = builder.add(index, ir.Constant(index.type, LANE * number))
            given = load_twice(context, builder, signature.args[2], array, at, CODES.llvm)
            lanes.append((picked(context, builder, packed, number), given))
        return add_products(context, builder, start, lanes)

    return SUMS(start, packed, activations, index), generate


@intrinsic
def no_floats(typing: Any, like: Any):
    """Return a vector of zeros of the type of `like`."""
    vector = floats(like)
    return vector(like), lambda context, builder, signature, values: constant(vector.llvm, 0)


@intrinsic
def add_scaled(typing: Any, total: Any, sums: Any, scale: Any, weights: Any, index: Any):
    """Return total + sums · scale · weight; a weight for each row is at `index`."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        total, sums, scale, array, index = values
        kind, count = total.type, total.type.count
        pair = ir.VectorType(kind.element, 2)
        pair = builder.load(
            address(context, builder, signature.args[3], array, index, pair), align=1
        )
        weights = shuffled(builder, pair, pair, [0] * (count // 2) + [1] * (count // 2))
        empty = ir.Constant(kind, ir.Undefined)
        scale = builder.insert_element(empty, scale, ir.Constant(INT, 0))
        scale = shuffled(builder, scale, empty, [0] * count)
        name = f"llvm.fmuladd.v{count}{signature.args[0].element}"
        scaled = builder.fmul(builder.sitofp(sums, kind), scale)
        return call(builder, name, kind, scaled, weights, total)

    return total(total, sums, scale, weights, index), generate


@intrinsic
def load_numbers(typing: Any, array: Any, index: Any):
    """Return the numbers from element `index` of a flat array on."""
    vector = floats(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = address(context, builder, signature.args[0], values[0], values[1], vector.llvm)
        return builder.load(place, align=1)

    return vector(array, index), generate


@intrinsic
def load_integers(typing: Any, array: Any, index: Any, like: Any):
    """Return 16 integers of three bytes each as numbers of the type of `like`.

    They begin at byte `index`; the 16 bytes behind them are read too. A number has four bytes: the
    lowest stands twice, because a zero in its place takes longer.
    """
    vector = floats(like)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = address(context, builder, signature.args[0], values[0], values[1], CODES.llvm)
        packed = builder.load(place, align=1)
        places = [place for n in range(0, 3 * SUMS.count, 3) for place in (n, n, n + 1, n + 2)]
        spread = builder.bitcast(shuffled(builder, packed, packed, places), SUMS.llvm)
        return builder.sitofp(spread, vector.llvm)

    return vector(array, index, like), generate


@intrinsic
def add_product(typing: Any, total: Any, a: Any, b: Any):
    """Return total + a · b."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        total, a, b = values
        name = f"llvm.fmuladd.v{total.type.count}{signature.args[0].element}"
        return call(builder, name, total.type, a, b, total)

    return total(total, a, b), generate


@intrinsic
def totals_of(typing: Any, a: Any, b: Any, c: Any, d: Any):
    """Return the sums of the elements of four vectors: of their first halves, then their second."""
    number = types.float32 if a.element == "f32" else types.float64

    def neighbours_added(builder: Any, one: Any, other: Any) -> Any:
        """Return sums of neighbours: of each four, two of `one`, then two of `other`."""
        count = one.type.count
        even = [n + k for n in range(0, count, 4) for k in (0, 2, count, count + 2)]
        pairs = [shuffled(builder, one, other, [n + odd for n in even]) for odd in (0, 1)]
        return builder.fadd(*pairs)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        a, b, c, d = values
        fours = neighbours_added(
            builder, neighbours_added(builder, a, b), neighbours_added(builder, c, d)
        )
        places = [0, 1, 2, 3, 8, 9, 10, 11]
        totals = builder.fadd(
            shuffled(builder, fours, fours, places),
            shuffled(builder, fours, fours, [n + 4 for n in places]),
        )
        found = [builder.extract_element(totals, ir.Constant(INT, n)) for n in range(8)]
        return context.make_tuple(builder, signature.return_type, found)

    return types.UniTuple(number, 8)(a, b, c, d), generate
