#!/usr/bin/env python3
"""Packs header facts of real models (one JSON a model: names, types, shapes, configurations, expected verdict) into one
NAME.json.gz each: make_headers.py FACTS_DIR headers. What tests do not need (sources, notes) is left out."""
import glob
import gzip
import json
import os
import sys

KEEP = ("order", "header_bytes", "file_bytes", "metadata", "expect", "configs")


def tensors(table):
    return {name: [t["dtype"], t["shape"]] for name, t in table.items()}


def main():
    for path in sorted(glob.glob(os.path.join(sys.argv[1], "*.json"))):
        fact = json.load(open(path))
        if "expect" not in fact:
            continue
        model = {key: fact[key] for key in KEEP if key in fact}
        model["expect"].pop("note", None)
        if "tensors" in fact:
            model["tensors"] = tensors(fact["tensors"])
        else:
            model["files"] = {name: tensors(part["tensors"]) for name, part in fact["files"].items()}
        text = json.dumps(model, separators=(",", ":"), ensure_ascii=False)
        packed = os.path.join(sys.argv[2], fact["name"] + ".json.gz")
        with open(packed, "wb") as f, gzip.GzipFile(fileobj=f, mode="wb", compresslevel=9, mtime=0, filename="") as z:
            z.write(text.encode())


main()
