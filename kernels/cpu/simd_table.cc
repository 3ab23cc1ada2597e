// The table of one instruction set.
#include "kernels/cpu/simd_loops.h"

namespace cudream::CUDREAM_ISA {

const Kernels kKernels = {
    .convert = convert,
    .act = act,
    .multiply = multiply,
    .lerp = lerp,
    .combine = combine,
    .geglu = geglu,
    .finish = finish,
    .layer_norm = layer_norm,
    .channel_sums = channel_sums,
    .normalize = normalize,
    .attention_f32 = &kAttentionF32,
#if defined(__AVX512BF16__)
    .attention_bf16 = &kAttentionBf16,
#else
    .attention_bf16 = nullptr,
#endif
#if defined(__AMX_BF16__)
    .tiles = &kTiles,
#else
    .tiles = nullptr,
#endif
};

}  // namespace cudream::CUDREAM_ISA
