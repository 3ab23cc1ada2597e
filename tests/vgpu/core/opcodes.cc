// The opcode table.
#include "tests/vgpu/core/opcodes.h"

#include <algorithm>
#include <array>

namespace cudream::vgpu {
namespace {

constexpr Opcode kOpcodes[] = {
    {"abs", Class::integer, decode_abs},
    {"activemask", Class::sync, decode_activemask},
    {"add", Class::integer, decode_add},
    {"addc", Class::integer, decode_addc},
    {"and", Class::integer, decode_and},
    {"atom", Class::memory, decode_atom},
    {"bar", Class::sync, decode_bar},
    {"barrier", Class::sync, decode_bar},
    {"bfe", Class::integer, decode_bfe},
    {"bfi", Class::integer, decode_bfi},
    {"bfind", Class::integer, decode_bfind},
    {"bra", Class::control, decode_bra},
    {"brev", Class::integer, decode_brev},
    {"clz", Class::integer, decode_clz},
    {"cnot", Class::integer, decode_cnot},
    {"copysign", Class::floating, decode_copysign},
    {"cos", Class::floating, decode_cos},
    {"cp", Class::memory, decode_cp},
    {"cvt", Class::conversion, decode_cvt},
    {"cvta", Class::integer, decode_cvta},
    {"div", Class::integer, decode_div},
    {"dp4a", Class::integer, decode_dp4a},
    {"ex2", Class::floating, decode_ex2},
    {"exit", Class::control, decode_ret},
    {"fence", Class::sync, decode_fence},
    {"fma", Class::floating, decode_fma},
    {"isspacep", Class::compare, decode_isspacep},
    {"ld", Class::memory, decode_ld},
    {"ldmatrix", Class::memory, decode_ldmatrix},
    {"ldu", Class::memory, decode_ld},
    {"lg2", Class::floating, decode_lg2},
    {"lop3", Class::integer, decode_lop3},
    {"mad", Class::integer, decode_mad},
    {"mad24", Class::integer, decode_mad24},
    {"madc", Class::integer, decode_madc},
    {"match", Class::sync, decode_match},
    {"max", Class::integer, decode_max},
    {"membar", Class::sync, decode_fence},
    {"min", Class::integer, decode_min},
    {"mma", Class::tensor, decode_mma},
    {"mov", Class::move, decode_mov},
    {"mul", Class::integer, decode_mul},
    {"mul24", Class::integer, decode_mul24},
    {"nanosleep", Class::sync, decode_nanosleep},
    {"neg", Class::integer, decode_neg},
    {"not", Class::integer, decode_not},
    {"or", Class::integer, decode_or},
    {"popc", Class::integer, decode_popc},
    {"prefetch", Class::memory, decode_hint},
    {"prefetchu", Class::memory, decode_hint},
    {"prmt", Class::integer, decode_prmt},
    {"rcp", Class::floating, decode_rcp},
    {"red", Class::memory, decode_red},
    {"redux", Class::sync, decode_redux},
    {"rem", Class::integer, decode_rem},
    {"ret", Class::control, decode_ret},
    {"rsqrt", Class::floating, decode_rsqrt},
    {"sad", Class::integer, decode_sad},
    {"selp", Class::compare, decode_selp},
    {"set", Class::compare, decode_set},
    {"setp", Class::compare, decode_setp},
    {"shf", Class::integer, decode_shf},
    {"shfl", Class::sync, decode_shfl},
    {"shl", Class::integer, decode_shl},
    {"shr", Class::integer, decode_shr},
    {"sin", Class::floating, decode_sin},
    {"slct", Class::compare, decode_slct},
    {"sqrt", Class::floating, decode_sqrt},
    {"st", Class::memory, decode_st},
    {"sub", Class::integer, decode_sub},
    {"subc", Class::integer, decode_subc},
    {"tanh", Class::floating, decode_tanh},
    {"testp", Class::compare, decode_testp},
    {"trap", Class::control, decode_trap},
    {"vote", Class::sync, decode_vote},
    {"xor", Class::integer, decode_xor},
};
static_assert(std::is_sorted(std::begin(kOpcodes), std::end(kOpcodes),
                             [](const Opcode& a, const Opcode& b) { return a.name < b.name; }));

}  // namespace

const Opcode* find_opcode(std::string_view name) {
  const auto* found = std::lower_bound(std::begin(kOpcodes), std::end(kOpcodes), name,
                                       [](const Opcode& o, std::string_view n) { return o.name < n; });
  return found != std::end(kOpcodes) && found->name == name ? found : nullptr;
}

}  // namespace cudream::vgpu
