// One pass of a job, from words (and a picture) to pixels: the straight line that the engine first rehearses and then runs.
// A job is one pass or several: see tasks.h.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/log.h"
#include "core/spec.h"
#include "kernels/ops.h"
#include "nets/clip.h"
#include "nets/unet.h"
#include "nets/vae.h"
#include "runtime/conditioning.h"
#include "runtime/draws.h"
#include "runtime/job.h"
#include "runtime/picture/image.h"
#include "runtime/predictor.h"
#include "runtime/samplers.h"
#include "runtime/tokenizer.h"
#include "runtime/trace.h"

namespace cudream {

// What a caller wants to hear, and may do, during a run. All but on_notice may be empty.
struct RunHooks {
  std::function<void(const std::string& stage, int steps)> on_stage;  // steps 0: the stage counts none
  std::function<void(int done)> on_step;
  // Every so many steps, 0 for never: what the first picture of the pass is going to be, small.
  int preview_every = 0;
  std::function<void(const Image&)> on_preview;
  // A stage ("text", "unet", "encode", "decode") of picture i of the pass gave NaN or infinity, and is done again in f32. Told
  // once for each, after a notice.
  std::function<void(size_t i, const std::string& stage)> on_redone;
  Notice on_notice = unheard;
  // When a pass fails after its steps: what it would have decoded, [pictures,h,w,C], scaled.
  std::function<void(std::span<const float> latents)> on_undecoded;
  const std::atomic<bool>* cancel = nullptr;  // looked at before every step: Error(cancelled)
};

// For checks: the draws and the schedule of a recorded run in place of the job's own, and a place for its inner values.
struct RunChecks {
  Draws* draws = nullptr;
  std::optional<ScheduleConfig> schedule;
  bool skip_positive_only = false;  // the reference leaves text layers out for the prompt, not for the negative one
  bool sparse_mask = false;         // the reference looks at one pixel of the mask for each latent one; we look at all
  Trace* trace = nullptr;
};

class FloatCopy;
struct FloatStep;

// The networks of a loaded model.
struct Networks {
  const ModelSpec& spec;
  std::span<const ClipTextEncoder> text_encoders;
  const UNet& unet;
  const Autoencoder& autoencoder;
  WeightStore& weights;
  const NewWords& new_words;
  TextCache& texts;
  std::span<const Control> controls;
  FloatCopy* in_float;          // null: there is none, as of random weights
  const Autoencoder* previews;  // decodes them; null: the model's own does
};

// What a pass starts from, on the host. Its pictures have the size that the job has.
struct Pass {
  // Which of the steps it takes: all, those before another model takes over (Job::refiner_start), or those from there on.
  enum class Part : uint8_t { all, before, after };
  std::vector<float> latents;                // [batch,h,w,C], scaled, in place of pictures; after: where the other stopped
  std::vector<float> pictures;               // [1 or batch,H,W,3] in [-1,1]; empty: it starts from words alone
  std::vector<float> mask;                   // [H,W] from 0, kept, to 1, made anew; empty: all of it is
  std::vector<std::vector<float>> controls;  // what each ControlNet sees, [H,W,3] in [0,1]
  Part part = Part::all;
  bool denoise = true;  // or `latents` are only decoded
  bool decode = true;   // or only the latents are wanted
};

class Painting {
 public:
  // One job a picture, which may share a pass (see pass_key). They are complete, their sizes are multiples of the autoencoder's
  // factor. Everything that can be refused is refused here.
  Painting(Ops&, const Networks&, const Tokenizer&, std::span<const Job> jobs, const Pass& pass, const RunHooks&,
           const RunChecks&);

  void run();  // all stages; in a rehearsal no value is real and nobody is told
  // After a real run: [batch,H,W,3] in about [-1,1], empty without decoding; and [batch,h,w,C], scaled
  const std::vector<float>& pixels() const { return pixels_; }
  const std::vector<float>& latents() const { return latents_; }

