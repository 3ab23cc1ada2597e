// The quantiles of the beta distribution.
#pragma once

namespace cudream {

// The x in [0, 1] with I_x(a, b) = p, for p in [0, 1] and positive a and b; to double precision.
double beta_quantile(double p, double a, double b);

}  // namespace cudream
