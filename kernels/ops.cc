// Planning, running, and the checks before every verb.
#include "kernels/ops.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace cudream {
namespace {

constexpr size_t kMaxRecordings = 16;  // the latest used are kept

// Sets a pointer for the life of a scope, whichever way the scope ends.
template <typename T>
class Assign {
 public:
  Assign(T*& place, T* value) : place_(place), before_(std::exchange(place, value)) {}
  ~Assign() { place_ = before_; }
  Assign(const Assign&) = delete;
  Assign& operator=(const Assign&) = delete;

 private:
  T*& place_;
  T* before_;
};

void need(bool holds, const char* verb, const View& x, const Shape& expected) {
  invariant(holds, "{}: got {}, which does not fit {}", verb, x.shape.str(), expected.str());
}

// Of a product that makes `rows` rows (pixels) with w.
double product_flops(int64_t rows, const Weight* w) {
  return 2 * static_cast<double>(rows) * static_cast<double>(w->shape.size());
}

// What a verb that makes `out` reads of a weight.
double bytes_read(const Weight& w, const View& out, DType compute) {
  const int64_t values = w.use == Use::table ? out.shape.size() : w.shape.size();
  return static_cast<double>(values * size_of(w.use == Use::vector ? DType::f32 : compute));
}

void check_epilogue(const Epilogue& e, const View& out) {
  for (const View* v : {&e.add, &e.gate})
    if (*v)
      need(v->shape.rank == 2 && v->shape.back() == out.shape.back() && (v->shape[0] == 1 || v->shape[0] == out.shape[0]),
           "epilogue", *v, out.shape);
  if (e.residual)
    need(e.residual.shape == out.shape && e.residual.dtype == out.dtype && e.residual.dense(), "residual", e.residual, out.shape);
}

}  // namespace

Ops::~Ops() {
  release();
}

void Ops::release() {
  give_back(session_slab_);
  give_back(stage_slab_);
}

void Ops::give_back(Slab& slab) {
  if (slab.at != nullptr) device_.release(std::exchange(slab.at, nullptr), std::exchange(slab.bytes, 0));
}

int64_t Ops::rehearsed_stage_bytes() const {
  int64_t most = 0;
  for (const auto& [key, stage] : rehearsal_->stages) most = std::max(most, stage.layout.bytes);
  return most;
}

Ops::Plan Ops::rehearse(const std::function<void()>& job) {
  Plan plan;
  session_.rehearse();
  const Assign<Plan> rehearsing(rehearsal_, &plan);
  const Assign<Counts> counting(counts_, &plan.counts);
  job();
  plan.session = session_.plan();
  plan.stage_bytes = rehearsed_stage_bytes();
  return plan;
}

void Ops::fit(Slab& slab, int64_t bytes) {
  if (slab.bytes >= bytes) return;
  give_back(slab);
  slab.at = device_.allocate(bytes);
  slab.bytes = bytes;
}

int64_t Ops::missing_bytes(const Plan& plan) const {
  const auto more = [](int64_t bytes, const Slab& slab) { return std::max<int64_t>(0, bytes - slab.bytes); };
  return more(plan.session.bytes, session_slab_) + more(plan.stage_bytes, stage_slab_);
}

void Ops::run(const Plan& plan, const std::function<void()>& job) {
  fit(session_slab_, plan.session.bytes);
  fit(stage_slab_, plan.stage_bytes);
  session_.follow(&plan.session, session_slab_.at);
  const Assign<const Plan> following(following_, &plan);
  job();
}

void Ops::rehearse_stage(const std::string& key, std::span<const View> inputs, View out, const std::function<Tensor()>& body) {
  Stage& stage = rehearsal_->stages[key];
  if (stage.runs++ > 0) return;
  stage_.rehearse();
  places_.assign(inputs.begin(), inputs.end());
  places_.push_back(out);
  const Assign<Arena> inside(arena_, &stage_);
  const Assign<Counts> counting(counts_, &stage.counts);
  const Assign<bool> moving(moves_bytes_, &stage.moves_bytes);
  copy(out, body().view());
  stage.layout = stage_.plan();
}

