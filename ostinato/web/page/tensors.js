// Runs the instructions of program.py on one memory of numbers. Matrix products are done by a
// kernel in WebAssembly, whose few bytes are written out below; all else is plain loops.

export const ROWS = 6, COLUMNS = 8;  // of the result that the kernel computes at a time

// tile(a, stride, b, c, wide, inner): c[6 × 8] = a[6 × inner] · b[inner × 8], in bytes but inner
function kernel(fused) {
  const A = 0, STRIDE = 1, B = 2, C = 3, WIDE = 4, INNER = 5, ROW = 6, LEFT = 12, RIGHT = 13,
    FACTOR = 14, SUM = 15;
  const get = x => [0x20, x], set = x => [0x21, x], add = [0x6a], simd = (...op) => [0xfd, ...op];
  const step = (x, bytes) => [...get(x), 0x41, bytes, ...add, ...set(x)];
  const times = fused ? simd(0x85, 2) : [...simd(0xe6, 1), ...simd(0xe4, 1)];
  const code = [];
  for (let r = 0; r < ROWS; r++) {  // a pointer for each row
    code.push(...(r ? [...get(ROW + r - 1), ...get(STRIDE), ...add] : get(A)), ...set(ROW + r));
  }
  code.push(0x03, 0x40);  // loop
  code.push(...get(B), ...simd(0, 2, 0), ...set(LEFT), ...get(B), ...simd(0, 2, 16), ...set(RIGHT));
  for (let r = 0; r < ROWS; r++) {
    code.push(...get(ROW + r), ...simd(9, 2, 0), ...set(FACTOR));
    for (const [half, side] of [LEFT, RIGHT].entries()) {
      const sum = SUM + 2 * r + half;
      // The fused form is a · b + c, the other (c, a, b): c + a · b
      code.push(...(fused ? [] : get(sum)), ...get(FACTOR), ...get(side), ...(fused ? get(sum) : []),
        ...times, ...set(sum));
    }
    code.push(...step(ROW + r, 4));
  }
  code.push(...step(B, 32), ...get(INNER), 0x41, 1, 0x6b, 0x22, INNER, 0x0d, 0, 0x0b);  // until 0
  for (let r = 0; r < ROWS; r++) {
    for (const half of [0, 1]) {
      code.push(...get(C), ...get(SUM + 2 * r + half), ...simd(0x0b, 2, 16 * half));
    }
    code.push(...get(C), ...get(WIDE), ...add, ...set(C));
  }
  code.push(0x0b);
  const number = n => n < 128 ? [n] : [n & 127 | 128, ...number(n >> 7)];
  const section = (id, content) => [id, ...number(content.length), ...content];
  const name = text => [text.length, ...new TextEncoder().encode(text)];
  const body = [2, 6, 0x7f, 15, 0x7b, ...code];  // locals: 6 integers, 15 vectors
  return new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
    ...section(1, [1, 0x60, 6, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0]),
    ...section(2, [1, ...name("env"), ...name("memory"), 2, 0, 0]),
    ...section(3, [1, 0]),
    ...section(7, [1, ...name("tile"), 0, 0]),
    ...section(10, [1, ...number(body.length), ...body])]);
}

// float32 numbers from segments of {count, form}, of which two forms take two bytes
export function widened(stored, segments) {
  const numbers = new Float32Array(segments.reduce((sum, {count}) => sum + count, 0));
  const bits = new Uint32Array(numbers.buffer);
  let from = 0, to = 0;
  for (const {count, form} of segments) {
    const end = from + count * (form === "float32" ? 4 : 2), part = stored.slice(from, end);
    if (form === "float32") numbers.set(new Float32Array(part), to);
    else if (form === "bfloat16") new Uint16Array(part).forEach((half, i) => bits[to + i] = half << 16);
    else new Uint16Array(part).forEach((half, i) => {
      const exponent = half >> 10 & 31, fraction = half & 1023;
      const size = exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction;
      numbers[to + i] = half >> 15 ? -size : size;
    });
    from = end;
    to += count;
  }
  return numbers;
}

