"""Makes the checkpoints of this folder and manifest.json (needs PyTorch): python make.py

ok_*: written by torch.save itself. bad_*: pickles that would run code, and archives that are not what they seem. None of them
does harm when it is loaded: what they would call is os.getpid.
"""
import collections, hashlib, io, json, pathlib, pickle, struct, zipfile

import torch

HERE = pathlib.Path(__file__).parent
cases = []


def sha(t):
    return hashlib.sha256(t.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()).hexdigest() if t.numel() else ""


def ok(name, value, tensors, **options):
    torch.save(value, HERE / name, **options)
    listed = {k: {"shape": list(t.shape), "sha256": sha(t)} for k, t in tensors.items()}
    cases.append({"file": name, "expect": "accept", "tensors": listed})


def bad(name, data, message):
    (HERE / name).write_bytes(data)
    cases.append({"file": name, "expect": "reject", "message": message})


def archive(pickled, storages={"0": b"\0" * 8}, method=zipfile.ZIP_STORED, extra=[]):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as z:
        z.writestr(zipfile.ZipInfo("a/data.pkl"), pickled, compress_type=method)
        for key, value in storages.items():
            z.writestr(zipfile.ZipInfo(f"a/data/{key}"), value, compress_type=method)
        for entry, value in extra:
            z.writestr(entry, value)
    return out.getvalue()


def text(s):
    return b"X" + struct.pack("<I", len(s)) + s.encode()


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def tensor(key="0", kind="FloatStorage", numel=2, first=0, shape=(2,), stride=(1,)):
    numbers = lambda t: b"(" + b"".join(b"J" + struct.pack("<i", n) for n in t) + b"t"
    storage = b"(" + text("storage") + name("torch", kind) + text(key) + text("cpu") + b"J" + struct.pack("<i", numel) + b"tQ"
    return (name("torch._utils", "_rebuild_tensor_v2") + b"(" + storage + b"J" + struct.pack("<i", first) + numbers(shape)
            + numbers(stride) + b"\x89" + name("collections", "OrderedDict") + b")Rt" + b"R")


def model(*items):
    return b"\x80\x02}(" + b"".join(items) + b"u."


GOOD = model(text("w") + tensor())

# What torch.save writes.
w = torch.arange(6, dtype=torch.float32).reshape(2, 3)
ok("ok_plain.ckpt", {"w": w}, {"w": w})
state = collections.OrderedDict(
    half=w.half(), bf16=w.bfloat16(), double=w.double(), long=torch.tensor([1, -2]), scalar=torch.tensor(2.5),
    parameter=torch.nn.Parameter(w + 1), part=w[1], empty=torch.zeros(0, 4), flag=torch.tensor([True, False]))
state["tied"] = state["half"]
state._metadata = collections.OrderedDict([("", {"version": 1})])
lightning = {"epoch": 3, "global_step": 2**40, "pytorch-lightning_version": "1.4.2", "state_dict": state, "lr": 1e-4,
             "callbacks": {}, "optimizer_states": [], "loops": None}
ok("ok_lightning.ckpt", lightning, state)
ok("ok_protocol_4.ckpt", {"state_dict": {"w": w, "x" * 300: w * 2}}, {"w": w, "x" * 300: w * 2}, pickle_protocol=4)
(HERE / "ok_by_hand.ckpt").write_bytes(archive(GOOD))
cases.append({"file": "ok_by_hand.ckpt", "expect": "accept",
              "tensors": {"w": {"shape": [2], "sha256": hashlib.sha256(b"\0" * 8).hexdigest()}}})


# Pickles that call something.
class Call:
    def __reduce__(self):
        import os
        return os.getpid, ()


for protocol in (2, 3, 4):
    bad(f"bad_reduce_{protocol}.ckpt", archive(pickle.dumps({"w": Call()}, protocol)), "names \"posix getpid\" (GLOBAL)")
