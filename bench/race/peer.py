"""One peer in one process. Reads "PART SIZE" lines on standard input; answers each with the seconds of one call.

    peer.py SYSTEM FOLDER THREADS        SYSTEM: openvino or torch, both in bf16
"""
import json
import resource
import sys
import time


def cpu_seconds():
    use = resource.getrusage(resource.RUSAGE_SELF)
    return use.ru_utime + use.ru_stime


class OpenVino:
    def __init__(self, folder, threads):
        import openvino
        self.core, self.folder, self.threads, self.held = openvino.Core(), folder, threads, {}

    def call(self, part, tensors):
        key = part, tensors[0].shape[-1]
        if key not in self.held:
            self.held.clear()  # it holds a copy of the weights for every shape
            model = self.core.read_model(f"{self.folder}/{part}.xml")
            model.reshape({i: list(t.shape) for i, t in zip(model.inputs, tensors)})
            self.held[key] = self.core.compile_model(model, "CPU", {
                "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": self.threads,
            }).create_infer_request()
        arrays = [t.numpy() for t in tensors]
        return lambda: self.held[key].infer(arrays, share_inputs=True, share_outputs=True)


class Torch:
    def __init__(self, folder, threads):
        import torch
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.torch, self.folder, self.held = torch, folder, {}

    def call(self, part, tensors):
        if part not in self.held:
            module = self.torch.load(f"{self.folder}/{part}.pt", weights_only=False).eval()
            self.held[part] = module.to(memory_format=self.torch.channels_last)
        tensors = [t.to(self.torch.bfloat16) for t in tensors]
        tensors[0] = tensors[0].contiguous(memory_format=self.torch.channels_last)
        return lambda: self.held[part](*tensors)


def main():
    system, folder, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    from models import inputs
    peer = {"openvino": OpenVino, "torch": Torch}[system](folder, threads)
    for line in sys.stdin:
        part, size = line.split()
        call = peer.call(part, list(inputs(part, int(size))))
        begun, cpu = time.perf_counter(), cpu_seconds()
        call()
        print(json.dumps({"s": time.perf_counter() - begun, "cpu_s": cpu_seconds() - cpu,
                          "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000}), flush=True)


if __name__ == "__main__":
    main()
