// One run of a job, from words to pixels: the straight line that the engine first rehearses and then runs.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/spec.h"
#include "kernels/ops.h"
#include "nets/clip.h"
#include "nets/unet.h"
#include "nets/vae.h"
#include "runtime/conditioning.h"
#include "runtime/draws.h"
#include "runtime/job.h"
#include "runtime/predictor.h"
#include "runtime/tokenizer.h"
#include "runtime/trace.h"

namespace cudream {

// What a caller wants to hear, and may do, during a run. All may be empty.
struct RunHooks {
  std::function<void(const std::string& stage, int steps)> on_stage;  // steps 0: the stage counts none
  std::function<void(int done)> on_step;
  std::function<void(const std::string& notice)> on_notice;
  const std::atomic<bool>* cancel = nullptr;  // looked at before every step: Error(cancelled)
};

// For checks: the draws and the schedule of a recorded run in place of the job's own, and a place for its inner values.
struct RunChecks {
  Draws* draws = nullptr;
  std::optional<ScheduleConfig> schedule;
  bool skip_positive_only = false;  // the reference leaves text layers out for the prompt, not for the negative one
  Trace* trace = nullptr;
};

// The networks of a loaded model.
struct Networks {
  const ModelSpec& spec;
  std::span<const ClipTextEncoder> text_encoders;
  const UNet& unet;
  const Autoencoder& autoencoder;
  WeightStore& weights;
};

class Painting {
 public:
  // `job` is complete. Everything that can be refused is refused here: prompts are cut, the input picture is read.
  Painting(Ops&, const Networks&, const Tokenizer&, const Job& job, int batch, const RunHooks&, const RunChecks&);

  void run();  // all stages; in a rehearsal no value is real and nobody is told
  // After a real run: [batch,H,W,3] in about [-1,1]
  const std::vector<float>& pixels() const { return pixels_; }

 private:
  bool real() const { return !ops_.rehearsing(); }
  void tell(const std::string& stage, int steps = 0) const;
  void stop_if_cancelled() const;
  std::vector<float> draw();  // one draw of latents, as [batch,h,w,C]
  TextStates read_prompts();
  void trace_text(const TextStates& states) const;
  Tensor encode_image();  // the input picture as a latent, scaled; [batch,h,w,C]
  Tensor start();
  Tensor denoise(const TextStates& states, Tensor x);
  void decode(View latent);
  void trace(const char* name, View x, bool append = false);

  Ops& ops_;
  const Networks& nets_;
  const Job& job_;
  int batch_;
  const RunHooks& hooks_;
  const RunChecks& checks_;
  Guidance guidance_;
  ScheduleConfig config_;
  Schedule schedule_;
  PromptChunks prompts_;
  Shape latent_;                  // [batch,h,w,C]
  std::vector<float> image_;      // [H,W,3] in [-1,1]; empty: text to image
  std::unique_ptr<Draws> draws_;  // of the real run, unless the checks bring their own
  std::vector<float> timesteps_;  // at which the network is called
  int calls_ = 0;                 // of the network
  std::vector<float> pixels_;
};

}  // namespace cudream