bad("bad_reduce_5.ckpt", archive(pickle.dumps({"w": Call()}, 5)), "has protocol 5 (PROTO)")
bad("bad_reduce_0.ckpt", archive(pickle.dumps({"w": Call()}, 0)), "has the instruction")
bad("bad_inst.ckpt", archive(b"\x80\x02(ios\ngetpid\n."), "has the instruction INST")
bad("bad_obj.ckpt", archive(b"\x80\x02(" + name("collections", "OrderedDict") + b"o."), "has the instruction OBJ")
bad("bad_newobj.ckpt", archive(b"\x80\x02" + name("collections", "OrderedDict") + b")\x81."), "has the instruction NEWOBJ")
bad("bad_newobj_ex.ckpt", archive(b"\x80\x04" + name("collections", "OrderedDict") + b")}\x92."), "has the instruction NEWOBJ_EX")
bad("bad_ext.ckpt", archive(b"\x80\x02\x82\x01."), "has the instruction EXT")
bad("bad_persid.ckpt", archive(b"\x80\x02Pstorage\n."), "has the instruction PERSID")
bad("bad_dup.ckpt", archive(b"\x80\x02}" + b"2" * 50 + b"."), "has the instruction DUP")
bad("bad_stack_global.ckpt", archive(b"\x80\x04" + text("builtins") + text("eval") + b"\x93."), "names \"builtins eval\"")
bad("bad_eval.ckpt", archive(b"\x80\x02" + name("__builtin__", "eval") + b"(" + text("1") + b"tR."), "names \"__builtin__ eval\"")
bad("bad_getattr.ckpt", archive(b"\x80\x02" + name("builtins", "getattr") + b"."), "names \"builtins getattr\"")
bad("bad_dotted_name.ckpt", archive(b"\x80\x04" + text("torch._utils") + text("os.system") + b"\x93."), "names \"torch._utils os.system\"")
bad("bad_torch_load.ckpt", archive(b"\x80\x02" + name("torch", "load") + b"."), "names \"torch load\"")
bad("bad_call_storage.ckpt", archive(b"\x80\x02" + name("torch", "FloatStorage") + b")R."), "calls \"torch FloatStorage\"")
bad("bad_call_checkpoint.ckpt",
    archive(b"\x80\x02" + name("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint") + b")R."), "calls \"pytorch_lightning")
bad("bad_call_text.ckpt", archive(b"\x80\x02" + text("x") + b")R."), "calls something that is no name")
bad("bad_build_tensor.ckpt", archive(model(text("w") + tensor() + b"}b")), "gives attributes to something else")
bad("bad_persistent_id.ckpt", archive(b"\x80\x02" + text("/etc/passwd") + b"Q."), "persistent id that is no storage")
bad("bad_control_name.ckpt", archive(b"\x80\x02" + name("os\x1b[31m", "x") + b"."), "\\x1b[31m")

# Pickles that are damaged.
bad("bad_truncated.ckpt", archive(GOOD[:-8]), "it ends too early")
bad("bad_no_stop.ckpt", archive(GOOD[:-1]), "it ends too early")
bad("bad_trailing.ckpt", archive(GOOD + b"N."), "something follows its end")
bad("bad_empty_pickle.ckpt", archive(b""), "it ends too early")
bad("bad_empty_stack.ckpt", archive(b"\x80\x02R."), "its stack is empty")
bad("bad_below_mark.ckpt", archive(b"\x80\x02N(\x85."), "its stack is empty")
bad("bad_no_mark.ckpt", archive(b"\x80\x02}u."), "a mark is missing")
bad("bad_memo.ckpt", archive(b"\x80\x02h\x07."), "a memo is missing")
bad("bad_text_length.ckpt", archive(b"\x80\x04\x8d" + b"\xff" * 8 + b"."), "it ends too early")
bad("bad_odd_items.ckpt", archive(b"\x80\x02}(Nu."), "items for something else")
bad("bad_twice.ckpt", archive(model(text("w") + tensor(), text("w") + tensor())), "or that of another")
bad("bad_number_name.ckpt", archive(model(b"K\x01" + tensor())), "has no name")
bad("bad_list.ckpt", archive(b"\x80\x02]."), "is no dictionary")
bad("bad_long.ckpt", archive(b"\x80\x02\x8a\x09" + b"\1" * 9 + b"."), "a number is too long")

