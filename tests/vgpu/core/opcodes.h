// The opcode table: every instruction the interpreter knows (PTX ISA 9.0, chapter 9.7), its class and its decoder.
#pragma once

#include <string_view>

#include "tests/vgpu/core/decoding.h"

namespace cudream::vgpu {

struct Opcode {
  std::string_view name;
  Class cls;
  void (*decode)(Decoding&);
};

// Null for a name the table lacks.
const Opcode* find_opcode(std::string_view name);

// ops_integer.cc
void decode_add(Decoding&);  // add, sub: integers here, floats handed on
void decode_sub(Decoding&);
void decode_mul(Decoding&);
void decode_mad(Decoding&);
void decode_mul24(Decoding&);
void decode_mad24(Decoding&);
void decode_div(Decoding&);
void decode_rem(Decoding&);
void decode_min(Decoding&);
void decode_max(Decoding&);
void decode_neg(Decoding&);
void decode_abs(Decoding&);
void decode_sad(Decoding&);
void decode_dp4a(Decoding&);
// ops_carry.cc; the forms with .cc come from add, sub and mad
void decode_add_cc(Decoding&);
void decode_sub_cc(Decoding&);
void decode_mad_cc(Decoding&);
void decode_addc(Decoding&);
void decode_subc(Decoding&);
void decode_madc(Decoding&);
// ops_bits.cc
void decode_and(Decoding&);
void decode_or(Decoding&);
void decode_xor(Decoding&);
void decode_not(Decoding&);
void decode_cnot(Decoding&);
void decode_shl(Decoding&);
void decode_shr(Decoding&);
void decode_shf(Decoding&);
void decode_prmt(Decoding&);
void decode_lop3(Decoding&);
void decode_popc(Decoding&);
void decode_clz(Decoding&);
void decode_brev(Decoding&);
void decode_bfind(Decoding&);
void decode_bfe(Decoding&);
void decode_bfi(Decoding&);
// ops_float.cc
void decode_fma(Decoding&);
void decode_copysign(Decoding&);
void decode_testp(Decoding&);
// ops_special.cc
void decode_rcp(Decoding&);
void decode_sqrt(Decoding&);
void decode_rsqrt(Decoding&);
void decode_sin(Decoding&);
void decode_cos(Decoding&);
void decode_ex2(Decoding&);
void decode_lg2(Decoding&);
void decode_tanh(Decoding&);
// ops_compare.cc
void decode_setp(Decoding&);
void decode_set(Decoding&);
void decode_selp(Decoding&);
void decode_slct(Decoding&);
// ops_convert.cc
void decode_cvt(Decoding&);
// ops_move.cc
void decode_mov(Decoding&);
void decode_cvta(Decoding&);
void decode_isspacep(Decoding&);
// ops_memory.cc
void decode_ld(Decoding&);
void decode_st(Decoding&);
void decode_hint(Decoding&);  // prefetch: nothing to do
void decode_fence(Decoding&);
// ops_atomic.cc
void decode_atom(Decoding&);
void decode_red(Decoding&);
// ops_control.cc
void decode_bra(Decoding&);
void decode_ret(Decoding&);
void decode_trap(Decoding&);
void decode_bar(Decoding&);
void decode_nanosleep(Decoding&);
// ops_warp.cc
void decode_shfl(Decoding&);
void decode_vote(Decoding&);
void decode_match(Decoding&);
void decode_redux(Decoding&);
void decode_activemask(Decoding&);
// ops_tensor.cc, ops_async.cc
void decode_ldmatrix(Decoding&);
void decode_mma(Decoding&);
void decode_cp(Decoding&);

}  // namespace cudream::vgpu
