#!/usr/bin/env python3
"""What the machine code of the tensor-core kernels says, without a GPU; fails where a kernel is worse than its limits.

usage: sass_report.py [--nvdisasm PATH] [--arch 80] FATBIN...

For every kernel with tensor instructions: spills (there must be none), the loop that holds most of them, the width of its
accesses to global memory (16 bytes, all of them), the instructions it issues for each HMMA ("slots", every one counted), and the
share of the busiest pipe's cycles that the tensor pipe has: how busy it could be if all latency were hidden, from instruction
counts and data-sheet rates. An upper bound, not a measurement. LIMITS says how many slots and which bound a kernel may have.

nvdisasm comes with the toolkit or as PyPI's nvidia-cuda-nvdisasm; it is looked for in $NVDISASM, in PATH and among the packages
of this Python. Exit: 0 all within limits, 1 not, 77 no nvdisasm.
"""
import argparse
import collections
import glob
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile

# (pattern of kernel names, most slots per HMMA on sm_80, least share of the tensor pipe on sm_80); None: stated, not held to
# anything. The first pattern that matches counts; a kernel that none matches is an error, so that a new one gets its line.
# Tiles of 64x64 ask shared memory for more than 32x32 sums a warp can pay for: 67 % is their arithmetic. Attention with 16 rows
# a warp (short grids, heads of 512) likewise. Convolutions with few outputs read x for each of their taps: L1 binds them.
LIMITS = [
    (r"conv_128x", 3.6, 0.95),
    (r"conv_few_", None, None),
    (r"(linear|geglu)_128x", 2.1, 0.95),
    (r"(conv|linear)_64x160", None, 0.95),
    (r"(conv|linear|geglu)_64x64", None, None),
    (r"flash(160_small|512)_", None, None),
    (r"flash160_", 4.02, 0.95),
    (r"flash80_", 4.3, 0.95),
    (r"flash64_", 4.8, 0.95),
    (r"flash40_", 6.1, 0.95),
]

# Cycles of one instruction of a warp on one of the four parts of a multiprocessor, by compute capability; hmma is m16n8k16 with
# sums in float (CUDA C++ Programming Guide, arithmetic throughput, and the data sheets of A100, RTX 4090 and H100).
RATES = {
    80: {"hmma": 8, "fma": 2, "alu": 2, "mufu": 8},
    86: {"hmma": 32, "fma": 1, "alu": 2, "mufu": 8},
    89: {"hmma": 32, "fma": 1, "alu": 2, "mufu": 8},
    90: {"hmma": 4, "fma": 1, "alu": 2, "mufu": 8},
    100: {"hmma": 4, "fma": 1, "alu": 2, "mufu": 8},
    120: {"hmma": 32, "fma": 1, "alu": 1, "mufu": 8},
}
SHARED_BYTES = 128  # a cycle and multiprocessor, shared by its four parts

INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]+\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z][A-Z0-9_]*(?:\.[\w.]+)?)\s*(.*?);")
LABEL = re.compile(r"^(\.L_x_\d+):")


def find_nvdisasm(given):
    for path in [given, os.environ.get("NVDISASM"), shutil.which("nvdisasm")]:
        if path and os.path.exists(path):
            return path
    for folder in sys.path:
        for path in glob.glob(os.path.join(folder, "nvidia", "*", "bin", "nvdisasm")):
            return path
    return None


def cubins(path):
    """(architecture, bytes) of the machine code in a fatbin made with --compress-mode=none."""
    data = open(path, "rb").read()
    magic, _, header, size = struct.unpack_from("<IHHQ", data)
    if magic != 0xBA55ED50:
        sys.exit(f"{path}: not a fatbin")
    at, end = header, header + size
    while at < end:
        kind, _, header, size = struct.unpack_from("<HHIQ", data, at)
        if kind == 2:
            yield struct.unpack_from("<I", data, at + 28)[0], data[at + header:at + header + size]
        at += header + size


def disassemble(nvdisasm, cubin):
    """{kernel: ([(opcode, arguments, predicate)], {label: index})}"""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([nvdisasm, "-c", file.name], capture_output=True, text=True, check=True).stdout
    kernels, current = {}, None
    for line in text.splitlines():
        if section := re.match(r"\s*\.section\s+(\S+?),", line):
            name = section.group(1)
            current = kernels.setdefault(name[6:], ([], {})) if name.startswith(".text.") else None
        elif current is not None:
            if label := LABEL.match(line):
                current[1][label.group(1)] = len(current[0])
            elif found := INSTRUCTION.match(line):
                predicate, opcode, arguments = found.groups()
                current[0].append((opcode, arguments, predicate))
    return kernels


def is_tensor(opcode):
    return opcode.startswith(("HMMA", "IMMA", "HGMMA", "QMMA"))


