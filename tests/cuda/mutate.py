#!/usr/bin/env python3
"""Breaks one line of a kernel: mutate.py NAME FOLDER OUT writes FOLDER/<file of the mutant>, broken, to OUT. Names: mutate.py --list.

Each mutant is (file, what stands there, what stands there now). `flash` and `norm` leave everything as it is: what passes the
checks. Only the f16 kernels that the checks launch are kept, to save compile time.
"""
import re
import sys

FLASH, NORM = "flash_attention.cu", "norm_vectors.cu"
MUTANTS = {
    "flash": (FLASH, "", ""),
    "flash_mask_off_by_one": (FLASH, "column + i % 2 >= valid", "column + i % 2 > valid"),
    "flash_never_rescales": (FLASH, "if (!__any_sync(kAllLanes, grown)) return;", "return;"),
    "flash_no_barrier": (FLASH, "__syncthreads();  // the tile is there for all", "// the tile is there for all"),
    "flash_no_barrier_after_q": (FLASH, "if constexpr (kHeld) __syncthreads();  // Q is in registers", "// Q is in registers"),
    "flash_waits_too_late": (FLASH, "copy_wait<0>();\n      __syncthreads();", "copy_wait<1>();\n      __syncthreads();"),
    "flash_wrong_swizzle": (FLASH, "2 * i + lane / 8 % 2);", "2 * i + lane / 8 % 2 + lane % 8 / 7);"),
    "norm": (NORM, "", ""),
    "norm_no_barrier": (NORM, "__syncthreads();\n\n  const int begin", "const int begin"),
    "norm_blocks_do_not_wait": (NORM, "wait_for_blocks(p", "if (gridDim.x > 3) wait_for_blocks(p"),
    "norm_reads_more_than_is_held": (NORM, "first + i < most_held ? place", "first + i <= most_held ? place"),
    "norm_keeps_one_less": (NORM, "if (i < most_kept)", "if (i + 1 < most_kept)"),
    "norm_one_place_for_moments": (NORM, "part.number / gridDim.y % 2", "0"),
    "norm_parts_run_into_another": (NORM, "shared);\n    __syncthreads();", "shared);"),
    "norm_first_chunk_only": (NORM, "(n - picture * p.chunks) * p.chunk", "0"),
    "norm_slice_left_out": (NORM, "group)[slice]", "group)[slice / 2]"),
    "norm_pivot_forgotten": (NORM, "m.pivot - base.pivot + (m.rest - base.rest)", "m.rest - base.rest"),
}


def main():
    if sys.argv[1:] == ["--list"]:
        print(";".join(MUTANTS), end="")
        return
    name, folder, out = sys.argv[1:]
    file, before, after = MUTANTS[name]
    text = open(f"{folder}/{file}", encoding="utf-8").read()
    if before and text.count(before) != 1:
        sys.exit(f"{name}: {file} holds the line {text.count(before)} times")
    text = text.replace(before, after) if before else text
    text = re.sub(r"^FLASH\((?!flash(40|64)_f16).*\n", "", text, flags=re.M)
    text = re.sub(r"^__global__[^;]*?\W(layer_norm\w+|group_norm_large\w+|\w+_f32|\w+_bf16)\(.*\n.*\n}\n", "", text, flags=re.M)
    open(out, "w", encoding="utf-8").write(text)


main()
