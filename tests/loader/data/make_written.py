#!/usr/bin/env python3
"""Makes written.safetensors with the Python package safetensors (0.8.0): what our writer must reproduce byte for byte.

Byte i of every tensor is (7 i + 3) modulo 251, so that the test can rebuild it. The raw bindings are called, since numpy
lacks some of the types; they double the last dimension of the 4-bit type.
"""
import ctypes
import sys

import safetensors

TENSORS = [("z.f32", "float32", [2, 3], 24), ("a.f32", "float32", [1], 4), ("f16", "float16", [5], 10), ("bf16", "bfloat16", [3], 6),
           ("i16", "int16", [1], 2), ("u16", "uint16", [1], 2), ("f64", "float64", [2], 16), ("i64", "int64", [1, 2], 16),
           ("u64", "uint64", [1], 8), ("c64", "complex64", [1], 8), ("i32", "int32", [1], 4), ("u32", "uint32", [1], 4),
           ("bool", "bool", [3], 3), ("u8", "uint8", [3], 3), ("i8", "int8", [1], 1), ("e4m3", "float8_e4m3fn", [2], 2),
           ("e5m2", "float8_e5m2", [2], 2), ("e8m0", "float8_e8m0fnu", [2], 2), ("e4m3fnuz", "float8_e4m3fnuz", [2], 2),
           ("e5m2fnuz", "float8_e5m2fnuz", [2], 2), ("f4", "float4_e2m1fn_x2", [3], 3), ("scalar", "float32", [], 4),
           ("empty", "float32", [0, 7], 0), ("quote\" back\\slash\ttab \x01 \x7f", "uint8", [1], 1), ("重み.δ.🦊", "uint8", [2], 2)]


def main():
    tensors, keep = {}, []
    for name, dtype, shape, size in TENSORS:
        keep.append(ctypes.create_string_buffer(bytes((7 * i + 3) % 251 for i in range(size)), max(size, 1)))
        tensors[name] = safetensors.TensorSpec(dtype=dtype, shape=shape, data_ptr=ctypes.addressof(keep[-1]), data_len=size)
    with open(sys.argv[1], "wb") as f:
        f.write(safetensors.serialize(tensors, {"note": "a \"quoted\"\nline, ünïcode"}))


main()