Ops::Recorded& Ops::recorded(const std::string& key, std::span<const View> inputs, View out) {
  std::vector<const void*> places{stage_slab_.at, out.data};
  for (const View& v : inputs) places.push_back(v.data);
  const auto found = std::ranges::find_if(recordings_, [&](const Recorded& r) { return r.key == key && r.places == places; });
  if (found != recordings_.end()) {
    std::rotate(found, found + 1, recordings_.end());
  } else {
    if (recordings_.size() == kMaxRecordings) recordings_.erase(recordings_.begin());
    recordings_.push_back({.key = key, .places = std::move(places), .runs = 0, .replay = nullptr});
  }
  return recordings_.back();
}

void Ops::stage(const std::string& name, std::span<const View> inputs, View out, const std::function<Tensor()>& body) {
  const std::string key = name + (wrap_.x ? " wrapped x" : "") + (wrap_.y ? " wrapped y" : "");
  invariant(arena_ == &session_, "stage {} inside another stage", key);
  if (rehearsal_ != nullptr) return rehearse_stage(key, inputs, out, body);
  invariant(following_ != nullptr, "stage {} outside a run", key);
  const auto found = following_->stages.find(key);
  invariant(found != following_->stages.end(), "stage {} was not rehearsed", key);
  const auto run = [&] {
    stage_.follow(&found->second.layout, stage_slab_.at);
    const Assign<Arena> inside(arena_, &stage_);
    copy(out, body().view());
  };
  if (found->second.moves_bytes || tap_ || watch_) return run();
  // The first run is eager: what a device or a library sets up on first use does not belong into a recording.
  Recorded& r = recorded(key, inputs, out);
  if (r.replay != nullptr) {
    replays_++;
    r.replay->run();
  } else if (r.runs++ == 0) {
    run();
  } else {
    r.replay = device_.record(run);
  }
}

// In the rehearsal of a stage: what it reads is its own or an input, or a replay would read what lay there the first time.
void Ops::reads(std::span<const View* const> views) const {
  if (rehearsal_ == nullptr || arena_ != &stage_) return;
  const auto within = [](const View& v, const View& input) {
    const auto *at = v.as<std::byte>(), *from = input.as<std::byte>();
    return at >= from && at < from + input.bytes();
  };
  for (const View* v : views)
    invariant(
        !*v || stage_.rehearsed(v->data) || std::ranges::any_of(places_, [&](const View& input) { return within(*v, input); }),
        "a stage reads {} {}, which is none of its inputs", name_of(v->dtype), v->shape.str());
}

// Counts one call of a verb, and has the device carry it out unless this is a rehearsal. `views`: the output, then the inputs.
void Ops::call(const char* verb, double flops, const std::vector<const View*>& views,
               std::initializer_list<const Weight*> weights, const std::function<void()>& carry_out) {
  reads(views);
  Count one{.calls = 1, .flops = flops, .bytes = 0};
  for (const View* v : views)
    if (*v) one.bytes += static_cast<double>(v->bytes());
  for (const Weight* w : weights)
    if (w != nullptr) one.bytes += bytes_read(*w, *views.front(), compute());
  if (counts_ != nullptr) {
    Count& all = (*counts_)[verb];
    all.calls += one.calls;
    all.flops += one.flops;
    all.bytes += one.bytes;
  }
  if (rehearsing()) return;
  if (watch_)
    watch_({.verb = verb, .views = views, .weights = weights, .cost = one}, carry_out);
  else
    carry_out();
}

Tensor Ops::make(DType type, const Shape& shape) {
  return Tensor(*arena_, type, shape);
}