 private:
  // What the steps need beside the latent, each [batch,h,w,...] or empty.
  struct Given {
    Tensor noise;        // that the latent started with
    Tensor known, mask;  // the kept picture, and how much of each value is made anew
    Tensor extra;        // channels that follow the latent's
  };
  bool real() const { return !ops_.rehearsing(); }
  void tell(const std::string& stage, int steps = 0) const;
  void stop_if_cancelled() const;
  // Not from pure noise. A masked part that is made anew altogether starts from noise, as the reference has it.
  bool redraws_picture() const {
    return !(pass_.pictures.empty() && pass_.latents.empty()) && !takes_over() && !job_.edit &&
           (pass_.mask.empty() || *job_.strength < 1);
  }
  bool takes_over() const { return pass_.part == Pass::Part::after; }
  void take_part();
  size_t batch() const { return jobs_.size(); }
  const Guidance& guidance() const { return guidance_.front(); }  // its branches are those of all pictures
  size_t prompt_text() const { return guidance().branches[guidance().prompt].text; }
  bool is_negative(size_t text) const { return guidance().negative == text; }       // of one picture's texts
  size_t texts_each() const { return prompts_.front().branches.size() / batch(); }  // of a picture
  std::vector<float> shrunk_mask() const;                                           // [h,w]
  std::vector<float> first_noise();                                                 // a draw, varied where the job says so
  std::vector<uint64_t> seeds(bool of_variation) const;
  std::vector<float> draw();  // one draw of latents, as [batch,h,w,C]
  std::vector<TextStates> read_prompts();
  void chunk_texts(const Tokenizer&);
  std::vector<int> layers_left_out() const;  // of each text
  void trace_ids(const BranchChunks& text, const char* name) const;
  void trace_text(const TextStates& states) const;
  void trace_decoded() const;
  // What the encoder says of each of `pictures` [n,H,W,3]: [n,h,w,2C], mean and log variance; of a tiny one [n,h,w,C]
  std::vector<float> moments(std::span<const float> pictures);
  // The latents of all pictures of the batch, scaled: a sample of what the encoder says. [batch,h,w,C]
  Tensor sampled_latent(std::span<const float> pictures);
  Tensor mean_latent();   // the same, unscaled, without sampling: what an edit is shown
  Tensor masked_extra();  // what a network made for inpainting is shown: mask and masked picture, [batch,h,w,1+C]
  Tensor made_latent();
  std::vector<float> handed_over() const;
  Tensor start(Given& given);          // the first latent
  std::vector<Tensor> see_controls();  // what each ControlNet sees of its picture
  Tensor denoise(std::span<const TextStates> states, const Given& given, Tensor x);
  void keep_known(const Given& given, const StepInfo& step);
  void preview(const StepInfo& step);
  int64_t fitting_decodes() const;  // how many pictures
  void decode(View latent);
  void keep_decoded(std::vector<float> values, View scaled, size_t first);
  // What is not finite is done again in f32 (runtime/painting_finite.cc), for the pictures whose values it is.
  void mend_text(TextStates& states, const PromptChunks& prompt);
  void mend_step(const Tensor& clean, View latent, View extra, const FloatStep& step);
  void mend(std::span<float> values, const std::string& stage, std::span<const size_t> pictures,
            const std::function<std::vector<float>(FloatCopy&)>& again);
  FloatCopy& in_float(const std::string& stage, std::span<const size_t> pictures);
  void trace(const char* name, View x, bool append = false);

  Ops& ops_;
  const Networks& nets_;
  std::span<const Job> jobs_;
  const Job& job_;  // the first, for what is the same in all
  const Pass& pass_;
  const RunHooks& hooks_;
  const RunChecks& checks_;
  std::vector<Guidance> guidance_;  // of each picture
  ScheduleConfig config_;
  Schedule schedule_;
  std::vector<PromptChunks> prompts_;  // different ones during the run
  std::vector<size_t> prompt_at_;      // which of them a call of the network reads
  std::optional<TextReader> reader_;
  Shape latent_;                    // [batch,h,w,C]
  std::vector<float> latent_mask_;  // [h,w]; empty: no mask
  std::unique_ptr<Draws> draws_;    // of the real run, unless the checks bring their own
  std::vector<float> timesteps_;    // at which the network is called
  size_t calls_before_ = 0;         // of the model that this one takes over from
  int calls_ = 0;                   // of the network
  int64_t decodes_ = 1;             // pictures that are decoded at once; known from the rehearsal on
  std::vector<float> pixels_, latents_;
  std::set<std::pair<size_t, std::string>> redone_;  // pictures and stages
  bool no_preview_ = false;                          // was told
};

}  // namespace cudream