// Set up the memory; returns {numbers, integers, run}, where run() is one H-cycle
export async function load(program, constants) {
  const pages = Math.ceil((4 * program.size + 65536) / 65536) + 1;  // the kernel reads beyond ends
  const memory = new WebAssembly.Memory({initial: pages});
  const fused = WebAssembly.validate(kernel(true));
  const {instance} = await WebAssembly.instantiate(kernel(fused), {env: {memory}});
  const m = new Float32Array(memory.buffer), integers = new Int32Array(memory.buffer);
  m.set(constants);
  const {tile} = instance.exports;

  function product(a, stride, b, c, rows, inner, wide) {  // c = a · b, panel by panel
    for (let column = 0; column < wide; column += COLUMNS, b += COLUMNS * inner) {
      for (let row = 0; row < rows; row += ROWS) {
        tile(4 * (a + row * stride), 4 * stride, 4 * b, 4 * (c + row * wide + column), 4 * wide, inner);
      }
    }
  }

  // Call inner(count, …places) for every run of numbers along the last axis
  function along(shape, strides, places, inner) {
    const last = shape.length - 1, at = shape.map(() => 0), from = [...places];
    for (;;) {
      inner(shape[last], ...from);
      let axis = last - 1;
      for (; axis >= 0; axis--) {
        for (let i = 0; i < from.length; i++) from[i] += strides[i][axis];
        if (++at[axis] < shape[axis]) break;
        for (let i = 0; i < from.length; i++) from[i] -= shape[axis] * strides[i][axis];
        at[axis] = 0;
      }
      if (axis < 0) return;
    }
  }

  const maps = {  // a loop each: a function that is passed in would not be inlined
    rsqrt(count, a, s, c) { for (let i = 0; i < count; i++, a += s) m[c++] = 1 / Math.sqrt(m[a]); },
    square(count, a, s, c) { for (let i = 0; i < count; i++, a += s) m[c++] = m[a] * m[a]; },
    sigmoid(count, a, s, c) {
      for (let i = 0; i < count; i++, a += s) m[c++] = 1 / (1 + Math.exp(-m[a]));
    },
    silu(count, a, s, c) {
      for (let i = 0; i < count; i++, a += s) m[c++] = m[a] / (1 + Math.exp(-m[a]));
    },
  };

  const kinds = {
    gather({table, ids, to, width, count}) {
      for (let i = 0; i < count; i++) {
        const row = table + width * integers[ids + i];
        m.copyWithin(to + i * width, row, row + width);
      }
    },
    copy({from, to, shape, strides}) {
      const s = strides.from.at(-1), t = strides.to.at(-1);
      along(shape, [strides.from, strides.to], [from, to], (count, a, c) => {
        if (s === 1 && t === 1) m.copyWithin(c, a, a + count);
        else for (let i = 0; i < count; i++, a += s, c += t) m[c] = m[a];
      });
    },
    map({of, to, shape, strides, function: name}) {
      const s = strides.of.at(-1);
      along(shape, [strides.of, strides.to], [of, to], (count, a, c) => maps[name](count, a, s, c));
    },
    zip({of, and, to, shape, strides, function: name, number}) {
      const s = strides.of.at(-1), adds = name === "add";
      if (number !== undefined) {
        along(shape, [strides.of, strides.to], [of, to], (count, a, c) => {
          if (adds) for (let i = 0; i < count; i++, a += s) m[c++] = m[a] + number;
          else for (let i = 0; i < count; i++, a += s) m[c++] = m[a] * number;
        });
        return;
      }
      const t = strides.and.at(-1);
      along(shape, [strides.of, strides.and, strides.to], [of, and, to], (count, a, b, c) => {
        if (adds) for (let i = 0; i < count; i++, a += s, b += t) m[c++] = m[a] + m[b];
        else for (let i = 0; i < count; i++, a += s, b += t) m[c++] = m[a] * m[b];
      });
    },
    mean({of, to, width, count, squared}) {
      for (let row = 0; row < count; row++) {
        let sum = 0;
        if (squared) for (let i = 0; i < width; i++, of++) sum += m[of] * m[of];
        else for (let i = 0; i < width; i++) sum += m[of++];
        m[to + row] = sum / width;
      }
    },
    linear({of, weight, to, rows, inner, stride, columns}) {
      product(of, stride, weight, to, rows, inner, columns);
    },
    attention({q, k, v, to, scratch, heads, length, dim, strides}) {
      const keys = Math.ceil(length / COLUMNS) * COLUMNS, values = scratch + keys * dim;
      const scores = values + length * dim, scale = 1 / Math.sqrt(dim);
      for (let head = 0; head < heads; head++) {
        const [qh, kh, vh] = [[q, strides.q], [k, strides.k], [v, strides.v]].map(
          ([at, s]) => at + head * s[1]);
        for (let key = 0; key < keys; key++) {  // keys and values in panels, as weights are
          const panel = scratch + (key - key % COLUMNS) * dim + key % COLUMNS;
          const from = kh + key * strides.k[2];
          for (let i = 0; i < dim; i++) m[panel + COLUMNS * i] = key < length ? m[from + i] : 0;
        }
        for (let i = 0; i < dim; i++) {
          const panel = values + (i - i % COLUMNS) * length + i % COLUMNS;
          for (let key = 0; key < length; key++) m[panel + COLUMNS * key] = m[vh + key * strides.v[2] + i];
        }
        product(qh, strides.q[2], scratch, scores, length, dim, keys);
        for (let row = 0; row < length; row++) {
          const start = scores + row * keys;
          let most = -Infinity, sum = 0;
          for (let i = start; i < start + length; i++) most = Math.max(most, m[i]);
          for (let i = start; i < start + length; i++) sum += m[i] = Math.exp(scale * (m[i] - most));
          for (let i = start; i < start + length; i++) m[i] /= sum;
        }
        // The rows of the result are heads · dim apart
        for (let column = 0; column < dim; column += COLUMNS) {
          for (let row = 0; row < length; row += ROWS) {
            tile(4 * (scores + row * keys), 4 * keys, 4 * (values + column * length),
              4 * (to + (row * heads + head) * dim + column), 4 * heads * dim, length);
          }
        }
      }
    },
  };

  return {
    numbers: m,
    integers,
    run() { for (const each of program.instructions) kinds[each.kind](each); },
  };
}