Tensor Ops::upload(DType type, const Shape& shape, std::span<const std::byte> bytes) {
  Tensor t = make(type, shape);
  invariant(static_cast<int64_t>(bytes.size()) == t.view().bytes(), "upload of {} bytes as {}", bytes.size(), shape.str());
  if (moves_bytes_ != nullptr) *moves_bytes_ = true;
  if (!rehearsing()) device_.upload(t, bytes);
  return t;
}

std::vector<float> Ops::download(View x) {
  invariant(x.dtype == DType::f32, "download of {}", name_of(x.dtype));
  std::vector<float> values(static_cast<size_t>(x.shape.size()));
  if (moves_bytes_ != nullptr) *moves_bytes_ = true;
  if (!rehearsing()) device_.download(std::as_writable_bytes(std::span(values)), x);
  return values;
}

void Ops::write(View to, std::span<const float> values) {
  invariant(to.dtype == DType::f32 && to.dense() && to.shape.size() == static_cast<int64_t>(values.size()) && arena_ == &session_,
            "{} values written to {} {}", values.size(), name_of(to.dtype), to.shape.str());
  if (!rehearsing()) device_.upload(to, std::as_bytes(values));
}

Tensor Ops::linear(const Joined& j, const Linear& l, const Epilogue& e) {
  const View& x = j.x;
  need(j.channels() == l.w->shape[1] && x.dense() && x.dtype == compute(), "linear", x, l.w->shape);
  Tensor out = make(x.dtype, x.shape.with(x.shape.rank - 1, l.w->shape[0]));
  check_epilogue(e, out);
  call("linear", product_flops(x.shape.rows(), l.w), {&out.view(), &x, &j.x2, &e.add, &e.gate, &e.residual}, {l.w, l.b},
       [&] { j.x2 ? device_.joined_linear(out, x, j.x2, l, e) : device_.linear(out, x, l, e); });
  return out;
}

Tensor Ops::geglu(View x, const Linear& l) {
  need(x.shape.back() == l.w->shape[1] && x.dense() && x.dtype == compute(), "geglu", x, l.w->shape);
  const int last = x.shape.rank - 1;
  const int64_t half = l.w->shape[0] / 2;
  if (device_.has(Fused::geglu)) {
    Tensor out = make(x.dtype, x.shape.with(last, half));
    call("geglu", product_flops(x.shape.rows(), l.w), {&out.view(), &x}, {l.w, l.b}, [&] { device_.geglu(out, x, l); });
    return out;
  }
  Tensor both = linear(x, l);
  Tensor gate = act(both.slice(last, half, 2 * half), Act::gelu);
  return multiply(both.slice(last, 0, half), gate);
}

Tensor Ops::conv2d(View x, const Conv& c, const ConvArgs& args) {
  const int64_t kernel = c.w->shape[2];
  if (kernel > 1 && (wrap_.x || wrap_.y)) return wrapped_conv2d(x, c, args);
  need(x.shape.rank == 4 && x.shape[3] == c.w->shape[1] && x.dense() && x.dtype == compute(), "conv2d", x, c.w->shape);
  const int64_t h = args.up_height > 0 ? args.up_height : x.shape[1], w = args.up_width > 0 ? args.up_width : x.shape[2];
  const auto size = [&](int64_t n) { return (n + args.pad_left_top + args.pad_right_bottom - kernel) / args.stride + 1; };
  Tensor out = make(x.dtype, {x.shape[0], size(h), size(w), c.w->shape[0]});
  const Epilogue& e = args.e;
  check_epilogue(e, out);
  call("conv2d", product_flops(out.shape().rows(), c.w), {&out.view(), &x, &e.add, &e.gate, &e.residual}, {c.w, c.b},
       [&] { device_.conv2d(out, x, c, args); });
  return out;
}

