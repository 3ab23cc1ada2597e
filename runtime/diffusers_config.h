// Schedulers as diffusers writes them down: a class name and a scheduler_config.json.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "runtime/schedule.h"

namespace cudream {

// JSON as Python writes it: the bare words NaN, Infinity and -Infinity, which JSON does not have, become strings.
// `where` names the text in the message of Error(bad_file).
nlohmann::json parse_python_json(std::string_view text, std::string_view where);

// A key that is absent takes the default of the class. Error(unsupported) names a class or a value that this program does
// not have, Error(bad_file) a value of the wrong type.
ScheduleConfig from_diffusers(std::string_view class_name, const nlohmann::json& config, int steps);

}  // namespace cudream
