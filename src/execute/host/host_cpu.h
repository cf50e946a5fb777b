// What the host's CPU must have for a CPU model, whose instructions it executes.
#pragma once

#include "guest/cpu_model.h"

namespace deja {

// The host's, of kCpuFeatures.
bool host_has(const CpuFeature& feature);

// Fails for a model with features that are not in `host`, by the order of kCpuFeatures.
using HostFeatures = bool (*)(const CpuFeature& feature);
Status check_host_features(const CpuModel& model, HostFeatures host = host_has);

}  // namespace deja