// [N,H,W,C] -> [N,H+2*rows,W+2*columns,C]: each edge followed by what lies at the opposite one.
Tensor Ops::wrapped(View x, int64_t rows, int64_t columns) {
  const int64_t h = x.shape[1], w = x.shape[2];
  Tensor out = make(x.dtype, x.shape.with(1, h + 2 * rows).with(2, w + 2 * columns));
  const View middle = out.slice(1, rows, rows + h);
  copy(middle.slice(2, columns, columns + w), x);
  const auto around = [](int64_t i, int64_t size) { return (i % size + size) % size; };
  for (int64_t i = 0; i < columns; i++)
    for (const int64_t to : {i, columns + w + i}) {
      const int64_t from = around(to - columns, w);
      copy(middle.slice(2, to, to + 1), x.slice(2, from, from + 1));
    }
  for (int64_t i = 0; i < rows; i++)
    for (const int64_t to : {i, rows + h + i}) {
      const int64_t from = rows + around(to - rows, h);
      copy(out.slice(1, to, to + 1), out.slice(1, from, from + 1));
    }
  return out;
}

// Two rows and columns of the other side are put around the picture, and what becomes of them is cut off again; so the
// device's own convolution serves. Two, because a step of two must not move the picture's places.
Tensor Ops::wrapped_conv2d(View x, const Conv& c, const ConvArgs& args) {
  const int64_t rows = wrap_.y ? 2 : 0, columns = wrap_.x ? 2 : 0, up = args.up_height > 0 ? 2 : 1;
  const auto even = [&](int64_t side, int64_t to) { return up == 1 ? side % args.stride == 0 : to == 2 * side; };
  need((!wrap_.y || even(x.shape[1], args.up_height)) && (!wrap_.x || even(x.shape[2], args.up_width)), "wrapped conv2d", x,
       {args.stride, args.up_height, args.up_width});
  ConvArgs wide = args;
  if (up == 2) {
    wide.up_height += 4 * rows;
    wide.up_width += 4 * columns;
  }
  const int64_t cut_rows = rows * up / args.stride, cut_columns = columns * up / args.stride;
  Tensor residual;
  if (args.e.residual) residual = wrapped(args.e.residual, cut_rows, cut_columns);
  wide.e.residual = residual.view();
  const Tensor around = wrapped(x, rows, columns);
  const Wrap wrap = std::exchange(wrap_, {});
  const Tensor out = conv2d(around, c, wide);
  wrap_ = wrap;
  const Shape& all = out.shape();
  return cast(out.slice(1, cut_rows, all[1] - cut_rows).slice(2, cut_columns, all[2] - cut_columns), x.dtype);
}

Tensor Ops::attention(View q, View k, View v, const AttentionArgs& args) {
  need(q.shape.rank == 3 && k.shape == v.shape && k.shape[0] == q.shape[0] && k.shape[2] == q.shape[2], "attention", k, q.shape);
  need(q.shape[2] % args.heads == 0 && (!args.causal || q.shape[1] <= k.shape[1]), "attention", q, k.shape);
  Tensor out = make(q.dtype, q.shape);
  const double scores = static_cast<double>(q.shape[0] * q.shape[1]) * static_cast<double>(k.shape[1] * q.shape[2]);
  call("attention", 4 * scores, {&out.view(), &q, &k, &v, &args.key_lengths}, {}, [&] { device_.attention(out, q, k, v, args); });
  return out;
}

Tensor Ops::group_norm(const Joined& j, const Norm& n, const NormArgs& args) {
  const View& x = j.x;
  const int64_t channels = j.channels();
  need(channels == n.g->shape[0] && channels % args.groups == 0 && x.dense(), "group_norm", x, n.g->shape);
  Tensor out = make(x.dtype, x.shape.with(x.shape.rank - 1, channels));
  call("group_norm", 0, {&out.view(), &x, &j.x2}, {n.g, n.b},
       [&] { j.x2 ? device_.joined_group_norm(out, x, j.x2, n, args) : device_.group_norm(out, x, n, args); });
  return out;
}