def main_loop(code, labels):
    """The instructions of the innermost loop with the most tensor instructions."""
    loops = []
    for i, (opcode, arguments, _) in enumerate(code):
        target = re.search(r"\((\.L_x_\d+)\)", arguments)
        if opcode.startswith("BRA") and target and labels.get(target.group(1), len(code)) <= i:
            body = code[labels[target.group(1)]:i + 1]
            # A span that holds the end of the program is a jump back from code moved behind it, not a loop.
            if any(is_tensor(o) for o, _, _ in body) and not any(o == "EXIT" and p is None for o, _, p in body):
                loops.append((labels[target.group(1)], i))
    inner = [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    if not inner:
        return None
    return max((code[a:b + 1] for a, b in inner), key=lambda body: sum(is_tensor(o) for o, _, _ in body))


def width(opcode):
    """Bytes that one lane moves."""
    return 16 if ".128" in opcode else 8 if ".64" in opcode else 4


def cost(opcode, predicate, rates):
    """(pipe, its cycles, bytes through shared memory) of one instruction of a warp."""
    base = opcode.split(".")[0]
    if is_tensor(opcode):
        return "tensor", rates["hmma"] / (2 if ".1688" in opcode else 1), 0
    if base in ("LDSM", "STSM"):
        return "memory", 0, 128 * (4 if ".4" in opcode else 2 if ".2" in opcode else 1)
    if base in ("LDS", "STS", "LDGSTS"):  # ptxas puts "@!PT LDS RZ" before copies: issued, but no access
        return "memory", 0, 0 if predicate == "@!PT" else 32 * width(opcode)
    if base == "SHFL":
        return "memory", 0, 128
    if base in ("MUFU", "F2F", "F2I", "I2F", "POPC", "FLO", "BREV"):
        return "mufu", rates["mufu"], 0
    if base in ("FFMA", "FADD", "FMUL", "IMAD", "HFMA2", "HADD2", "HMUL2", "FFMA2", "FADD2", "FMUL2"):
        return "fma", rates["fma"], 0
    if base.startswith(("LD", "ST", "BAR", "DEPBAR", "WARPSYNC", "BSSY", "BSYNC", "BRA", "EXIT", "NOP", "U", "R2UR", "S2UR", "S2R")):
        return "other", 0, 0
    return "alu", rates["alu"], 0


def report(name, arch, code, labels):
    """(a row of the table, what is wrong with the kernel)"""
    wrong = []
    spills = sum(opcode.startswith(("LDL", "STL")) for opcode, _, _ in code)
    if spills:
        wrong.append(f"{spills} accesses to local memory: registers are spilled")
    loop = main_loop(code, labels)
    if loop is None:
        return (name, arch, len(code), "-", "-", "-", "-", spills), wrong + ["no loop holds its tensor instructions"]
    cycles, shared, narrow, tensor = collections.Counter(), 0, set(), 0
    for opcode, _, predicate in loop:
        pipe, spent, moved = cost(opcode, predicate, RATES[arch])
        cycles[pipe] += spent
        shared += moved
        tensor += pipe == "tensor"
        if opcode.split(".")[0] in ("LDGSTS", "LDG", "STG", "LD", "ST") and width(opcode) != 16:
            narrow.add(opcode)
    cycles["issue"], cycles["shared"] = len(loop), 4 * shared / SHARED_BYTES
    binds, busiest = max(cycles.items(), key=lambda item: item[1])
    slots, bound = len(loop) / tensor, cycles["tensor"] / busiest
    if narrow:
        wrong.append(f"the loop has accesses of less than 16 bytes: {', '.join(sorted(narrow))}")
    limit = next((limit for limit in LIMITS if re.match(limit[0], name)), None)
    if limit is None:
        wrong.append("LIMITS has no line for it")
    elif arch == 80:
        if limit[1] is not None and slots > limit[1]:
            wrong.append(f"{slots:.2f} slots per HMMA, {limit[1]} at most")
        if limit[2] is not None and bound < limit[2]:
            wrong.append(f"the tensor pipe is at {bound:.0%} at best, {limit[2]:.0%} at least; {binds} binds")
    return (name, arch, len(code), tensor, f"{slots:.2f}", binds, f"{bound:.0%}", spills), wrong


def main():
    parser = argparse.ArgumentParser(description="machine code of the tensor-core kernels against their limits")
    parser.add_argument("fatbins", nargs="+")
    parser.add_argument("--nvdisasm")
    parser.add_argument("--arch", type=int, action="append", help="only this architecture (may be given again)")
    options = parser.parse_args()
    nvdisasm = find_nvdisasm(options.nvdisasm)
    if nvdisasm is None:
        print("nvdisasm not found: pip install nvidia-cuda-nvdisasm, or set NVDISASM")
        sys.exit(77)
    rows, wrong = [], []
    for path in options.fatbins:
        for arch, cubin in cubins(path):
            if options.arch and arch not in options.arch:
                continue
            for name, (code, labels) in disassemble(nvdisasm, cubin).items():
                if any(is_tensor(opcode) for opcode, _, _ in code):
                    row, faults = report(name, arch, code, labels)
                    rows.append(row)
                    wrong += [f"{name}, sm_{arch}: {fault}" for fault in faults]
    print(f"{'kernel':28} {'sm':>4} {'code':>6} {'HMMA':>5} {'slots':>6} {'binds':>7} {'tensor':>7} {'spills':>6}")
    for row in sorted(rows, key=lambda row: (row[1], row[0])):
        print("{:28} {:>4} {:>6} {:>5} {:>6} {:>7} {:>7} {:>6}".format(*row))
    if not any(row[1] == 80 for row in rows):
        wrong.append("no tensor-core kernel for sm_80, which the limits are for")
    for fault in wrong:
        print(f"FAIL {fault}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