# Tensors that lie elsewhere than they say.
bad("bad_shape.ckpt", archive(model(text("w") + tensor(shape=(3,)))), "larger than its storage")
bad("bad_first.ckpt", archive(model(text("w") + tensor(first=1))), "larger than its storage")
bad("bad_negative_first.ckpt", archive(model(text("w") + tensor(first=-1))), "not described as PyTorch does it")
bad("bad_negative_shape.ckpt", archive(model(text("w") + tensor(shape=(-1,)))), "something else than numbers")
bad("bad_overflow.ckpt", archive(model(text("w") + tensor(shape=(1 << 30,) * 5, stride=(1,) * 5))), "larger than any file")
bad("bad_stride.ckpt", archive(model(text("w") + tensor(shape=(1, 2), stride=(0, 0)))), "not stored row by row")
bad("bad_storage_size.ckpt", archive(model(text("w") + tensor(numel=3))), "not as long as it says")
bad("bad_storage_missing.ckpt", archive(model(text("w") + tensor(key="1"))), "is missing")
bad("bad_storage_path.ckpt", archive(model(text("w") + tensor(key="../data.pkl"))), "is missing")
bad("bad_storage_type.ckpt", archive(model(text("w") + tensor(kind="QInt8Storage"))), "names \"torch QInt8Storage\"")

# Archives that are not what they seem.
link = zipfile.ZipInfo("a/data/1")
link.create_system, link.external_attr = 3, 0o120777 << 16
bad("bad_link.ckpt", archive(GOOD, extra=[(link, b"/etc/passwd")]), "is a link")
bad("bad_deflated.ckpt", archive(GOOD, method=zipfile.ZIP_DEFLATED), "is compressed")
bad("bad_bomb.ckpt", archive(GOOD, {"0": b"\0" * (1 << 20)}, zipfile.ZIP_DEFLATED), "is compressed")
bad("bad_dot_dot.ckpt", archive(GOOD, extra=[("a/../../x", b"")]), "lies outside of the archive")
bad("bad_absolute.ckpt", archive(GOOD, extra=[("/etc/x", b"")]), "lies outside of the archive")
bad("bad_two_pickles.ckpt", archive(GOOD, extra=[("b/data.pkl", GOOD)]), "has not one data.pkl")
bad("bad_no_pickle.ckpt", archive(GOOD).replace(b"data.pkl", b"data.txt"), "has not one data.pkl")
bad("bad_entry_twice.ckpt", archive(GOOD, extra=[("a/data/0", b"\0" * 8)]), "is there twice")
bad("bad_big_endian.ckpt", archive(GOOD, extra=[("a/byteorder", b"big")]), "big-endian")
good = archive(GOOD)
bad("bad_trailing_bytes.ckpt", good + b"x", "its end record is not at the end")
bad("bad_comment.ckpt", good[:-2] + b"\x01\0x", "its end record is not at the end")
bad("bad_cut.ckpt", good[:-30], "its end record is not at the end")
bad("bad_prefix.ckpt", b"PK\x03\x04" + b"\0" * 60 + good, "does not end where")
directory = good.index(b"PK\x01\x02")
bad("bad_other_name.ckpt", good[:directory].replace(b"a/data/0", b"a/data/9") + good[directory:], "another name than the directory")
encrypted = bytearray(good)
encrypted[directory + 8] |= 1
bad("bad_encrypted.ckpt", bytes(encrypted), "is encrypted")
huge = bytearray(good)
second = good.index(b"PK\x01\x02", directory + 4)
huge[second + 20:second + 28] = struct.pack("<II", 0x7fffffff, 0x7fffffff)
bad("bad_huge_entry.ckpt", bytes(huge), "lies outside of the file")
overlap = bytearray(good)
overlap[directory + 20:directory + 28] = struct.pack("<II", len(GOOD) + 20, len(GOOD) + 20)
bad("bad_overlap.ckpt", bytes(overlap), "share bytes")

(HERE / "manifest.json").write_text(json.dumps({"torch": torch.__version__.split("+")[0], "cases": cases}, indent=1) + "\n")