Tensor Ops::layer_norm(View x, const Norm& n) {
  need(x.shape.back() == n.g->shape[0] && x.dense(), "layer_norm", x, n.g->shape);
  Tensor out = make(x.dtype, x.shape);
  call("layer_norm", 0, {&out.view(), &x}, {n.g, n.b}, [&] { device_.layer_norm(out, x, n); });
  return out;
}

Tensor Ops::act(View x, Act a) {
  Tensor out = make(x.dtype, x.shape);
  call("act", 0, {&out.view(), &x}, {}, [&] { device_.act(out, x, a); });
  return out;
}

Tensor Ops::multiply(View a, View b) {
  need(a.shape == b.shape && a.dtype == b.dtype, "multiply", a, b.shape);
  Tensor out = make(a.dtype, a.shape);
  call("multiply", 0, {&out.view(), &a, &b}, {}, [&] { device_.multiply(out, a, b); });
  return out;
}

Tensor Ops::combine(std::span<const Term> terms) {
  invariant(!terms.empty() && terms.size() <= 8, "combine of {} terms", terms.size());
  const Shape& shape = terms.front().x.shape;
  Tensor out = make(DType::f32, shape);
  std::vector<const View*> views{&out.view()};
  for (const Term& t : terms) {
    need(t.x.shape == shape && t.x.dtype == DType::f32 && t.x.dense(), "combine", t.x, shape);
    views.push_back(&t.x);
  }
  call("combine", 0, views, {}, [&] { device_.combine(out, terms); });
  return out;
}

Tensor Ops::lerp(View a, View b, View weight) {
  need(a.shape == b.shape && a.shape == weight.shape && a.dtype == DType::f32, "lerp", b, a.shape);
  Tensor out = make(DType::f32, a.shape);
  call("lerp", 0, {&out.view(), &a, &b, &weight}, {}, [&] { device_.lerp(out, a, b, weight); });
  return out;
}

Tensor Ops::cast(View x, DType type) {
  Tensor out = make(type, x.shape);
  copy(out, x);
  return out;
}

Tensor Ops::concat(View a, View b) {
  const int last = a.shape.rank - 1;
  need(a.shape.with(last, b.shape[last]) == b.shape && a.dtype == b.dtype, "concat", b, a.shape);
  Tensor out = make(a.dtype, a.shape.with(last, a.shape[last] + b.shape[last]));
  copy(out.slice(last, 0, a.shape[last]), a);
  copy(out.slice(last, a.shape[last], out.shape()[last]), b);
  return out;
}

Joined Ops::join(Tensor a, Tensor b) {
  if (!device_.has(Fused::join)) return {concat(a, b), Tensor()};
  need(a.shape().rank == 4 && a.shape().with(3, b.shape()[3]) == b.shape() && a.view().dtype == b.view().dtype, "join", b,
       a.shape());
  return {std::move(a), std::move(b)};
}

void Ops::copy(View out, View x) {
  need(out.shape == x.shape, "copy", x, out.shape);
  call("copy", 0, {&out, &x}, {}, [&] { device_.copy(out, x); });
}

Tensor Ops::gather(const Weight& table, View ids) {
  need(ids.shape.rank == 2 && ids.dtype == DType::i32, "gather", ids, table.shape);
  Tensor out = make(DType::f32, {ids.shape[0], ids.shape[1], table.shape[1]});
  call("gather", 0, {&out.view(), &ids}, {&table}, [&] { device_.gather(out, table, ids); });
  return out;
}

Tensor Ops::sinusoid(View t, int64_t channels, float max_period, bool flip, float shift) {
  need(t.shape.rank == 1 && t.dtype == DType::f32, "sinusoid", t, {t.shape.size(), channels});
  Tensor out = make(DType::f32, {t.shape[0], channels});
  call("sinusoid", 0, {&out.view(), &t}, {}, [&] { device_.sinusoid(out, t, max_period, flip, shift); });
  return out;
}

}  // namespace cudream
